"""Advantages by branching equal the analytic ones of a random walk within the stated error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.suite import Suite
from envs.world import World
from envs.worlds.theory.corridor import Corridor, hitting_value
from runs.engine.episodes import record_episodes
from runs.engine.seeds import FAST_COMPILE
from runs.probes.advantage import branched_advantages, credit_assignment, delay_to_minimum

N, GAMMA, EPISODES = 5, 0.9, 32
ENV = Corridor(N, horizon=24)  # almost every walk ends earlier
SUITE = Suite(name="corridor", env=ENV, world=World(ENV.get_default_params()), shifts=())
WORLDS = SUITE.worlds(jax.random.key(0), 1)

# The right end pays 1: a value is the mirrored discounted probability of reaching it.
VALUE = hitting_value(N, GAMMA)[::-1] / GAMMA
VALUE[[0, -1]] = 0
AHEAD = np.array([0, *GAMMA * VALUE[2:-1], 1, 0])
BEHIND = np.array([0, *GAMMA * VALUE[:-2], 0])
GAIN = jnp.array(np.stack([BEHIND - VALUE, AHEAD - VALUE]), jnp.float32)  # [action, cell]


def walk(key, obs, right=0.5):
    """Choose right (1) with probability `right`, otherwise left (0)."""
    return jax.random.bernoulli(key, right, obs.shape[:-1]).astype(jnp.int32)


def branched_walk(key, right, rollouts, slip=0.0):
    """Advantages of a walk -> (estimates, their errors, values for right = 0.5, alive), arrays."""
    return map(np.asarray, jit_branched_walk(key, right, rollouts, slip))


@partial(jax.jit, static_argnames="rollouts", compiler_options=FAST_COMPILE)
def jit_branched_walk(key, right, rollouts, slip):
    world = jax.tree.map(lambda leaf: leaf[0], WORLDS)
    world = world._replace(params=world.params._replace(slip=jnp.full(1, slip)))
    act = partial(walk, right=right)
    k_record, k_branch = jax.random.split(key)
    env_states, batch, alive = record_episodes(
        act, ENV, world, jax.random.split(k_record, EPISODES)
    )
    estimates = branched_advantages(
        k_branch, ENV, act, env_states, batch.action, alive, rollouts, GAMMA
    )
    return *estimates, GAIN[batch.action, env_states.state], alive


def test_analytic_values_satisfy_the_bellman_equation():
    """The analytic values that the estimates are compared with satisfy the Bellman equation."""
    np.testing.assert_allclose(VALUE[1:-1], ((AHEAD + BEHIND) / 2)[1:-1], rtol=1e-6)


def test_advantages_match_the_analytic_ones_within_their_standard_error():
    advantage, errors, truth, alive = branched_walk(jax.random.key(1), 0.5, 64)
    deviation, error = (advantage - truth)[alive], errors[alive]
    assert len(deviation) > 100
    assert (error > 0).all()
    assert 0.7 < np.sqrt(np.mean(np.square(deviation / error))) < 1.3
    assert abs(np.mean(deviation / error)) < 4 / np.sqrt(len(deviation))
    assert not advantage[~alive].any()


@pytest.mark.slow
def test_error_shrinks_with_the_square_root_of_the_rollouts():
    deviation, error = {}, {}
    for rollouts in (16, 64):
        advantage, errors, truth, alive = branched_walk(jax.random.key(2), 0.5, rollouts)
        deviation[rollouts] = np.sqrt(np.mean(np.square((advantage - truth)[alive])))
        error[rollouts] = np.sqrt(np.mean(np.square(errors[alive])))
    assert error[16] / error[64] == pytest.approx(2, rel=0.15)
    assert deviation[16] / deviation[64] == pytest.approx(2, rel=0.25)


@pytest.mark.slow
def test_both_branches_share_their_random_numbers():
    """A deterministic policy has no advantage, even where the environment is stochastic."""
    advantage, error, _, alive = branched_walk(jax.random.key(1), 1.0, 16, 0.5)
    assert alive.sum(0).std() > 0
    assert not advantage.any() and not error.any()


def test_delay_counts_steps_to_the_lowest_value_in_the_window():
    signal = jnp.array([[0.0, -1, -3, -2, -9, 0], [5.0, 5, 5, 5, 5, 5]]).T
    alive = jnp.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).T.astype(bool)
    delay = delay_to_minimum(signal, alive, 3)
    assert delay[:4, 0].tolist() == [2, 1, 0, 0]
    assert delay[:, 1].tolist() == [0] * 6


def gain(batch):
    """Analytic advantage as a signal [T, B]."""
    return GAIN[batch.action, batch.obs.argmax(-1)]


SIGNALS = {
    "truth": gain,
    "opposite": lambda batch: -gain(batch),
    "late": lambda batch: jnp.roll(jnp.minimum(gain(batch), 0), 1, 0),
    "noise": lambda batch: jax.random.normal(jax.random.key(7), batch.reward.shape),
    "flat": lambda batch: jnp.zeros(batch.reward.shape),
}


@partial(jax.jit, compiler_options=FAST_COMPILE)
def measure_credit(key):
    return credit_assignment(SIGNALS, walk, ENV, WORLDS, key, 60, 32, GAMMA, window=4)


@pytest.mark.slow
def test_credit_ranks_signals_by_their_correlation_with_the_advantage():
    metrics = measure_credit(jax.random.key(3))
    metrics = {name: float(value[0]) for name, value in metrics.items()}
    assert metrics["truth/credit"] > 0.9
    assert metrics["opposite/credit"] == pytest.approx(-metrics["truth/credit"], abs=1e-5)
    assert abs(metrics["noise/credit"]) < 0.15
    assert np.isnan(metrics["flat/credit"])
    assert metrics["blunders"] > 30
    assert metrics["truth/delay"] < metrics["late/delay"]
    assert metrics["noise/delay"] == pytest.approx(metrics["chance"], abs=0.3)
    assert metrics["error"] < metrics["spread"]
