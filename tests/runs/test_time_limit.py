"""At a time limit the successor is the true one, of a host and a jitted world: known advantages."""

from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from affect import Blend, Spec, Transition
from agents.gae import gae
from envs import load_suite
from envs.world import Env, reset_batch, rollout
from runs.engine.backend import make_backend
from runs.engine.phases import Phase, one_world
from tests.runs import small_study

LIMIT, STEPS, GAMMA = 5, 12, 0.9
no_key_check = pytest.fixture(autouse=True)(small_study.without_key_check)


class HostCounter(gymnasium.Env):
    """Observes the number of steps; pays 1 a step; truncated after LIMIT steps."""

    observation_space, action_space = spaces.Box(0, LIMIT, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.float32([self.steps]), 1.0, False, self.steps == LIMIT, {}


class JittedCounter(Env):
    """The same, jitted."""

    spec, obs_scale, horizon = Spec(obs_dim=1, num_actions=2), (1.0,), LIMIT

    def get_default_params(self, **kwargs):
        return ()

    def initial(self, rng, params):
        return jnp.zeros((1,))

    def transition(self, state, action, rng, params):
        return state + 1

    def observation(self, state, rng, params):
        return state

    def reward(self, state, action, next_state, rng, params):
        return jnp.ones(())

    def terminal(self, state, rng, params):
        return jnp.zeros((), bool)

    def success(self, total, length):
        return total > 0


def host_batch() -> Transition:
    suite = load_suite(HostCounter, [])
    config = replace(small_study.CONFIG, num_steps=STEPS)
    backend = make_backend(replace(suite.env, workers=0), config)
    phase = Phase(one_world(suite.world), 1, 1, config.agent, Blend())
    batches = backend.record_batches(backend.init(phase), phase, 1, lambda: False)
    backend.close()
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), batches)


def jitted_batch() -> Transition:
    suite = load_suite(JittedCounter, [])
    worlds = one_world(suite.world)
    start = reset_batch(jax.random.key(0), suite.env, worlds, 2)
    act = lambda key, obs: jnp.zeros(obs.shape[0], int)  # noqa: E731
    return rollout(jax.random.key(1), suite.env, worlds, act, start, STEPS)[1]


@pytest.mark.slow
@pytest.mark.parametrize("make_batch", [host_batch, jitted_batch])
def test_advantages_at_a_time_limit_are_those_computed_by_hand(make_batch):
    """With a trace of 1 and values equal to the number of steps."""
    batch = make_batch()
    time = np.arange(STEPS) % LIMIT
    np.testing.assert_array_equal(batch.obs[:, 0, 0], time)
    np.testing.assert_array_equal(batch.next_obs[:, 0, 0], time + 1)
    np.testing.assert_array_equal(batch.truncated[:, 0], time == LIMIT - 1)
    ends = batch.terminated, batch.truncated
    advantage = gae(
        batch.reward[..., None], batch.obs, batch.next_obs, *ends, jnp.array([GAMMA]), 1.0
    )
    # Returns by hand, backwards: 1 + .9 x 5 = 5.5, the value of the true successor being 5; then
    # 1 + .9 x 5.5 = 5.95, and so on. An advantage is the return less the value, the time.
    by_hand = [7.04755 - 0, 6.7195 - 1, 6.355 - 2, 5.95 - 3, 5.5 - 4]
    np.testing.assert_allclose(advantage[: 2 * LIMIT, 0, 0], 2 * by_hand, rtol=1e-5)
