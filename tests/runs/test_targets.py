"""The table of targets: what is run, what it prints, and what becomes of a module that fails."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from runs import targets
from runs.errors import UserError
from runs.targets import (
    MODULES,
    Row,
    Settings,
    check,
    main,
    record_table,
    run,
    table_row,
    totals_line,
)
from runs.theory.target import Target

ROOT = Path(__file__).resolve().parents[2]
GOOD = Target("T7", "a | b", "1", "1.0 [.9, 1.1]", True)
BAD = Target("T8", "c", "2", "3", False)


def module(monkeypatch, name, fn):
    """Puts a module of theory in place whose targets are those of fn."""
    fake = ModuleType(f"{targets.PACKAGE}.{name}")
    fake.targets = fn
    fake.__spec__ = ModuleType  # found, whatever it is
    monkeypatch.setitem(sys.modules, fake.__name__, fake)


def rows(modules, said=None, **settings):
    said = [] if said is None else said
    return [row.target for row in run(Settings(**settings), said.append, modules)]


def both(smoke):
    yield GOOD
    if not smoke:
        yield BAD


def test_every_target_of_the_science_has_a_module():
    numbers = [number for numbers in MODULES.values() for number in numbers]
    expected = {f"T{i}" for i in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 14, 15)}
    assert len(numbers) == len(set(numbers)) and set(numbers) == expected


def test_rows_come_as_they_are_computed_and_are_named(monkeypatch):
    module(monkeypatch, "one", both)
    said = []
    assert rows({"one": ("T7", "T8")}, said) == [GOOD, BAD]
    assert said == ["1/1  one: T7, T8 ..."]
    assert rows({"one": ("T7", "T8")}, smoke=True) == [GOOD]


def test_only_those_asked_for_are_run(monkeypatch):
    def never(smoke):
        raise AssertionError("not asked for")

    module(monkeypatch, "one", both)
    module(monkeypatch, "two", never)
    modules = {"one": ("T7", "T8"), "two": ("T9",)}
    assert rows(modules, only=("T8",)) == [BAD]
    assert [target.passed for target in rows(modules, only=("T9",))] == [False]


def test_a_module_that_is_missing_or_fails_is_a_row_that_says_so(monkeypatch):
    def half(smoke):
        yield GOOD
        raise ValueError("no\n  luck")

    module(monkeypatch, "half", half)
    absent, good, failed = rows({"absent": ("T1",), "half": ("T7", "T8")})
    assert good == GOOD
    assert (absent.number, absent.ours, absent.passed) == ("T1", "is missing", False)
    assert absent.what == "runs/theory/absent.py"
    assert (failed.number, failed.passed) == ("T8", False)
    assert failed.ours == "failed: ValueError: no luck"


def test_a_failure_after_the_last_row_is_a_row_too(monkeypatch):
    def late(smoke):
        yield GOOD
        raise ValueError("late")

    module(monkeypatch, "late", late)
    assert [target.passed for target in rows({"late": ("T7",)})] == [True, False]


def test_a_target_that_is_not_yielded_is_owed_by_the_whole_table_only(monkeypatch):
    module(monkeypatch, "one", both)
    owed = rows({"one": ("T7", "T8", "T9")})[-1]
    assert (owed.number, owed.ours, owed.passed) == ("T9", "yields no such target", False)
    assert rows({"one": ("T7", "T8", "T9")}, smoke=True) == [GOOD]


def test_seconds_are_those_of_each_row(monkeypatch):
    import time

    def slow(smoke):
        yield GOOD
        time.sleep(0.05)
        yield BAD

    module(monkeypatch, "slow", slow)
    first, second = run(Settings(), lambda line: None, {"slow": ("T7", "T8")})
    assert first.seconds < 0.05 <= second.seconds


@pytest.mark.parametrize(("second", "code"), [(BAD, 1), (GOOD, 0)])
def test_the_command_prints_the_table_and_its_exit_code_says_whether_all_passed(
    monkeypatch, capsys, second, code
):
    module(monkeypatch, "one", lambda smoke: iter([second, GOOD]))
    monkeypatch.setattr(targets, "MODULES", {"one": ("T7", "T8")})
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    assert main(["--smoke"]) == code
    out, err = capsys.readouterr()
    for word in ("target", "a | b", "1.0 [.9, 1.1]", "2 rows as they should be"):
        assert word in out
    assert code == 0 or out.index("T7") < out.index("T8")
    assert "1/1  one: T7, T8 ..." in err and "T7 a | b: yes" in err


def test_an_interrupt_says_that_nothing_was_written(monkeypatch, capsys):
    def interrupted(smoke):
        raise KeyboardInterrupt
        yield

    module(monkeypatch, "one", interrupted)
    monkeypatch.setattr(targets, "MODULES", {"one": ("T7",)})
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    assert main([]) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err


def test_the_record_holds_table_command_and_machine(tmp_path):
    table = [Row(GOOD, 1.24), Row(BAD, 0.0)]
    record_table(table, 61.6, {"machine": "a box"}, "python -m runs.targets --record", tmp_path)
    text = (tmp_path / "targets.md").read_text()
    assert r"| T7 | a \| b | 1 | 1.0 [.9, 1.1] | yes | 1.2 |" in text
    assert "| T8 | c | 2 | 3 | NO | 0.0 |" in text
    assert "1 of 2 rows as they should be, 62 s in all." in text
    assert "`python -m runs.targets --record`" in text and "machine a box" in text
    assert table_row(table[0])[1] == "a | b"
    assert totals_line(table, 1.0).startswith("1 of 2")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(only=("T99",)), "unknown target 'T99'"),
        (Settings(only=("t5",)), "did you mean T5"),
        (Settings(record=True, smoke=True), "leave --smoke out"),
        (Settings(record=True, only=("T5",)), "leave --only out"),
    ],
)
def test_bad_input_is_named(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        check(settings)


def test_the_command_runs_as_a_user_runs_it():
    command = [sys.executable, "-m", "runs.targets", "--smoke", "--only"]
    done = subprocess.run(command + ["T7"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "FoodShare" in done.stdout and "4 of 4 rows as they should be" in done.stdout
    done = subprocess.run(command + ["T6"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown target 'T6'")
    assert done.stderr.count("\n") == 1
