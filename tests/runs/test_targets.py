"""The table of targets: which are run, what is printed and written, and modules that fail."""

import re
import sys
from types import ModuleType

import pytest

from runs import targets
from runs.targets import MODULES, main, module_targets
from runs.theory import Target
from tests.runs.small_study import without_key_check_in_threads

unchecked = pytest.fixture(autouse=True)(without_key_check_in_threads)
GOOD = Target("T7", "a | b", "1", "1.0 [.9, 1.1]", True)
BAD = Target("T8", "c", "2", "3", False)


def install_module(monkeypatch, name, fn):
    """Install a fake module of runs.theory whose targets function is fn."""
    fake = ModuleType(f"{targets.PACKAGE}.{name}")
    fake.targets = fn
    monkeypatch.setitem(sys.modules, fake.__name__, fake)


def test_every_target_has_one_module():
    numbers = [number for numbers in MODULES.values() for number in numbers]
    expected = {f"T{i}" for i in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 14, 15)}
    assert len(numbers) == len(set(numbers)) and set(numbers) == expected


def good_then_failure(smoke):
    yield GOOD
    raise ValueError("no\n  luck")


FAILURE = "failed: ValueError: no luck"


@pytest.mark.parametrize(
    ("fn", "numbers", "reasons"),
    [
        (lambda smoke: iter([GOOD, BAD]), ["T7", "T8"], {}),
        (lambda smoke: iter([GOOD, BAD]), ["T8"], {}),
        (lambda smoke: iter([GOOD]), ["T7", "T9"], {"T9": "yields no such target"}),
        (good_then_failure, ["T7", "T8"], {"T8": FAILURE}),
        (good_then_failure, ["T7"], {"T7": FAILURE}),
    ],
)
def test_a_module_yields_the_chosen_targets_and_a_failed_one_for_each_that_it_lacks(
    monkeypatch, fn, numbers, reasons
):
    install_module(monkeypatch, "one", fn)
    *rows, last = module_targets("one", numbers, smoke=False)
    assert set(numbers) == {target.number for target in [*rows, last]}
    for number, reason in reasons.items():
        assert last == Target(number, "runs/theory/one.py", "-", reason, False)


def test_a_missing_module_fails_all_of_its_targets():
    rows = list(module_targets("absent", ["T1", "T2"], smoke=False))
    assert [row.number for row in rows] == ["T1", "T2"]
    assert all(not row.passed and "No module named" in row.ours for row in rows)


@pytest.mark.parametrize(("second", "code"), [(BAD, 1), (GOOD, 0)])
def test_the_command_writes_the_table_and_exits_with_0_if_all_passed(
    monkeypatch, capsys, tmp_path, second, code
):
    install_module(monkeypatch, "one", lambda smoke: iter([second, GOOD]))
    monkeypatch.setattr(targets, "MODULES", {"one": ("T7", "T8") if code else ("T7",)})
    assert main(["--out", str(tmp_path)]) == code
    text = (tmp_path / "targets.md").read_text()
    out, progress = capsys.readouterr()
    assert text in out and "python -m runs.targets --out" in text and "machine" in text
    assert f"{2 - code} of 2 rows as they should be" in text
    rows = [re.split(r"\s+\|\s+", line.strip("| ")) for line in text.splitlines() if "| T" in line]
    assert rows[0][:5] == ["T7", r"a \| b", "1", "1.0 [.9, 1.1]", "yes"]
    assert rows[1][0] == second.number and rows[1][4] == ("NO" if code else "yes")
    assert all(re.fullmatch(r"\d+\.\d", row[5]) for row in rows)
    assert "T7 a | b: yes" in progress


def test_the_targets_of_one_number_are_run_alone(capsys, tmp_path):
    assert main(["--smoke", "--only", "T7", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "FoodShare" in out and "4 of 4 rows as they should be" in out
