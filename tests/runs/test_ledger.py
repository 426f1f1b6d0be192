"""The ledger: every tampering is named, and a crash is not taken for tampering."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs.errors import UserError
from runs.prereg import ledger
from runs.prereg.ledger import Looks, append_entry, count_looks, looks_text, problems, read_entries

ROOT = Path(__file__).parents[2]


def write_ledger(folder: Path, lines: int = 5) -> Path:
    path = folder / ledger.NAME
    for i in range(lines):
        append_entry(path, "dev", "suite", "plan", {"none": f"c{i}"}, 20, f"r{i}")
    return path


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def rewrite(path: Path, start: int, **fields) -> None:
    """Edit a line and recompute all hashes from there on, as a careful forger would."""
    entries = read_entries(path)
    entries[start] = entries[start]._replace(**fields)
    for i in range(start, len(entries)):
        previous = entries[i - 1].hash if i else ledger.GENESIS
        entry = entries[i]._replace(previous=previous)
        entries[i] = entry._replace(hash=ledger._hash(entry))
    path.write_text("".join(f"{ledger._text(entry)}\n" for entry in entries))


def test_appended_entries_are_read_back_and_chained(tmp_path):
    path = write_ledger(tmp_path)
    entries = read_entries(path)
    assert [entry.index for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.previous for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]
    assert entries[0].previous == ledger.GENESIS
    last = entries[-1]
    assert (last.split, last.suite, last.plan, last.seeds, last.result) == (
        *("dev", "suite", "plan", 20, "r4"),
    )
    assert last.checkpoints == {"none": "c4"}
    assert last.time.endswith("+00:00")
    assert problems(path) == []


def test_a_line_holds_the_commit_that_wrote_it(tmp_path, monkeypatch):
    commit, dirty = ledger.code_version()
    assert (commit is None) == (dirty is None)
    assert commit is None or len(commit) == 40
    entry = read_entries(write_ledger(tmp_path, 1))[0]
    assert (entry.commit, entry.dirty) == (commit, dirty)
    monkeypatch.setenv("PATH", str(tmp_path))  # no git here
    assert ledger.code_version.__wrapped__() == (None, None)


@pytest.mark.parametrize("line", [1, 3, 5])
@pytest.mark.parametrize("field", ["time", "split", "seeds", "result", "commit", "hash"])
@pytest.mark.parametrize("value", ["other", ["other"]])
def test_an_edited_line_is_named(line, field, value, tmp_path):
    path = write_ledger(tmp_path)
    lines = lines_of(path)
    lines[line - 1] = json.dumps(json.loads(lines[line - 1]) | {field: value}, sort_keys=True)
    path.write_text("".join(f"{text.strip()}\n" for text in lines))
    assert [problem.partition(":")[0] for problem in problems(path)] == [f"line {line} was edited"]
    assert count_looks([path]).dev in (4, 5)


@pytest.mark.parametrize("line", ["garbage", "3", "", "{}", '{"index": [], "checkpoints": 1}'])
def test_a_line_that_is_no_entry_is_named(line, tmp_path):
    path = write_ledger(tmp_path)
    path.write_text("".join([*lines_of(path)[:2], f"{line}\n", *lines_of(path)[3:]]))
    assert count_looks([path]) == Looks(4, 0)
    assert problems(path) == ["line 3 was edited: it does not match its own hash"]


@pytest.mark.parametrize(("deleted", "lines"), [((0,), "line 1"), ((1, 2), "lines 2 to 3")])
def test_deleted_lines_are_named(deleted, lines, tmp_path):
    path = write_ledger(tmp_path)
    path.write_text("".join(text for i, text in enumerate(lines_of(path)) if i not in deleted))
    assert problems(path) == [f"deleted: {lines}"]


@pytest.mark.parametrize(("kept", "lines"), [(4, "line 5"), (2, "lines 3 to 5"), (0, "lines 1 to")])
def test_a_cut_tail_is_named(kept, lines, tmp_path):
    path = write_ledger(tmp_path)
    path.write_text("".join(lines_of(path)[:kept]))
    (problem,) = problems(path)
    assert problem.startswith(f"cut from the end: {lines}")


def test_a_line_without_its_line_break_counts_as_cut(tmp_path):
    path = write_ledger(tmp_path)
    path.write_text(path.read_text()[:-1])
    assert problems(path) == ["cut from the end: line 5"]
    with pytest.raises(UserError, match="cut from the end"):
        append_entry(path, "dev", "suite", "plan", {}, 20, "r")
    assert len(lines_of(path)) == 5


def test_exchanged_lines_are_named(tmp_path):
    path = write_ledger(tmp_path)
    lines = lines_of(path)
    path.write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    assert any("stands where" in problem for problem in problems(path))


def test_a_line_with_a_recomputed_hash_breaks_the_chain(tmp_path):
    path = write_ledger(tmp_path)
    entries = read_entries(path)
    entry = entries[2]._replace(result="better")
    entries[2] = entry._replace(hash=ledger._hash(entry))
    path.write_text("".join(f"{ledger._text(entry)}\n" for entry in entries))
    assert problems(path) == ["the chain is broken between lines 3 and 4"]


@pytest.mark.parametrize("start", [0, 2, 4])
def test_a_recomputed_chain_does_not_match_the_counted_hash(start, tmp_path):
    path = write_ledger(tmp_path)
    rewrite(path, start, result="better")
    assert problems(path) == ["line 5 was rewritten: it is not the one that was counted"]


def test_forged_lines_and_a_missing_count_are_named(tmp_path):
    path, other = write_ledger(tmp_path, 2), write_ledger(tmp_path / "other", 5)
    path.write_text(other.read_text())
    assert problems(path) == ["lines 3 to 5 came from elsewhere: they were never counted"]
    path = write_ledger(tmp_path / "third")
    path.with_suffix(".head").unlink()
    (problem,) = problems(path)
    assert "ledger.head is missing" in problem


def test_a_deleted_ledger_differs_from_none_at_all(tmp_path):
    assert problems(tmp_path / ledger.NAME) == ["there is none"]
    path = write_ledger(tmp_path)
    path.unlink()
    assert problems(path) == ["it was deleted: lines 1 to 5"]
    with pytest.raises(UserError, match="deleted"):
        append_entry(path, "dev", "suite", "plan", {}, 20, "r")


@pytest.mark.parametrize("half", ['{"index": 6, "prev', "", '{"index": 6}'])
def test_a_half_written_line_is_repaired(half, tmp_path):
    path = write_ledger(tmp_path)
    with path.open("a") as file:
        file.write(half)
    assert problems(path) == []
    append_entry(path, "dev", "suite", "plan", {}, 20, "r5")
    assert problems(path) == []
    assert [entry.result for entry in read_entries(path)][-2:] == ["r4", "r5"]


def test_a_crash_before_the_count_was_written_loses_no_line(tmp_path, monkeypatch):
    path = write_ledger(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_write_head", lambda *_: None)
        append_entry(path, "dev", "suite", "plan", {}, 20, "r5")
    assert problems(path) == []
    append_entry(path, "dev", "suite", "plan", {}, 20, "r6")
    assert problems(path) == []
    assert len(read_entries(path)) == 7


KILLED = """
import itertools, pathlib, sys
from runs.prereg.ledger import append_entry
for i in itertools.count():
    append_entry(pathlib.Path(sys.argv[1]), "dev", "suite", "plan", {}, 20, str(i))
    print(i, flush=True)
"""


def test_no_appended_entry_is_lost_by_a_kill(tmp_path):
    path = tmp_path / ledger.NAME
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    last = [int(process.stdout.readline()) for _ in range(5)][-1]
    process.send_signal(signal.SIGKILL)
    later = process.communicate(timeout=20)[0].split()
    last = int(later[-1]) if later else last
    assert problems(path) == []
    append_entry(path, "dev", "suite", "plan", {}, 20, "after")
    assert problems(path) == []
    assert len(read_entries(path)) - 1 in (last + 1, last + 2)


def test_each_result_counts_as_one_look(tmp_path):
    path = tmp_path / "a" / ledger.NAME
    for result in ("one", "two", "one"):
        append_entry(path, "dev", "suite", "plan", {"none": "c"}, 20, result)
    append_entry(path, "train", "suite", "plan", {"none": "c"}, 20)
    append_entry(path, "sealed", "suite", "plan", {"none": "c"}, 20)
    append_entry(path, "sealed", "suite", "plan", {"none": "c"}, 20, "three")
    append_entry(path, "dev", "another suite", "plan", {"none": "c"}, 20, "four")
    assert count_looks([path]) == Looks(3, 1)
    assert count_looks([path], "suite") == Looks(2, 1)
    append_entry(tmp_path / "b" / ledger.NAME, "dev", "suite", "plan 2", {"none": "d"}, 20, "one")
    assert count_looks(ledger.neighbouring_ledgers(tmp_path / "a"), "suite") == Looks(3, 1)


def test_the_text_of_looks_holds_the_expected_optimism():
    assert looks_text(Looks(37, 1)) == (
        "dev looks 37, sealed looks 1; expected optimism of the best of 37: 2.1 standard errors"
    )
    assert looks_text(Looks(1, 0)) == "dev looks 1, sealed looks 0"
