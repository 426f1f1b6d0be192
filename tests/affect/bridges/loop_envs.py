"""Small environments, and what the signals of their steps must be, for the tests of bridges."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gymnasium import spaces

from affect import Curiosity, Fear, Head, Innate, Mood, Potential, Transition

GAMMA = 0.5


def position(batch):
    """The first number of `next_obs`."""
    return batch.next_obs[..., 0]


class Slope(Head):
    """w s' + (w s' of the step before) / 2 + the number of steps of all environments / 1000.

    s' is the first number of `next_obs`, and w is fitted to the reward: a head that is trained,
    carries something for each environment and something for all, and compiles in no time.
    """

    depends = ("obs",)

    def __init__(self, spec, *, rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), ()))

    def initial_state(self, num_envs):
        return jnp.zeros((num_envs,)), jnp.zeros(())

    def __call__(self, state, batch):
        value = jax.lax.stop_gradient(self.weight[...]) * position(batch)

        def step(state, inputs):
            last, number = state
            value, first = inputs
            number = number + value.shape[0]
            signal = value + jnp.where(first, 0.0, last / 2) + number / 1000
            return (value, number), signal

        state, signal = jax.lax.scan(step, state, (value, batch.first))
        return signal, state

    def loss(self, state, batch):
        error = jnp.square(self.weight[...] * position(batch) - batch.reward).mean()
        return error, {"error": error}


TINY = {"slope": (0.5, Slope), "phi": (1.0, Potential(Innate(position)))}
LEARNING = {"fear": (0.5, Potential(Fear)), "novelty": (0.1, Curiosity)}
SIMPLE = {"mood": (1.0, Mood(tau=4)), "phi": (1.0, Potential(Innate(position)))}


class Line(gymnasium.Env):
    """A walk from a random position, by +-1, of `length` steps with reward 1.

    Observed are the position and the steps so far, as `read` maps them.
    """

    metadata = {"render_modes": []}
    render_mode = None

    def __init__(self, length=3, end="terminated", space=None, read=None):
        self.length, self.end, self.read = length, end, read
        self.observation_space = space or spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.normal()), 0
        return self._obs(), {}

    def step(self, action):
        self.place, self.steps = self.place + 2.0 * int(action) - 1, self.steps + 1
        ended = self.steps == self.length
        flags = ended and self.end == "terminated", ended and self.end == "truncated"
        return self._obs(), 1.0, *flags, {"body": np.array([self.place])}

    def _obs(self):
        obs = np.array([self.place, self.steps], np.float32)
        return obs if self.read is None else self.read(obs)


def actions(steps, num_envs=1, seed=0):
    """Actions [steps, num_envs]."""
    return np.random.default_rng(seed).integers(0, 2, (steps, num_envs))


def updates(blend, spec, steps, key=None):
    """Signals [T, B, K] of transitions [B, ...] by `Blend.update` one by one, and the state."""
    key = jax.random.key(0) if key is None else key
    state, update = blend.init(key, spec, len(steps[0].reward)), jax.jit(blend.update)
    signals = []
    for step in steps:
        signal, state, _ = update(state, jax.tree.map(lambda leaf: leaf[None], step))
        signals.append(np.asarray(signal[0]))
    return np.stack(signals), state


def same(first, second):
    """Asserts that two arrays have the same shape and bits."""
    first, second = np.asarray(first), np.asarray(second)
    assert first.shape == second.shape and first.dtype == second.dtype
    np.testing.assert_array_equal(first, second)


def transition(obs, action, next_obs, reward, terminated, truncated, first):
    """Transition [B] of lists or arrays."""
    return Transition(
        np.asarray(obs, np.float32),
        np.asarray(action, np.int32),
        np.asarray(next_obs, np.float32),
        np.asarray(reward, np.float32),
        np.asarray(terminated, bool),
        np.asarray(truncated, bool),
        np.asarray(first, bool),
    )
