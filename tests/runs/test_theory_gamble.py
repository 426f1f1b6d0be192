"""T8 to T10: cards, people, models. What is known to fail is known to fail."""

import jax
import numpy as np
import pytest

from envs.worlds.theory.gamble import Params
from runs.theory import gamble
from tests.runs.small_study import without_key_check

unchecked = pytest.fixture(autouse=True)(without_key_check)
FAILS = (
    "blocks of PVL-Delta at the healthy median",  # T9: a median stands for no population
    "blocks of the same with lambda",
    "losses are not felt",  # T10: no early loss teaches whom no loss teaches
)


@pytest.fixture(scope="module")
def found():
    with jax.debug_key_reuse(False):
        return list(gamble.targets(smoke=True))


def fails_as_known(found):
    failed = [target.what for target in found if not target.passed]
    return [known in what for known, what in zip(FAILS, failed, strict=True)] == [True] * 3


def test_all_targets_are_met_but_three(found):
    assert [target.number for target in found] == ["T8"] * 3 + ["T9"] * 4 + ["T10"] * 2
    assert fails_as_known(found)


@pytest.mark.slow
def test_so_it_is_with_more_people():
    assert fails_as_known(gamble.targets(smoke=False))


def test_blocks_count_good_less_bad():
    choices = np.array([0] * 20 + [3] * 20 + [0, 2] * 10 + [1] * 5 + [2] * 15 + [3] * 20)
    np.testing.assert_array_equal(gamble.blocks(choices), [-20, 20, 0, 10, 20])
    np.testing.assert_array_equal(gamble.blocks(np.stack([choices, choices]))[1, 3], 10)


def test_a_slope_is_one_of_least_squares():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 5))
    fitted = [np.polyfit(np.arange(5), each, 1)[0] for each in scores]
    np.testing.assert_allclose(gamble.slope(scores), fitted)


def test_people_are_paired_and_differ():
    two = [gamble.simulate(gamble.INTACT, Params(), 50) for _ in range(2)]
    np.testing.assert_array_equal(*two)
    assert len(np.unique(two[0], axis=0)) > 40
    other = gamble.simulate(gamble.INTACT, Params(), 50, base=1)
    assert (two[0] != other).any()


def test_the_file_of_people_holds_the_published_curve():
    groups = gamble.human_blocks()
    healthy = groups["healthy_pool_100_trials"]
    np.testing.assert_allclose(
        gamble.group_curve("healthy_pool_100_trials"), [-2.97, 0.49, 2.41, 3.55, 4.14]
    )
    assert healthy["n"] == 504 and healthy["share_total_at_least_10"] == 0.44
    assert (gamble.PEOPLE.parent / "README.md").exists()
