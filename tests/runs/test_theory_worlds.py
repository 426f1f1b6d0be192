"""The targets of the worlds: FoodShare (T7), DeepSea (T11), Corridor (T13)."""

import jax
import numpy as np
import pytest

from affect import Blend
from envs.worlds.theory.corridor import always_left_value, hitting_value
from runs.theory import corridor, deep_sea, food_share


@pytest.fixture(scope="module", autouse=True)
def without_key_check():
    with jax.debug_key_reuse(False):  # it takes a scan over keys split under vmap for a reuse
        yield


def test_food_share():
    rows = list(food_share.targets(smoke=True))
    assert [row.number for row in rows] == ["T7"] * 4
    assert all(row.passed for row in rows), rows


def test_fear_in_a_corridor_is_the_hitting_probability():
    rows = list(corridor.targets(smoke=True))
    assert [row.number for row in rows] == ["T13"] * 2
    assert all(row.passed for row in rows), rows


def test_fear_that_says_something_else_misses_its_target(monkeypatch):
    exact = np.stack([always_left_value(9, 0.9), hitting_value(9, 0.9)])[:, None]
    for error, passed in ((0.0, True), (0.021, False)):
        monkeypatch.setattr(corridor, "learned_fear", lambda *args, error=error: exact + error)
        assert [row.passed for row in corridor.targets(smoke=True)] == [passed] * 2


def test_curiosity_solves_a_deep_sea_and_chance_does_not():
    rows = list(deep_sea.targets(smoke=True))
    assert [row.number for row in rows] == ["T11"] * 2
    assert all(row.passed for row in rows), rows


def test_a_shallow_sea_is_solved_by_chance_and_the_counts_are_right():
    """The oracle of the counts: what is known is found sooner or later, and the other way round."""
    seen = deep_sea.run_dives(2, Blend(), seeds=4, episodes=300)
    assert seen.found.shape == seen.known.shape == (4, 300)
    assert seen.solved.any()
    first = seen.found.argmax(1)
    assert (first[seen.solved] + 1 == seen.episodes).all()
    assert (seen.known.any(1) == seen.found.any(1)).all()
    text = deep_sea.solved_text(seen)
    assert text.startswith(f"{seen.solved.sum()} of 4 seeds in 300 episodes, first found after")


def test_a_seed_that_knew_and_forgot_has_not_solved_it():
    known = np.ones((3, 100), bool)
    known[0, 50:], known[1, 91:93] = False, False
    seen = deep_sea.DiveResults(found=np.roll(known, 1, axis=1), known=known)
    assert seen.solved.tolist() == [False, False, True]
    none = deep_sea.DiveResults(~known & known, ~known & known)
    assert deep_sea.solved_text(none) == "0 of 3 seeds in 100 episodes"


@pytest.mark.slow
@pytest.mark.parametrize("module", [corridor, deep_sea, food_share], ids=lambda m: m.__name__)
def test_in_full(module):
    assert all(row.passed for row in module.targets(smoke=False))
