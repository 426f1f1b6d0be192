"""Credit: the advantage by branching is the one that is known, within the error it states."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.suite import Suite
from envs.world import World
from envs.worlds.theory.corridor import Corridor, hitting_value
from runs.engine.train import FAST_COMPILE
from runs.probes.advantage import branched_advantages, credit_assignment, delay_to_minimum
from runs.probes.readouts import record_episodes

N, GAMMA, EPISODES = 5, 0.9, 48
ENV = Corridor(N, horizon=24)  # a walk is as good as never that long
SUITE = Suite(name="corridor", env=ENV, world=World(ENV.get_default_params()), shifts=())
WORLDS = SUITE.worlds(jax.random.key(0), 1)

# the right end pays 1: a value is a discounted chance of reaching it, seen in the mirror
VALUE = hitting_value(N, GAMMA)[::-1] / GAMMA
VALUE[[0, -1]] = 0
AHEAD = np.array([0, *GAMMA * VALUE[2:-1], 1, 0])
BEHIND = np.array([0, *GAMMA * VALUE[:-2], 0])
GAIN = jnp.array(np.stack([BEHIND - VALUE, AHEAD - VALUE]), jnp.float32)  # [action, cell]


def walk(key, obs, right=0.5):
    """Left or right, by a coin."""
    return jax.random.bernoulli(key, right, obs.shape[:-1]).astype(jnp.int32)


@partial(jax.jit, static_argnames="rollouts", compiler_options=FAST_COMPILE)
def branched(key, right, rollouts, slip=0.0):
    """Advantages of a walk -> (branches, what they are in truth if its coin is fair, alive)."""
    world = jax.tree.map(lambda leaf: leaf[0], WORLDS)
    world = world._replace(params=world.params._replace(slip=jnp.full(1, slip)))
    act = partial(walk, right=right)
    k_live, k_branch = jax.random.split(key)
    env_states, batch, alive = record_episodes(act, ENV, world, jax.random.split(k_live, EPISODES))
    found = branched_advantages(
        k_branch, ENV, act, env_states, batch.action, alive, rollouts, GAMMA
    )
    return found, GAIN[batch.action, env_states.state], alive


def test_the_bellman_equation_of_the_oracle():
    """So that what is compared with is right itself."""
    np.testing.assert_allclose(VALUE[1:-1], ((AHEAD + BEHIND) / 2)[1:-1], rtol=1e-6)


def test_the_advantage_is_the_known_one_within_its_error():
    found, truth, alive = branched(jax.random.key(1), 0.5, 144)
    alive = np.asarray(alive)
    off = np.asarray(found.advantage - truth)[alive]
    error = np.asarray(found.error)[alive]
    assert len(off) > 100
    assert (error > 0).all()
    assert 0.7 < np.sqrt(np.mean(np.square(off / error))) < 1.3
    assert abs(np.mean(off / error)) < 4 / np.sqrt(len(off))
    assert not np.asarray(found.advantage)[~alive].any()


def test_the_error_shrinks_with_the_root_of_the_rollouts():
    off, error = {}, {}
    for rollouts in (16, 144):
        found, truth, alive = branched(jax.random.key(2), 0.5, rollouts)
        alive = np.asarray(alive)
        off[rollouts] = np.sqrt(np.mean(np.square(np.asarray(found.advantage - truth)[alive])))
        error[rollouts] = np.sqrt(np.mean(np.square(np.asarray(found.error)[alive])))
    assert error[16] / error[144] == pytest.approx(3, rel=0.15)
    assert off[16] / off[144] == pytest.approx(3, rel=0.35)


def test_both_branches_meet_the_same_luck():
    """So a policy that does not draw has no advantage, however the world slips."""
    found, _, alive = branched(jax.random.key(1), 1.0, 16, 0.5)
    assert np.asarray(alive).sum(0).std() > 0
    assert not np.asarray(found.advantage).any()
    assert not np.asarray(found.error).any()


def test_delay_is_to_the_lowest_value_in_the_window():
    signal = jnp.array([[0.0, -1, -3, -2, -9, 0], [5.0, 5, 5, 5, 5, 5]]).T
    alive = jnp.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).T.astype(bool)
    found = delay_to_minimum(signal, alive, 3)
    assert found[:4, 0].tolist() == [2, 1, 0, 0]
    assert found[:, 1].tolist() == [0] * 6


def gain(batch):
    """The truth, as a signal."""
    return GAIN[batch.action, batch.obs.argmax(-1)]


SIGNALS = {
    "truth": gain,
    "opposite": lambda batch: -gain(batch),
    "late": lambda batch: jnp.roll(jnp.minimum(gain(batch), 0), 1, 0),
    "noise": lambda batch: jax.random.normal(jax.random.key(7), batch.reward.shape),
    "flat": lambda batch: jnp.zeros(batch.reward.shape),
}


@partial(jax.jit, compiler_options=FAST_COMPILE)
def credited(key):
    return credit_assignment(SIGNALS, walk, ENV, WORLDS, key, 60, 32, GAMMA, window=4)


def test_signals_are_ranked_by_the_credit_they_give():
    told = credited(jax.random.key(3))
    told = {name: float(value[0]) for name, value in told.items()}
    assert told["truth/credit"] > 0.9
    assert told["opposite/credit"] == pytest.approx(-told["truth/credit"], abs=1e-5)
    assert abs(told["noise/credit"]) < 0.15
    assert np.isnan(told["flat/credit"])
    assert told["blunders"] > 50
    assert told["truth/delay"] < told["late/delay"]
    assert told["noise/delay"] == pytest.approx(told["chance"], abs=0.3)
    assert told["error"] < told["spread"]
