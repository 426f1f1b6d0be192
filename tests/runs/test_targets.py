"""The table of targets: which are run, what is printed and recorded, and modules that fail."""

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


def install_module(monkeypatch, name, fn):
    """Install a fake module of runs.theory whose targets function is fn."""
    fake = ModuleType(f"{targets.PACKAGE}.{name}")
    fake.targets = fn
    fake.__spec__ = ModuleType  # any object, so that the module counts as present
    monkeypatch.setitem(sys.modules, fake.__name__, fake)


def rows(modules, progress=None, **settings):
    progress = [] if progress is None else progress
    return [row.target for row in run(Settings(**settings), progress.append, modules)]


def good_and_bad(smoke):
    yield GOOD
    if not smoke:
        yield BAD


def test_every_target_has_one_module():
    numbers = [number for numbers in MODULES.values() for number in numbers]
    expected = {f"T{i}" for i in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 14, 15)}
    assert len(numbers) == len(set(numbers)) and set(numbers) == expected


def test_rows_are_yielded_as_computed_and_progress_is_reported(monkeypatch):
    install_module(monkeypatch, "one", good_and_bad)
    progress = []
    assert rows({"one": ("T7", "T8")}, progress) == [GOOD, BAD]
    assert progress == ["1/1  one: T7, T8 ..."]
    assert rows({"one": ("T7", "T8")}, smoke=True) == [GOOD]


def test_only_selected_targets_are_run(monkeypatch):
    def never(smoke):
        raise AssertionError("not selected")

    install_module(monkeypatch, "one", good_and_bad)
    install_module(monkeypatch, "two", never)
    modules = {"one": ("T7", "T8"), "two": ("T9",)}
    assert rows(modules, only=("T8",)) == [BAD]
    assert [target.passed for target in rows(modules, only=("T9",))] == [False]


def test_a_module_that_is_missing_or_fails_gives_a_failed_row(monkeypatch):
    def half_failing(smoke):
        yield GOOD
        raise ValueError("no\n  luck")

    install_module(monkeypatch, "half", half_failing)
    absent, good, failed = rows({"absent": ("T1",), "half": ("T7", "T8")})
    assert good == GOOD
    assert (absent.number, absent.ours, absent.passed) == ("T1", "is missing", False)
    assert absent.what == "runs/theory/absent.py"
    assert (failed.number, failed.passed) == ("T8", False)
    assert failed.ours == "failed: ValueError: no luck"


def test_a_failure_after_the_last_row_gives_a_failed_row(monkeypatch):
    def late(smoke):
        yield GOOD
        raise ValueError("late")

    install_module(monkeypatch, "late", late)
    assert [target.passed for target in rows({"late": ("T7",)})] == [True, False]


def test_a_target_that_is_not_yielded_fails_unless_smoke(monkeypatch):
    install_module(monkeypatch, "one", good_and_bad)
    missing = rows({"one": ("T7", "T8", "T9")})[-1]
    assert (missing.number, missing.ours, missing.passed) == ("T9", "yields no such target", False)
    assert rows({"one": ("T7", "T8", "T9")}, smoke=True) == [GOOD]


def test_seconds_are_those_of_each_row(monkeypatch):
    import time

    def slow(smoke):
        yield GOOD
        time.sleep(0.05)
        yield BAD

    install_module(monkeypatch, "slow", slow)
    first, second = run(Settings(), lambda line: None, {"slow": ("T7", "T8")})
    assert first.seconds < 0.05 <= second.seconds


@pytest.mark.parametrize(("second", "code"), [(BAD, 1), (GOOD, 0)])
def test_the_command_prints_the_table_and_exits_with_0_if_all_passed(
    monkeypatch, capsys, second, code
):
    install_module(monkeypatch, "one", lambda smoke: iter([second, GOOD]))
    monkeypatch.setattr(targets, "MODULES", {"one": ("T7", "T8")})
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    assert main(["--smoke"]) == code
    out, err = capsys.readouterr()
    for word in ("target", "a | b", "1.0 [.9, 1.1]", "2 rows as they should be"):
        assert word in out
    assert code == 0 or out.index("T7") < out.index("T8")
    assert "1/1  one: T7, T8 ..." in err and "T7 a | b: yes" in err


def test_an_interrupt_prints_that_nothing_was_written(monkeypatch, capsys):
    def interrupted(smoke):
        raise KeyboardInterrupt
        yield

    install_module(monkeypatch, "one", interrupted)
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
