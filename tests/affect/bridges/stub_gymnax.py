"""Environments with the interfaces of gymnax 0.0.9 and of gymnax 1, and wrappers as PureJaxRL's."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Discrete:
    n, shape = 2, ()

    def sample(self, key):
        return jax.random.randint(key, (), 0, 2)


class Box:
    def __init__(self, low, high, shape):
        self.low, self.high, self.shape = low, high, shape

    def sample(self, key):
        return jax.random.uniform(key, self.shape, minval=self.low, maxval=self.high)


class Params(NamedTuple):
    """Parameters; `stop` is the position beyond which an episode is terminal."""

    max_steps_in_episode: int = 4
    stop: float = 2.5

    def replace(self, **changes):
        return self._replace(**changes)


class State(NamedTuple):
    place: jax.Array
    time: int


class Walk:
    """A walk by +-1 from a random position, with reward 1, as of gymnax 0.0.9."""

    default_params = Params()
    continuous = False

    @partial(jax.jit, static_argnames=("self",))
    def step(self, key, state, action, params=None):
        params = self.default_params if params is None else params
        k_step, k_reset = jax.random.split(key)
        obs_step, stepped, reward, done, info = self.step_env(k_step, state, action, params)
        obs_reset, begun = self.reset_env(k_reset, params)
        state = jax.tree.map(partial(jnp.where, done), begun, stepped)
        return jnp.where(done, obs_reset, obs_step), state, reward, done, info

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key, params=None):
        return self.reset_env(key, self.default_params if params is None else params)

    def step_env(self, key, state, action, params):
        noise = 0.1 * jax.random.normal(key)
        step = jnp.reshape(action, ()) if self.continuous else 2.0 * action - 1
        state = State(state.place + step + noise, state.time + 1)
        done = self.is_terminal(state, params)
        return self.get_obs(state), state, jnp.ones(()), done, {"discount": 1.0 - done}

    def reset_env(self, key, params):
        state = State(jax.random.normal(key), 0)
        return self.get_obs(state), state

    def get_obs(self, state):
        return jnp.stack([state.place, jnp.asarray(state.time, jnp.float32)])

    def is_terminal(self, state, params):
        return (jnp.abs(state.place) > params.stop) | (state.time >= params.max_steps_in_episode)

    def observation_space(self, params):
        return Box(-jnp.inf, jnp.inf, (2,))

    def action_space(self, params=None):
        return Box(-2.0, 2.0, (1,)) if self.continuous else Discrete()


class ContinuousWalk(Walk):
    continuous = True


class NewWalk(Walk):
    """The same with the results of gymnax 1."""

    @partial(jax.jit, static_argnames=("self",))
    def step(self, key, state, action, params=None):
        params = self.default_params if params is None else params
        k_step, _ = jax.random.split(key)
        last, ended, *_ = self.step_env(k_step, state, action, params)
        obs, state, reward, done, info = super().step(key, state, action, params)
        terminated = jnp.abs(ended.place) > params.stop
        info = {**info, "final_observation": last}
        return obs, state, reward, terminated, done & ~terminated, info


class Wrapper:
    def __init__(self, env):
        self._env = env

    def __getattr__(self, name):
        return getattr(self._env, name)


class FlattenObservationWrapper(Wrapper):
    @partial(jax.jit, static_argnums=(0,))
    def reset(self, key, params=None):
        obs, state = self._env.reset(key, params)
        return obs.reshape(-1), state

    @partial(jax.jit, static_argnums=(0,))
    def step(self, key, state, action, params=None):
        obs, *rest = self._env.step(key, state, action, params)
        return obs.reshape(-1), *rest


class LogState(NamedTuple):
    env_state: tuple
    episode_return: float


class LogWrapper(Wrapper):
    """Returns of episodes in `info`."""

    @partial(jax.jit, static_argnums=(0,))
    def reset(self, key, params=None):
        obs, state = self._env.reset(key, params)
        return obs, LogState(state, 0.0)

    @partial(jax.jit, static_argnums=(0,))
    def step(self, key, state, action, params=None):
        obs, inside, reward, done, info = self._env.step(key, state.env_state, action, params)
        total = state.episode_return + reward
        info["returned_episode_returns"] = total
        return obs, LogState(inside, total * (1 - done)), reward, done, info


def make(name):
    """An environment and its parameters."""
    return Walk(), Walk.default_params


def rollout(env, params, key, num_envs, steps):
    """A loop as in PureJaxRL's scripts: all environments under `vmap`, all steps in a scan.

    Returns:
        (last state, (obs, action, obs after, reward, done, info) [steps, num_envs, ...]).
    """
    k_reset, key = jax.random.split(key)
    reset_keys = jax.random.split(k_reset, num_envs)
    obs, state = jax.vmap(env.reset, in_axes=(0, None))(reset_keys, params)

    def env_step(runner, _):
        state, obs, key = runner
        key, k_action, k_step = jax.random.split(key, 3)
        sample = env.action_space(params).sample
        action = jax.vmap(sample)(jax.random.split(k_action, num_envs))
        step_keys = jax.random.split(k_step, num_envs)
        after, state, reward, *flags, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            step_keys, state, action, params
        )
        return (state, after, key), (obs, action, after, reward, flags, info)

    (state, *_), results = jax.lax.scan(env_step, (state, obs, key), None, steps)
    return state, results
