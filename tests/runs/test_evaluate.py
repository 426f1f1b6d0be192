"""Scoring is what a plain loop over steps would have counted."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec
from envs.cartpole import CartPole, Params
from envs.channel import Channel
from envs.shift import box, ramp, scale
from envs.suite import Suite
from envs.world import Env, World
from runs.harness.evaluate import evaluate

DRAWS, EPISODES = 2, 3


class Lean:
    """Pushes towards where the pole leans, so much ahead."""

    def act(self, state, key, obs):
        return (obs[..., 2] + state * obs[..., 3] > 0).astype(jnp.int32)


AGENT = Lean()
ENV = CartPole(horizon=40)
SUITE = Suite(
    name="small",
    env=ENV,
    world=World(Params()),
    shifts=(
        scale("force", "dynamics", "params.force", to=0.1),
        ramp("flip", "actuator", "channel.flip", to=0.8),
        box("box", "dynamics", "params", {"half_length": (0.25, 0.75)})
        | ramp("noise", "sensor", "channel.noise", to=0.5),
    ),
    severities=(0.5, 1.0),
)


@partial(jax.jit, static_argnames=("agent", "env", "episodes"))
def scored(state, worlds, seed, agent=AGENT, env=ENV, episodes=EPISODES):
    return evaluate(state, agent, env, worlds, jax.random.key(seed), episodes)


@jax.jit
def begin(key, world):
    return ENV.reset(jax.random.fold_in(key, ENV.horizon), world)


@jax.jit
def advance(key, time, life, state):
    action = AGENT.act(state, None, life.obs)
    return ENV.step(jax.random.fold_in(key, time), life, action)


def lived(key, world, state):
    """One episode in a plain loop -> (return, length, success, terminated, truncated)."""
    life, total = begin(key, world), 0.0
    for time in range(ENV.horizon):
        life, seen = advance(key, time, life, state)
        total += float(seen.reward)
        if seen.terminated or seen.truncated:
            break
    success = ENV.success(jnp.float32(total), jnp.float32(time + 1))
    return total, time + 1, success, seen.terminated, seen.truncated


def test_scores_are_those_of_a_plain_loop():
    worlds = SUITE.worlds(jax.random.key(1), DRAWS)
    state = jnp.float32(0.2)
    scores = scored(state, worlds, 0)
    keys = jax.random.split(jax.random.key(0), DRAWS * EPISODES).reshape(DRAWS, EPISODES)
    names = ("return", "length", "success", "terminated", "truncated")
    assert set(scores) == set(names)
    lengths = set()
    for p, _ in enumerate(SUITE.points()):
        episodes = []
        for d in range(DRAWS):
            world = jax.tree.map(lambda leaf, p=p, d=d: leaf[p, d], worlds)
            for e in range(EPISODES):
                episodes.append(lived(jax.random.clone(keys)[d, e], world, state))
        lengths |= {episode[1] for episode in episodes}
        means = np.mean(np.array(episodes, float), axis=0)
        np.testing.assert_allclose([scores[name][p] for name in names], means, rtol=1e-6)
    assert len(lengths) > 5 and max(lengths) == ENV.horizon  # some fell early, some did not


def test_every_point_and_agent_meets_the_same_episodes():
    home = SUITE.worlds(jax.random.key(1), DRAWS)
    twice = jax.tree.map(lambda leaf: leaf[jnp.array([0, 0, 0])], home)
    scores = scored(jnp.float32(0.0), twice, 0)
    assert all((score == score[0]).all() for score in scores.values())
    again, other = scored(jnp.float32(0.0), twice, 0), scored(jnp.float32(0.0), twice, 1)
    assert (scores["length"] == again["length"]).all()
    assert (scores["length"] != other["length"]).all()


def test_seeds_are_scored_as_one_by_one():
    worlds = SUITE.worlds(jax.random.key(1), DRAWS)
    states = jnp.array([0.0, 0.2, 1.0])
    together = jax.jit(
        jax.vmap(lambda state: evaluate(state, AGENT, ENV, worlds, jax.random.key(0), EPISODES))
    )(states)
    for i, state in enumerate(states):
        alone = scored(state, worlds, 0)
        for name, score in alone.items():
            np.testing.assert_allclose(together[name][i], score, rtol=1e-6)


class Payer(Env):
    """Pays a half a step, three times, and calls more than one a success."""

    class Params(NamedTuple):
        pay: jax.Array | float = 0.5

    spec = Spec(obs_dim=1, num_actions=2)
    obs_scale = (1.0,)
    horizon = 3

    def get_default_params(self, **kwargs):
        return self.Params(**kwargs)

    def initial(self, rng, params):
        return jnp.zeros((1,))

    def transition(self, state, action, rng, params):
        return state + 1

    def observation(self, state, rng, params):
        return state

    def reward(self, state, action, next_state, rng, params):
        return params.pay * jnp.ones(())

    def terminal(self, state, rng, params):
        return jnp.zeros((), bool)

    def success(self, total, length):
        return total > 1


class First:
    """Takes the first action."""

    def act(self, state, key, obs):
        return jnp.zeros(obs.shape[:-1], jnp.int32)


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_reward_noise_does_not_reach_the_score(noise):
    world = World(Payer.Params(), Channel(reward_noise=noise))
    worlds = jax.tree.map(lambda leaf: jnp.full((2, DRAWS), leaf), world)
    scores = scored(0.0, worlds, 0, agent=First(), env=Payer())
    np.testing.assert_array_equal(scores["return"], [1.5, 1.5])
    np.testing.assert_array_equal(scores["length"], [3.0, 3.0])
    np.testing.assert_array_equal(scores["success"], [1.0, 1.0])
    np.testing.assert_array_equal(scores["truncated"], [1.0, 1.0])
    np.testing.assert_array_equal(scores["terminated"], [0.0, 0.0])
