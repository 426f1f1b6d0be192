"""Append-only, hash-chained ledger of every evaluation ("look") of a study.

`ledger.jsonl` holds one line per event, with the hash of the line before it and its own hash.
`ledger.head` beside it holds the number of completed lines and the hash of the last one. It reveals
lines that were cut off at the end, and tells them from a line half written in a crash, which was
never counted. Tamper-evident, not tamper-proof: rewriting both files leaves no trace in them, only
in copies of the last hash kept elsewhere.
"""

import fcntl
import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runs.analysis import stats
from runs.errors import UserError

NAME = "ledger.jsonl"
GENESIS = "0" * 64  # previous hash of the first line


class Entry(NamedTuple):
    """One line of a ledger.

    Attributes:
        index: of the line, from 1.
        previous: hash of the line before.
        time: UTC.
        commit: of the code; None outside a checkout.
        dirty: whether the code differed from the commit.
        split: "train" for an entry without evaluation, otherwise the evaluated split: "dev" or
            "sealed".
        suite: hash of the suite.
        plan: hash of the plan.
        checkpoints: content hash of each arm's checkpoint; empty before training.
        seeds: training runs an arm.
        result: sha256 of the score file; None before scoring.
        hash: of all other fields.
    """

    index: int
    previous: str
    time: str
    commit: str | None
    dirty: bool | None
    split: str
    suite: str
    plan: str
    checkpoints: dict[str, str]
    seeds: int
    result: str | None
    hash: str = ""


class Looks(NamedTuple):
    """Number of different evaluation results on public (dev) and on sealed worlds."""

    dev: int
    sealed: int


def append_entry(
    path: Path,
    split: str,
    suite: str,
    plan: str,
    checkpoints: Mapping[str, str],
    seeds: int,
    result: str | None = None,
) -> Entry:
    """Append a line; it is on disk and counted in the head file when this returns.

    Raises:
        UserError: if the ledger was tampered with; nothing is added then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and not (_read_head(path) or (0,))[0]:
        _write_head(path, 0, GENESIS)
    elif damage := problems(path):
        raise UserError(f"{path}: {damage[0]}; nothing is added to it, start another study")
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        complete = _complete_lines(path)
        file.truncate(len(complete))  # a line half written in a crash was never counted
        entries = read_entries(path)
        index, previous = len(entries) + 1, entries[-1].hash if entries else GENESIS
        time = datetime.now(UTC).isoformat(timespec="seconds")
        hashes = dict(sorted(checkpoints.items()))
        entry = Entry(
            index, previous, time, *code_version(), split, suite, plan, hashes, int(seeds), result
        )
        entry = entry._replace(hash=_hash(entry))
        file.write(f"{_text(entry)}\n".encode())
        file.flush()
        os.fsync(file.fileno())
        _write_head(path, index, entry.hash)
    return entry


def read_entries(path: Path) -> list[Entry]:
    """Entries of a ledger, lines that cannot be parsed left out; check them with `problems`."""
    parsed = (_parse(line) for line in _complete_lines(path).decode(errors="replace").splitlines())
    return [entry for entry in parsed if entry is not None]


def problems(path: Path) -> list[str]:
    """Signs of tampering with a ledger, one line each; empty if it is intact."""
    head = _read_head(path)
    if not path.exists():
        had_lines = head is not None and head[0] > 0
        return [f"it was deleted: {_lines(1, head[0])}" if had_lines else "there is none"]
    problems, number, previous = [], 0, GENESIS
    for line in _complete_lines(path).decode(errors="replace").splitlines():
        number, entry = number + 1, _parse(line)
        if entry is None or line != _text(entry) or not _hash_matches(entry):
            problems.append(f"line {number} was edited: it does not match its own hash")
            previous = None
            continue
        if entry.index > number:
            problems.append(f"deleted: {_lines(number, entry.index - 1)}")
        elif entry.index < number:
            problems.append(f"line {entry.index} stands where line {number} should be")
        elif previous not in (None, entry.previous):
            problems.append(f"the chain is broken between lines {number - 1} and {number}")
        number, previous = entry.index, entry.hash
    return problems + _end_problems(head, number, read_entries(path))


def count_looks(paths: Iterable[Path], suite: str | None = None) -> Looks:
    """Count the different evaluation results in some ledgers.

    The same plan and checkpoints with the same result are one look, however often it was entered.
    A sealed draw is a look as soon as it is made, scored or not.

    Args:
        paths: of ledgers.
        suite: hash of the suite whose looks count; None counts all.
    """
    dev, sealed = set(), set()
    for entry in (entry for path in paths for entry in read_entries(path)):
        fields = entry.suite, entry.plan, *sorted(entry.checkpoints.items())
        if suite in (None, entry.suite):
            if entry.split == "dev" and entry.result is not None:
                dev.add((*fields, entry.result))
            elif entry.split == "sealed":
                sealed.add(fields)
    return Looks(len(dev), len(sealed))


def looks_text(looks: Looks) -> str:
    """Sentence with the number of looks and the optimism expected of the best of them by chance."""
    text = f"dev looks {looks.dev}, sealed looks {looks.sealed}"
    if looks.dev < 2:
        return text
    optimism = stats.optimism(looks.dev)
    return f"{text}; expected optimism of the best of {looks.dev}: {optimism:.1f} standard errors"


def neighbouring_ledgers(folder: Path) -> list[Path]:
    """Paths of the ledgers of a study and of those beside it, such as tuning studies."""
    return sorted(Path(folder).absolute().parent.glob(f"*/{NAME}"))


@functools.cache  # the imported code does not change
def code_version() -> tuple[str | None, bool | None]:
    """Commit of this checkout and whether files differ from it; (None, None) without git."""
    folder = Path(__file__).parent
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
            )
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if commit.returncode or changed.returncode:
        return None, None
    return commit.stdout.strip(), bool(changed.stdout.strip())


def _end_problems(head: tuple[int, str] | None, last: int, entries: Sequence[Entry]) -> list[str]:
    """Problems at the end of a ledger; a crash may leave one line more than was counted."""
    if head is None:
        return [
            f"{_head_path(Path(NAME)).name} is missing or unreadable: the end cannot be trusted"
        ]
    counted, sealed = head
    if last < counted:
        return [f"cut from the end: {_lines(last + 1, counted)}"]
    if last > counted + 1:
        return [f"{_lines(counted + 1, last)} came from elsewhere: they were never counted"]
    hashes = {0: GENESIS} | {entry.index: entry.hash for entry in entries if _hash_matches(entry)}
    if hashes.get(counted, sealed) != sealed:
        return [f"line {counted} was rewritten: it is not the one that was counted"]
    return []


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _complete_lines(path: Path) -> bytes:
    """Content of the file up to its last complete line."""
    if not path.exists():
        return b""
    lines, newline, _ = path.read_bytes().rpartition(b"\n")
    return lines + newline


def _parse(line: str) -> Entry | None:
    try:
        entry = Entry(**json.loads(line))
    except (TypeError, ValueError):
        return None
    fields = (entry.previous, entry.split, entry.suite, entry.plan, entry.result or "", entry.hash)
    valid = isinstance(entry.index, int) and isinstance(entry.checkpoints, dict)
    texts = (*fields, *entry.checkpoints.values()) if valid else (None,)
    return entry if all(isinstance(text, str) for text in texts) else None


def _text(entry: Entry) -> str:
    return json.dumps(entry._asdict(), sort_keys=True)


def _hash(entry: Entry) -> str:
    return hashlib.sha256(_text(entry._replace(hash="")).encode()).hexdigest()


def _hash_matches(entry: Entry) -> bool:
    return entry.hash == _hash(entry)


def _head_path(path: Path) -> Path:
    return path.with_suffix(".head")


def _read_head(path: Path) -> tuple[int, str] | None:
    """Number of completed lines and hash of the last, from the head file; None if unreadable."""
    try:
        count, sealed = _head_path(path).read_text().split()
        return int(count), sealed
    except (OSError, ValueError):
        return None


def _write_head(path: Path, count: int, sealed: str) -> None:
    """Write the number of completed lines and the hash of the last to the head file, atomically."""
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(f"{count} {sealed}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, _head_path(path))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
