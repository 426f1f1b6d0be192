"""The ledger: every tampering is named, and a crash is not taken for tampering."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs.errors import UserError
from runs.prereg import ledger
from runs.prereg.ledger import (
    Look,
    Looks,
    append_entry,
    count_looks,
    looks_text,
    problems,
    read_entries,
)

ROOT = Path(__file__).parents[2]


def append(path: Path, result: str | None, split: str = "dev", suite: str = "suite") -> None:
    agents = "c" if split == "sealed" else f"c {result}"
    append_entry(path, Look(split, suite, "plan", {"none": agents}, 20, result))


@pytest.fixture
def path(tmp_path) -> Path:
    """A ledger of five lines."""
    path = tmp_path / ledger.NAME
    for i in range(5):
        append(path, f"r{i}")
    return path


def forge(lines: list[str], start: int, stop: int = 5) -> list[str]:
    """Edit a line and recompute the hashes of lines [start, stop), as a careful forger would."""
    entries = [ledger.Entry(**json.loads(line)) for line in lines]
    entries[start] = entries[start]._replace(result="better")
    for i in range(start, stop):
        previous = entries[i - 1].hash if i else ledger.GENESIS
        entry = entries[i]._replace(previous=previous)
        entries[i] = entry._replace(hash=ledger._hash(entry))
    return [f"{ledger._text(entry)}\n" for entry in entries]


def test_appended_entries_are_read_back_and_chained(path):
    entries = read_entries(path)
    assert [entry.index for entry in entries] == [1, 2, 3, 4, 5]
    previous = [entry.previous for entry in entries]
    assert previous == [ledger.GENESIS, *(entry.hash for entry in entries[:-1])]
    assert entries[-1][5:-1] == ("dev", "suite", "plan", {"none": "c r4"}, 20, "r4")
    assert entries[-1].time.endswith("+00:00")
    assert problems(path) == []


def test_an_entry_equal_to_the_last_of_its_kind_is_not_repeated(path):
    append(path, None, "train")
    lines = path.read_text()
    append(path, "r4")
    append(path, None, "train")
    assert path.read_text() == lines
    append(path, "r3")
    assert len(read_entries(path)) == 7


def test_another_result_of_the_same_agents_is_refused(path):
    lines = path.read_text()
    for split, result, refused in (
        ("dev", "r5", True),
        ("sealed", "s", False),
        ("dev", "r4", False),
    ):
        look = Look(split, "suite", "plan", {"none": "c r4"}, 20, result)
        if refused:
            with pytest.raises(UserError, match="what was entered is never replaced"):
                append_entry(path, look)
            assert path.read_text() == lines
        else:
            append_entry(path, look)
    append_entry(path, Look(ledger.FILES, "suite", "plan", {"none": "c r4"}, 20, "one"))
    append_entry(path, Look(ledger.FILES, "suite", "plan", {"none": "c r4"}, 20, "two"))
    assert problems(path) == []


def test_a_line_holds_the_commit_that_wrote_it(path, monkeypatch):
    commit, dirty = ledger.code_version()
    assert (commit is None) == (dirty is None)
    assert commit is None or len(commit) == 40
    assert read_entries(path)[0][3:5] == (commit, dirty)
    monkeypatch.setenv("PATH", str(path.parent))  # no git here
    assert ledger.code_version.__wrapped__() == (None, None)


@pytest.mark.parametrize("line", [1, 3, 5])
@pytest.mark.parametrize("field", ["time", "split", "seeds", "result", "commit", "hash"])
@pytest.mark.parametrize("value", ["other", ["other"]])
def test_an_edited_line_is_named(line, field, value, path):
    lines = path.read_text().splitlines()
    lines[line - 1] = json.dumps(json.loads(lines[line - 1]) | {field: value}, sort_keys=True)
    path.write_text("".join(f"{text}\n" for text in lines))
    assert problems(path) == [f"line {line} was edited: it does not match its own hash"]
    assert count_looks([path], "suite").dev in (4, 5)


EDITED = "line 3 was edited: it does not match its own hash"
REWRITTEN = "line 5 was rewritten: it is not the one that was counted"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda lines: lines[1:], "deleted: line 1"),
        (lambda lines: [lines[0], *lines[3:]], "deleted: lines 2 to 3"),
        (lambda lines: lines[:4], "cut from the end: line 5"),
        (lambda lines: [*lines[:4], lines[4].strip()], "cut from the end: line 5"),
        (lambda lines: lines[:2], "cut from the end: lines 3 to 5"),
        (lambda lines: [], "cut from the end: lines 1 to 5"),
        (lambda lines: [lines[i] for i in (0, 2, 1, 3, 4)], "line 2 stands where line 4 should be"),
        (lambda lines: [*lines[:2], "garbage\n", *lines[3:]], EDITED),
        (lambda lines: [*lines[:2], "3\n", *lines[3:]], EDITED),
        (lambda lines: [*lines[:2], "\n", *lines[3:]], EDITED),
        (lambda lines: [*lines[:2], '{"index": [], "checkpoints": 1}\n', *lines[3:]], EDITED),
        (lambda lines: [*lines[:2], "[" * 10**5 + "\n", *lines[3:]], EDITED),
        (lambda lines: forge(lines, 2, 3), "the chain is broken between lines 3 and 4"),
        (lambda lines: forge(lines, 0), REWRITTEN),
        (lambda lines: forge(lines, 4), REWRITTEN),
    ],
)
def test_tampering_is_named_and_nothing_is_added(change, named, path):
    tampered = "".join(change(path.read_text().splitlines(keepends=True)))
    path.write_text(tampered)
    assert named in problems(path)
    assert count_looks([path], "suite").dev <= 5
    with pytest.raises(UserError, match="nothing is added to it"):
        append(path, "r")
    assert path.read_text() == tampered


def test_forged_lines_and_a_missing_count_are_named(path, tmp_path):
    short = tmp_path / "short" / ledger.NAME
    for i in range(2):
        append(short, f"r{i}")
    short.write_text(path.read_text())
    assert problems(short) == ["lines 3 to 5 came from elsewhere: they were never counted"]
    path.with_suffix(".head").unlink()
    assert problems(path) == ["ledger.head is missing or unreadable: the end cannot be trusted"]


def test_a_deleted_ledger_differs_from_none_at_all(path, tmp_path):
    assert problems(tmp_path / "other" / ledger.NAME) == ["there is none"]
    path.unlink()
    assert problems(path) == ["it was deleted: lines 1 to 5"]
    with pytest.raises(UserError, match="deleted"):
        append(path, "r")


@pytest.mark.parametrize("half", ['{"index": 6, "prev', "", '{"index": 6}'])
def test_a_half_written_line_is_repaired(half, path):
    with path.open("a") as file:
        file.write(half)
    assert problems(path) == []
    append(path, "r5")
    assert problems(path) == []
    assert [entry.result for entry in read_entries(path)][-2:] == ["r4", "r5"]


def test_a_crash_before_the_count_was_written_loses_no_line(path):
    head = path.with_suffix(".head").read_text()
    append(path, "r5")
    path.with_suffix(".head").write_text(head)
    assert problems(path) == []
    append(path, "r6")
    assert problems(path) == []
    assert len(read_entries(path)) == 7


KILLED = """
import itertools, pathlib, sys
from runs.prereg.ledger import Look, append_entry
for i in itertools.count():
    look = Look("dev", "suite", "plan", {"none": str(i)}, 20, str(i))
    append_entry(pathlib.Path(sys.argv[1]), look)
    print(i, flush=True)
"""


def test_no_appended_entry_is_lost_by_a_kill(tmp_path):
    path = tmp_path / ledger.NAME
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    first = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGKILL)
    printed = [*first, *process.communicate(timeout=20)[0].splitlines()]
    assert problems(path) == []
    assert len(read_entries(path)) in (len(printed), len(printed) + 1)
    append(path, "after")
    assert problems(path) == []


def test_each_result_counts_as_one_look(tmp_path):
    path = tmp_path / ledger.NAME
    for result in ("one", "two", "one"):
        append(path, result)
    append(path, None, "train")
    append(path, None, "sealed")
    append(path, "three", "sealed")
    append(path, "four", suite="another suite")
    assert count_looks([path], "suite") == Looks(2, 1)
    assert count_looks([path], "another suite") == Looks(1, 0)
    beside = tmp_path / "beside" / ledger.NAME
    append_entry(beside, Look("dev", "suite", "plan 2", {"none": "d"}, 20, "one"))
    assert count_looks([path, beside], "suite") == Looks(3, 1)


def test_the_text_of_looks_holds_the_expected_optimism():
    assert looks_text(Looks(37, 1)) == (
        "dev looks 37, sealed looks 1; expected optimism of the best of 37: 2.1 standard errors"
    )
    assert looks_text(Looks(1, 0)) == "dev looks 1, sealed looks 0"
