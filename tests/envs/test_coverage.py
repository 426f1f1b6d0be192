"""Coverage table: a shift of several families counts in each of them."""

from dataclasses import replace

import pytest

from affect import Constant
from envs import load_suite
from envs.coverage import coverage_table, suite_coverage
from envs.shift import FAMILIES, ramp


@pytest.fixture(scope="module")
def rows():
    bare = load_suite("BoatRace")
    noise, two = (ramp(name, name, "channel.noise", 1.0) for name in ("sensor", "sensor|reward"))
    bare = replace(bare, name="Bare", shifts=(noise, two, noise | two), randomised=None)
    rich = replace(bare, name="Rich", shifts=(noise,), randomised=noise, innate=Constant)
    return suite_coverage(bare), suite_coverage(rich)


def test_a_shift_of_two_families_counts_in_both(rows):
    bare, rich = rows
    assert {family: n for family, n in bare.shifts.items() if n} == {"sensor": 3, "reward": 2}
    assert (bare.total, rich.total) == (3, 1)
    assert (bare.randomised, rich.randomised) == (False, True)
    assert (bare.innate, rich.innate) == (False, True)
    assert bare.info == ("hidden", "source")


def test_the_table_has_a_line_per_suite_the_sums_and_worlds_without_suite(rows):
    head, *lines, sums, empty, last = coverage_table(rows).splitlines()
    assert head.split() == ["suite", *FAMILIES, "shifts", "random", "innate", "info"]
    assert lines[0].split() == ["Bare", *"---3-2-3--", "hidden", "source"]
    assert lines[1].split() == ["Rich", *"---1---1", "yes", "yes", "hidden", "source"]
    assert sums.split() == list("00040204")
    assert empty == "" and last.startswith("worlds without a suite: Corridor, ")
    assert "Drive" not in last
