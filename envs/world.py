"""Base of jitted worlds: reset, step, and the loop over steps (`rollout`) with auto-reset."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv

from affect import Spec, Transition
from affect.observation import Parts, join, split
from envs import channel as channels
from envs.channel import Channel


class ScheduledParams(NamedTuple):
    """Params and channel that a world changes to in mid-episode (`envs.schedule.Schedule`).

    Attributes:
        params, channel: as those of the world.
        onset: [] int32, the first step that is changed, counted from 0.
        ramp: [] int32, steps from the first changed one to the first of the full change.
    """

    params: Any
    channel: Channel | None
    onset: jax.Array | int
    ramp: jax.Array | int


class World(NamedTuple):
    """Parameters of one environment; a pytree, so worlds can be stacked and `vmap`ped.

    Attributes:
        params: the world's physics.
        channel: disturbances of observations, actions and rewards; None where there are none.
        scheduled: what both change to within an episode; None where they are constant.
    """

    params: Any
    channel: Channel | None = None
    scheduled: ScheduledParams | None = None


class EnvState(NamedTuple):
    """State of one environment within an episode.

    Attributes:
        world: parameters of the episode.
        state: true state of the world.
        obs: [D] the last observation, with the disturbances of the channel.
        queue: the last chosen actions, as the channel keeps them; None without a channel.
        time: [] int32, steps executed.
    """

    world: World
    state: Any
    obs: jax.Array
    queue: jax.Array | None
    time: jax.Array


class Env(FuncEnv):
    """Worlds of equal shapes: gymnasium's functional protocol with traced `params`.

    A subclass defines `get_default_params`, `initial`, `transition`, `observation`, `reward`,
    `terminal` and, optionally, `transition_info`, `success` and `render_image`; `spec`, `horizon`
    and `obs_scale` are constants. If `spec.masked` it defines `action_mask`. If `spec.image`, its
    observation is the image [H, W, C] uint8, or a pair of that and of numbers [obs_dim].

    Attributes:
        spec: shapes of observation and action.
        horizon: steps after which an episode is truncated.
        obs_scale: [obs_dim] the unit of each number of an observation, for sensor noise.
        reset_pool_size: for worlds with an expensive reset, number of initial states that `rollout`
            computes beforehand and draws its resets from; 0 resets at every step, used or not.
    """

    spec: Spec
    horizon: int
    obs_scale: tuple[float, ...]
    reset_pool_size: int = 0

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether episodes of this return and length are successes, bool [...].

        A world that cannot tell from these reports `info["success"]`; the last step of an episode
        must then satisfy both.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement success(total, length)")

    def action_mask(self, state: Any, params: Any) -> jax.Array:
        """Which actions are allowed in a state, bool [n], of several choices one after another.

        At least one of each choice must be, unless the episode has ended. Where none is, the reward
        that led there is NaN, which ends the training of a seed with a message.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement action_mask(state, params)"
        )

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        """Initial render state of gymnasium's protocol: none is needed."""

    def render_close(self, render_state: Any, params: Any = None) -> None:
        """Closes the renderer of gymnasium's protocol: there is nothing to close."""

    def reset(self, key: jax.Array, world: World) -> EnvState:
        """Starts an episode: draws an initial state and its observation."""
        k_state, k_observe, k_sense = jax.random.split(key, 3)
        state = self.initial(k_state, world.params)
        obs, queue = self._row(state, k_observe, world.params), None
        if world.channel is not None:
            obs, queue = channels.reset_obs(k_sense, world.channel, self.spec, self._scale(), obs)
        return EnvState(world, state, obs, queue, jnp.zeros((), jnp.int32))

    def step(
        self, key: jax.Array, env_state: EnvState, action: jax.Array
    ) -> tuple[EnvState, Transition]:
        """Steps one environment without resetting it; the key is split once."""
        k_act, k_state, k_reward, k_end, k_observe, k_sense, k_pay = jax.random.split(key, 7)
        world, queue, executed = world_at(env_state.world, env_state.time), env_state.queue, action
        params, first = world.params, env_state.time == 0
        if world.channel is not None:
            executed, queue = channels.apply_action(
                k_act, world.channel, queue, self.spec, first, action, env_state.obs
            )
        state = self.transition(env_state.state, executed, k_state, params)
        reward = self.reward(env_state.state, executed, state, k_reward, params)
        terminated = self.terminal(state, k_end, params)
        truncated = (env_state.time + 1 >= self.horizon) & ~terminated
        obs = self._row(state, k_observe, params)
        if self.spec.masked:
            goes_on = ~terminated & ~truncated
            reward = jnp.where(goes_on & ~some_allowed(self.spec, obs), jnp.nan, reward)
        if world.channel is not None:
            obs = channels.observe(
                k_sense, world.channel, self.spec, env_state.obs, self._scale(), obs
            )
            reward = channels.noisy_reward(k_pay, world.channel, reward)
        info = self.transition_info(env_state.state, executed, state, params)
        transition = Transition(
            env_state.obs, action, obs, reward, terminated, truncated, first, info
        )
        return EnvState(env_state.world, state, obs, queue, env_state.time + 1), transition

    def _row(self, state: Any, key: jax.Array, params: Any) -> jax.Array:
        """Observation [D] of a state, with image and mask where there are some."""
        obs = self.observation(state, key, params)
        if self.spec.plain:
            return obs
        image, numbers = None, obs
        if self.spec.image is not None:
            image, numbers = obs if isinstance(obs, tuple) else (obs, None)
            image = self.spec.image.flat(jnp.asarray(image, jnp.uint8))
        mask = self.action_mask(state, params) if self.spec.masked else None
        return join(self.spec, Parts(image, numbers, mask))

    def _scale(self) -> jax.Array:
        return jnp.array(self.obs_scale)


def some_allowed(spec: Spec, obs: jax.Array) -> jax.Array:
    """Whether the mask of an observation [D] allows an action of each choice, bool []."""
    parts = jnp.split(split(spec, obs).mask, np.cumsum(spec.choices)[:-1].tolist())
    return jnp.stack([part.any() for part in parts]).all()


def world_at(world: World, time: jax.Array) -> World:
    """World at step `time` of an episode, on its way to the scheduled params and channel.

    Floats change linearly over the ramp, all other values at its end.
    """
    if world.scheduled is None:
        return world
    params, channel, onset, ramp = world.scheduled
    progress = jnp.clip((time + 1 - onset) / (ramp + 1), 0.0, 1.0)

    def interpolate(start, end):
        start, end = jnp.asarray(start), jnp.asarray(end)
        is_float = jnp.issubdtype(start.dtype, jnp.floating)
        between = start + progress * (end - start) if is_float else start
        return jnp.where(progress < 1, jnp.where(progress > 0, between, start), end)

    return World(*jax.tree.map(interpolate, (world.params, world.channel), (params, channel)))


def rollout(
    key: jax.Array,
    env: Env,
    worlds: Callable[[jax.Array], World],
    act: Callable[[jax.Array, jax.Array], jax.Array],
    env_states: EnvState,
    num_steps: int,
) -> tuple[EnvState, Transition]:
    """Steps B environments with auto-reset for T = `num_steps` steps.

    Args:
        key: random key.
        env: the family of worlds.
        worlds: key -> world, called for every episode (constant for a fixed world).
        act: (key, obs [B, D]) -> actions [B, ...].
        env_states: [B] current states of the environments.
        num_steps: T.

    Returns:
        (env_states [B], transitions [T, B]).
    """
    reset_pool_size = min(env.reset_pool_size, num_steps)
    if reset_pool_size:
        k_pool, key = jax.random.split(key)
        pool = reset_batch(k_pool, env, worlds, reset_pool_size)

    def new_episode(k_world, k_reset):
        if not reset_pool_size:
            return env.reset(k_reset, worlds(k_world))
        index = jax.random.randint(k_reset, (), 0, reset_pool_size)
        return jax.tree.map(lambda leaf: leaf[index], pool)

    def step_one(key, env_state, action):
        k_step, k_world, k_reset = jax.random.split(key, 3)
        env_state, transition = env.step(k_step, env_state, action)
        ended = transition.terminated | transition.truncated
        fresh = new_episode(k_world, k_reset)
        return jax.tree.map(
            lambda new, old: jnp.where(ended, new, old), fresh, env_state
        ), transition

    def step(env_states, key):
        k_act, k_step = jax.random.split(key)
        action = act(k_act, env_states.obs)
        keys = jax.random.split(k_step, env_states.time.shape[0])
        return jax.vmap(step_one)(keys, env_states, action)

    return jax.lax.scan(step, env_states, jax.random.split(key, num_steps))


def reset_batch(
    key: jax.Array, env: Env, worlds: Callable[[jax.Array], World], num_envs: int
) -> EnvState:
    """Starts an episode in each of B = `num_envs` environments -> env_states [B]."""

    def reset_one(key):
        k_world, k_reset = jax.random.split(key)
        return env.reset(k_reset, worlds(k_world))

    return jax.vmap(reset_one)(jax.random.split(key, num_envs))


def mask_finished(alive: jax.Array, tree: Any) -> Any:
    """Sets leaves [..., *] to 0 where not alive [...] bool: what follows an episode's end."""

    def mask_leaf(leaf: jax.Array) -> jax.Array:
        mask = alive.reshape(alive.shape + (1,) * (leaf.ndim - alive.ndim))
        return jnp.where(mask, leaf, jnp.zeros_like(leaf))

    return jax.tree.map(mask_leaf, tree)
