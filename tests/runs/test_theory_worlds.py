"""Targets of DeepSea (T11), Corridor (T13) and exact control (T14); T7 is in `test_targets`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend
from envs.worlds.theory.corridor import always_left_value, hitting_value
from runs.theory import control, corridor, deep_sea, food_share
from tests.runs.small_study import without_key_check

unchecked = pytest.fixture(autouse=True)(without_key_check)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "number", "count"), [(corridor, "T13", 2), (deep_sea, "T11", 2), (control, "T14", 5)]
)
def test_targets_pass(module, number, count):
    rows = list(module.targets(smoke=True))
    assert [row.number for row in rows] == [number] * count
    assert all(row.passed for row in rows), rows


def test_a_fear_with_an_error_above_tolerance_fails_its_target(monkeypatch):
    exact = np.stack([always_left_value(9, 0.9), hitting_value(9, 0.9)])[:, None]
    for error, passed in ((0.0, True), (0.021, False)):
        monkeypatch.setattr(corridor, "learned_fear", lambda *args, error=error: exact + error)
        assert [row.passed for row in corridor.targets(smoke=True)] == [passed] * 2


@pytest.mark.slow
def test_a_shallow_sea_is_solved_at_random_and_the_counts_agree():
    """A seed knows the treasure at some time if and only if it found it."""
    results = deep_sea.run_dives(2, Blend(), seeds=4, episodes=300)
    assert results.reached.shape == results.known.shape == (4, 300)
    assert results.solved.any()
    first = results.reached.argmax(1)
    assert (first[results.solved] + 1 == results.episodes).all()
    assert (results.known.any(1) == results.reached.any(1)).all()
    text = deep_sea.solved_text(results)
    assert text.startswith(f"{results.solved.sum()} of 4 seeds in 300 episodes, first found after")


def test_a_seed_that_forgets_the_treasure_has_not_solved_the_sea():
    known = np.ones((3, 100), bool)
    known[0, 50:], known[1, 91:93] = False, False
    results = deep_sea.DiveResults(reached=np.roll(known, 1, axis=1), known=known)
    assert results.solved.tolist() == [False, False, True]
    unsolved = deep_sea.DiveResults(~known & known, ~known & known)
    assert deep_sea.solved_text(unsolved) == "0 of 3 seeds in 100 episodes"


@pytest.mark.slow
@pytest.mark.parametrize("module", [corridor, deep_sea, food_share], ids=lambda m: m.__name__)
def test_all_targets_pass_in_full(module):
    assert all(row.passed for row in module.targets(smoke=False))


@pytest.mark.slow
def test_a_lesioned_signal_has_no_channel_of_the_critic_and_paid_ones_have():
    keys = jax.random.split(jax.random.key(0), control.SEEDS)
    start, update = control.training_programs(control.HEADS)
    runs = update(start(keys, jnp.array((0.1, 0.1, 1.0))))
    out = runs.learner.agent.train_state.net.critic.out
    used = (out.kernel[...] != 0).any((0, 1)) | (out.bias[...] != 0).any(0)
    assert used.tolist() == 3 * [True] + 5 * [False]  # the task, two heads; the third is lesioned
