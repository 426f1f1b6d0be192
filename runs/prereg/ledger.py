"""Append-only, hash-chained ledger of every evaluation ("look") of a study.

`ledger.jsonl` holds one line per event, with the hash of the line before it and its own hash.
`ledger.head` beside it holds the number of completed lines and the hash of the last one. It reveals
lines that were cut off at the end, and tells them from a line half written in a crash, which was
never counted and is written again when the study is resumed. Nothing that was entered is replaced:
another result of the same plan and agents is refused. Tamper-evident, not tamper-proof: rewriting
both files leaves no trace in them, only in copies of the last hash kept elsewhere.
"""

import functools
import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runs.analysis import stats
from runs.errors import UserError
from runs.lock import append_file, replace_file

NAME = "ledger.jsonl"
GENESIS = "0" * 64  # previous hash of the first line
FILES = "files"  # split of the entries of a manifest
ABSENT = "there is none"  # the problem of a ledger that was never begun


class Entry(NamedTuple):
    """One line of a ledger.

    Attributes:
        index: of the line, from 1.
        previous: hash of the line before.
        time: UTC.
        commit: of the code; None outside a checkout.
        dirty: whether the code differed from the commit.
        split: "train" for an entry without evaluation, FILES for one of a manifest, otherwise the
            evaluated split: "dev" or "sealed".
        suite: hash of the suite.
        plan: hash of the plan.
        checkpoints: content hash of each arm's checkpoint; empty before training.
        seeds: training runs an arm.
        result: sha256 of the score file, or of the manifest; None before scoring.
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


class Look(NamedTuple):
    """What a line of a ledger says beside its place in the chain; fields as of `Entry`."""

    split: str
    suite: str
    plan: str
    checkpoints: Mapping[str, str]
    seeds: int
    result: str | None = None


class Looks(NamedTuple):
    """Number of different evaluation results on public (dev) and on sealed worlds."""

    dev: int
    sealed: int


def append_entry(path: Path, look: Look) -> Entry:
    """Append a line, unless the last of its kind is equal -> the line, on disk and counted.

    Lines are of one kind if their split is the same, and both or none have a result. Only one
    process may append at a time (`runs.lock.hold_lock`).

    Raises:
        UserError: if the ledger was tampered with; nothing is added then.
    """
    return append_entries(path, [look])[0]


def append_entries(path: Path, looks: Iterable[Look]) -> list[Entry]:
    """Append a line for each look, as `append_entry` does, and check the ledger once for all.

    Raises:
        UserError: if the ledger was tampered with, or a result of the same plan and checkpoints
            was entered before and differs; nothing is added then.
    """
    entries, looks = read_entries(path), list(looks)
    _refuse_other_results(path, entries, looks)
    last = {_kind(entry): entry for entry in entries}
    index, previous = len(entries), entries[-1].hash if entries else GENESIS
    appended, checked = [], False
    for look in looks:
        hashes = dict(sorted(look.checkpoints.items()))
        content = look._replace(checkpoints=hashes, seeds=int(look.seeds))._asdict()
        entry = last.get(_kind(look))
        if entry is None or entry != entry._replace(**content):
            time, (commit, dirty) = datetime.now(UTC).isoformat(timespec="seconds"), code_version()
            if not checked:
                _prepare(path)
                checked = True
            index += 1
            entry = Entry(index, previous, time, commit, dirty, **content)
            entry = entry._replace(hash=_hash(entry))
            append_file(path, f"{_text(entry)}\n")
            replace_file(_head_path(path), f"{index} {entry.hash}\n")
            previous, last[_kind(look)] = entry.hash, entry
        appended.append(entry)
    return appended


def _refuse_other_results(path: Path, entries: Iterable[Entry], looks: Iterable[Look]) -> None:
    """Raise a UserError for a result other than one that was entered for the same agents."""
    entered: dict[tuple, Entry | Look] = {}
    for line in (*entries, *looks):
        if line.result is None or line.split == FILES:
            continue
        key = line.split, line.suite, line.plan, *sorted(line.checkpoints.items())
        if entered.setdefault(key, line).result != line.result and isinstance(line, Look):
            raise UserError(
                f"{path}: another result of the same agents on the {line.split} worlds was entered "
                "before, and what was entered is never replaced: restore that result, or start "
                "another study"
            )


def _kind(entry: "Entry | Look") -> tuple[str, bool]:
    """Kind of a line: its split, and whether it has no result."""
    return entry.split, entry.result is None


def _prepare(path: Path) -> None:
    """Make a ledger ready for lines: begin it, or cut a line half written, which never counted.

    Raises:
        UserError: if the ledger was tampered with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    damage = problems(path)
    if damage == [ABSENT]:
        replace_file(_head_path(path), f"0 {GENESIS}\n")
    elif damage:
        raise UserError(f"{path}: {damage[0]}; nothing is added to it, start another study")
    with path.open("a+b") as file:
        file.truncate(len(_complete_lines(path)))


def read_entries(path: Path) -> list[Entry]:
    """Entries of a ledger, lines that cannot be parsed left out; check them with `problems`.

    A ledger that cannot be read has none.
    """
    try:
        lines = _lines(path)
    except OSError:
        return []
    return [entry for line in lines if (entry := _parse(line)) is not None]


def is_readable(path: Path) -> bool:
    """Whether a ledger can be read, with every complete line of it."""
    try:
        return all(map(_parse, _lines(path)))
    except OSError:
        return False


def problems(path: Path) -> list[str]:
    """Signs of tampering with a ledger, one line each; empty if it is intact."""
    head = _read_head(path)
    if not path.exists():
        return [f"it was deleted: {_span(1, head[0])}" if head and head[0] > 0 else ABSENT]
    signs, number, previous, hashes = [], 0, GENESIS, {0: GENESIS}
    try:
        lines = _lines(path)
    except OSError as error:
        return [f"it cannot be read: {error.strerror}"]
    for line in lines:
        number, entry = number + 1, _parse(line)
        if entry is None or line != _text(entry) or entry.hash != _hash(entry):
            signs.append(f"line {number} was edited: it does not match its own hash")
            previous = None
            continue
        if entry.index > number:
            signs.append(f"deleted: {_span(number, entry.index - 1)}")
        elif entry.index < number:
            signs.append(f"line {entry.index} stands where line {number} should be")
        elif previous not in (None, entry.previous):
            signs.append(f"the chain is broken between lines {number - 1} and {number}")
        number, previous = entry.index, entry.hash
        hashes[number] = previous
    if head is None:
        end = f"{_head_path(path).name} is missing or unreadable: the end cannot be trusted"
    elif number < (counted := head[0]):
        end = f"cut from the end: {_span(number + 1, counted)}"
    elif number > counted + 1:  # a crash may leave one line more than was counted
        end = f"{_span(counted + 1, number)} came from elsewhere: they were never counted"
    elif hashes.get(counted, head[1]) != head[1]:
        end = f"line {counted} was rewritten: it is not the one that was counted"
    else:
        return signs
    return [*signs, end]


def count_looks(paths: Iterable[Path], suite: str) -> Looks:
    """Count the different evaluation results of a suite, given by its hash, in some ledgers.

    The same plan and checkpoints with the same result are one look, however often it was entered.
    A sealed draw is a look as soon as it is made, scored or not.
    """
    dev, sealed = set(), set()
    for entry in (entry for path in paths for entry in read_entries(path)):
        fields = entry.plan, *sorted(entry.checkpoints.items())
        if entry.suite == suite and entry.split == "dev" and entry.result is not None:
            dev.add((*fields, entry.result))
        elif entry.suite == suite and entry.split == "sealed":
            sealed.add(fields)
    return Looks(len(dev), len(sealed))


def looks_text(looks: Looks) -> str:
    """Sentence with the number of looks and the optimism expected of the best of them by chance."""
    text = f"dev looks {looks.dev}, sealed looks {looks.sealed}"
    if looks.dev < 2:
        return text
    optimism = stats.optimism(looks.dev)
    return f"{text}; expected optimism of the best of {looks.dev}: {optimism:.1f} standard errors"


@functools.cache  # the imported code does not change
def code_version() -> tuple[str | None, bool | None]:
    """Commit of this checkout and whether files differ from it; (None, None) without git."""
    command = ["git", "-C", str(Path(__file__).parent), "status", "--porcelain=v2", "--branch"]
    try:
        git = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None, None
    lines = git.stdout.splitlines()
    commit = next(line.split()[2] for line in lines if line.startswith("# branch.oid "))
    if commit == "(initial)":  # a repository without a commit
        return None, None
    return commit, any(not line.startswith("# ") for line in lines)


def _span(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _complete_lines(path: Path) -> bytes:
    """Content of the file up to its last complete line."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def _lines(path: Path) -> list[str]:
    return _complete_lines(path).decode(errors="replace").splitlines()


def _parse(line: str) -> Entry | None:
    try:
        entry = Entry(**json.loads(line))
    except (TypeError, ValueError, RecursionError):
        return None
    if not (isinstance(entry.index, int) and isinstance(entry.checkpoints, dict)):
        return None
    fields = entry.previous, entry.time, entry.split, entry.suite, entry.plan, entry.hash
    texts = *fields, entry.commit or "", entry.result or "", *entry.checkpoints.values()
    return entry if all(isinstance(text, str) for text in texts) else None


def _text(entry: Entry) -> str:
    return json.dumps(entry._asdict(), sort_keys=True)


def _hash(entry: Entry) -> str:
    return hashlib.sha256(_text(entry._replace(hash="")).encode()).hexdigest()


def _head_path(path: Path) -> Path:
    return path.with_suffix(".head")


def _read_head(path: Path) -> tuple[int, str] | None:
    """Number of completed lines and hash of the last, from the head file; None if unreadable."""
    try:
        count, last_hash = _head_path(path).read_text().split()
        return int(count), last_hash
    except (OSError, ValueError):
        return None
