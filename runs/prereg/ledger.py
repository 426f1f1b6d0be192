"""Who looked at what, and when: an append-only file in which every line seals the one before it.

`ledger.jsonl` holds a line an event; each carries the hash of the line before it and its own.
`ledger.head` beside it says how many lines were completed and the hash of the last, so that a tail
cut off is seen, and a line that a crash left half written is told from one that was cut: the first
was never counted. Tamper-evident, not tamper-proof: who rewrites both files leaves no trace in
them, only in the copies of the last hash that others hold.
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
GENESIS = "0" * 64  # what the first line follows


class Entry(NamedTuple):
    """A line.

    Attributes:
        index: of the line, from 1.
        previous: hash of the line before.
        time: UTC.
        commit: of the code; None outside a checkout.
        dirty: whether the code differed from it.
        split: "train" where nothing was looked at, or what was: "dev" or "sealed".
        suite: hash of the suite.
        plan: hash of the plan.
        checkpoints: content hash of each arm's; none before training.
        seeds: training runs an arm.
        result: sha256 of the score file; None where nothing was scored yet.
        hash: of all of this.
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
    """How often something was looked at: different results of public and of sealed worlds."""

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
    """Adds a line for good: it is on the disk, and counted, before this returns.

    Raises:
        UserError: if the ledger was tampered with: nothing is added to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and not (_head(path) or (0,))[0]:
        _mark(path, 0, GENESIS)
    elif wrong := problems(path):
        raise UserError(f"{path}: {wrong[0]}; nothing is added to it, start another study")
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = _whole(path)
        file.truncate(len(whole))  # a line half written by a crash was never counted
        before = read_entries(path)
        index, previous = len(before) + 1, before[-1].hash if before else GENESIS
        time = datetime.now(UTC).isoformat(timespec="seconds")
        known = dict(sorted(checkpoints.items()))
        entry = Entry(
            index, previous, time, *code_version(), split, suite, plan, known, int(seeds), result
        )
        entry = entry._replace(hash=_hash(entry))
        file.write(f"{_text(entry)}\n".encode())
        file.flush()
        os.fsync(file.fileno())
        _mark(path, index, entry.hash)
    return entry


def read_entries(path: Path) -> list[Entry]:
    """The lines that are lines of a ledger; what they are worth, `problems` says."""
    found = (_parse(line) for line in _whole(path).decode(errors="replace").splitlines())
    return [entry for entry in found if entry is not None]


def problems(path: Path) -> list[str]:
    """Whatever was done to a ledger since it was written, one line each; none if it is whole."""
    head = _head(path)
    if not path.exists():
        there_was = head is not None and head[0] > 0
        return [f"it was deleted: {_lines(1, head[0])}" if there_was else "there is none"]
    found, number, previous = [], 0, GENESIS
    for line in _whole(path).decode(errors="replace").splitlines():
        number, entry = number + 1, _parse(line)
        if entry is None or line != _text(entry) or not _is_whole(entry):
            found.append(f"line {number} was edited: it does not match its own hash")
            previous = None
            continue
        if entry.index > number:
            found.append(f"deleted: {_lines(number, entry.index - 1)}")
        elif entry.index < number:
            found.append(f"line {entry.index} stands where line {number} should be")
        elif previous not in (None, entry.previous):
            found.append(f"the chain is broken between lines {number - 1} and {number}")
        number, previous = entry.index, entry.hash
    return found + _tail(head, number, read_entries(path))


def count_looks(paths: Iterable[Path], suite: str | None = None) -> Looks:
    """Different results that were seen, according to some ledgers.

    The same plan and checkpoints with the same result are one look however often it was written
    down. A sealed draw is a look from the moment it is made, scored or not.

    Args:
        paths: of ledgers.
        suite: hash of the suite whose looks count; None counts all.
    """
    dev, sealed = set(), set()
    for entry in (entry for path in paths for entry in read_entries(path)):
        what = entry.suite, entry.plan, *sorted(entry.checkpoints.items())
        if suite in (None, entry.suite):
            if entry.split == "dev" and entry.result is not None:
                dev.add((*what, entry.result))
            elif entry.split == "sealed":
                sealed.add(what)
    return Looks(len(dev), len(sealed))


def looks_text(looked: Looks) -> str:
    """How much was looked at, and what choosing the best of so many buys by luck alone."""
    said = f"dev looks {looked.dev}, sealed looks {looked.sealed}"
    if looked.dev < 2:
        return said
    luck = stats.optimism(looked.dev)
    return f"{said}; expected optimism of the best of {looked.dev}: {luck:.1f} standard errors"


def neighbouring_ledgers(folder: Path) -> list[Path]:
    """The ledgers of a study and of those that lie beside it: who tunes makes many studies."""
    return sorted(Path(folder).absolute().parent.glob(f"*/{NAME}"))


@functools.cache  # what this process has imported does not change under it
def code_version() -> tuple[str | None, bool | None]:
    """The commit of this checkout and whether files differ from it; None where git has no say."""
    here = Path(__file__).parent
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=20
            )
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if commit.returncode or changed.returncode:
        return None, None
    return commit.stdout.strip(), bool(changed.stdout.strip())


def _tail(head: tuple[int, str] | None, last: int, entries: Sequence[Entry]) -> list[str]:
    """What is wrong with the end; a crash may leave one line more than were counted."""
    if head is None:
        return [f"{_head_of(Path(NAME)).name} is missing or unreadable: the end cannot be trusted"]
    counted, sealed = head
    if last < counted:
        return [f"cut from the end: {_lines(last + 1, counted)}"]
    if last > counted + 1:
        return [f"{_lines(counted + 1, last)} came from elsewhere: they were never counted"]
    at = {0: GENESIS} | {entry.index: entry.hash for entry in entries if _is_whole(entry)}
    if at.get(counted, sealed) != sealed:
        return [f"line {counted} was rewritten: it is not the one that was counted"]
    return []


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _whole(path: Path) -> bytes:
    """The file up to its last complete line."""
    if not path.exists():
        return b""
    lines, newline, _ = path.read_bytes().rpartition(b"\n")
    return lines + newline


def _parse(line: str) -> Entry | None:
    try:
        entry = Entry(**json.loads(line))
    except (TypeError, ValueError):
        return None
    words = (entry.previous, entry.split, entry.suite, entry.plan, entry.result or "", entry.hash)
    proper = isinstance(entry.index, int) and isinstance(entry.checkpoints, dict)
    texts = (*words, *entry.checkpoints.values()) if proper else (None,)
    return entry if all(isinstance(text, str) for text in texts) else None


def _text(entry: Entry) -> str:
    return json.dumps(entry._asdict(), sort_keys=True)


def _hash(entry: Entry) -> str:
    return hashlib.sha256(_text(entry._replace(hash="")).encode()).hexdigest()


def _is_whole(entry: Entry) -> bool:
    return entry.hash == _hash(entry)


def _head_of(path: Path) -> Path:
    return path.with_suffix(".head")


def _head(path: Path) -> tuple[int, str] | None:
    """How many lines were completed and the hash of the last; None where nothing says so."""
    try:
        count, sealed = _head_of(path).read_text().split()
        return int(count), sealed
    except (OSError, ValueError):
        return None


def _mark(path: Path, count: int, sealed: str) -> None:
    """Counts a line, all of it or nothing."""
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(f"{count} {sealed}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, _head_of(path))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
