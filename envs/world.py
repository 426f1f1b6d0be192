"""What every jitted world is made of: gymnasium's functional protocol, a fused step, a rollout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv

from affect import Spec, Transition
from envs import channel as senses
from envs.channel import Channel


class ScheduledParams(NamedTuple):
    """What a world becomes in the middle of each episode (`envs.schedule.Schedule`).

    Attributes:
        params, channel: as those of the world.
        onset: [] int32, the first step that is touched, counted from 0.
        ramp: [] int32, steps from the first one touched to the first one in the later world.
    """

    params: Any
    channel: Channel | None
    onset: jax.Array | int
    ramp: jax.Array | int


class World(NamedTuple):
    """What a world is and what an agent senses of it: a pytree, so worlds stack and `vmap`.

    Attributes:
        params: the world's physics.
        channel: what disturbs sensing and acting; None where nothing ever does.
        scheduled: what both become within an episode; None where they stay as they are.
    """

    params: Any
    channel: Channel | None = None
    scheduled: ScheduledParams | None = None


class EnvState(NamedTuple):
    """An episode under way in one environment.

    Attributes:
        world: the world it happens in.
        state: of the world.
        obs: [D] what is sensed of it.
        queue: the actions that were chosen, as the channel carries them; None without one.
        time: [] int32, steps taken.
    """

    world: World
    state: Any
    obs: jax.Array
    queue: jax.Array | None
    time: jax.Array


class Env(FuncEnv):
    """A family of worlds with the same shapes: gymnasium's functional protocol, `params` traced.

    A world defines `get_default_params`, `initial`, `transition`, `observation`, `reward`,
    `terminal` and, where it has them, `transition_info`, `success` and `render_image`; `spec`,
    `horizon` and `obs_scale` are its constants.

    Attributes:
        spec: shapes of observation and action.
        horizon: steps after which an episode is truncated.
        obs_scale: [D] the unit of each observation, for sensor noise.
        reset_pool_size: where episodes are dear to begin, how many a `rollout` begins ahead, to draw all
            its resets from; 0 begins a new one at every step, whether one ended or not.
    """

    spec: Spec
    horizon: int
    obs_scale: tuple[float, ...]
    reset_pool_size: int = 0

    def success(self, total: jax.Array, length: jax.Array) -> jax.Array:
        """Whether an episode of this return and length was a success, bool [...].

        A world that needs to see more reports `info["success"]`, and then the last step of an
        episode must say so too.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what success is")

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        """What is kept from picture to picture: nothing."""

    def render_close(self, render_state: Any, params: Any = None) -> None:
        """Nothing was kept."""

    def reset(self, key: jax.Array, world: World) -> EnvState:
        """Begins an episode."""
        k_state, k_observe, k_sense = jax.random.split(key, 3)
        state = self.initial(k_state, world.params)
        obs, queue = self.observation(state, k_observe, world.params), None
        if world.channel is not None:
            obs, queue = senses.reset_obs(k_sense, world.channel, self.spec, self._scale(), obs)
        return EnvState(world, state, obs, queue, jnp.zeros((), jnp.int32))

    def step(
        self, key: jax.Array, env_state: EnvState, action: jax.Array
    ) -> tuple[EnvState, Transition]:
        """One step of one environment, without reset; the key is split once."""
        k_act, k_state, k_reward, k_end, k_observe, k_sense, k_pay = jax.random.split(key, 7)
        world, queue, taken = world_at(env_state.world, env_state.time), env_state.queue, action
        params, first = world.params, env_state.time == 0
        if world.channel is not None:
            taken, queue = senses.apply_action(
                k_act, world.channel, queue, self.spec, first, action
            )
        state = self.transition(env_state.state, taken, k_state, params)
        reward = self.reward(env_state.state, taken, state, k_reward, params)
        terminated = self.terminal(state, k_end, params)
        truncated = (env_state.time + 1 >= self.horizon) & ~terminated
        obs = self.observation(state, k_observe, params)
        if world.channel is not None:
            obs = senses.observe(k_sense, world.channel, env_state.obs, self._scale(), obs)
            reward = senses.noisy_reward(k_pay, world.channel, reward)
        info = self.transition_info(env_state.state, taken, state, params)
        transition = Transition(
            env_state.obs, action, obs, reward, terminated, truncated, first, info
        )
        return EnvState(env_state.world, state, obs, queue, env_state.time + 1), transition

    def _scale(self) -> jax.Array:
        return jnp.array(self.obs_scale)


def world_at(world: World, time: jax.Array) -> World:
    """What a world is at the step `time` of an episode; itself, if there is nothing to come.

    Numbers with a point move evenly on their way, all else changes at its end.
    """
    if world.scheduled is None:
        return world
    params, channel, onset, ramp = world.scheduled
    there = jnp.clip((time + 1 - onset) / (ramp + 1), 0.0, 1.0)

    def move(now, then):
        now, then = jnp.asarray(now), jnp.asarray(then)
        moves = jnp.issubdtype(now.dtype, jnp.floating)
        between = now + there * (then - now) if moves else now
        return jnp.where(there < 1, jnp.where(there > 0, between, now), then)

    return World(*jax.tree.map(move, (world.params, world.channel), (params, channel)))


def rollout(
    key: jax.Array,
    env: Env,
    worlds: Callable[[jax.Array], World],
    act: Callable[[jax.Array, jax.Array], jax.Array],
    env_states: EnvState,
    num_steps: int,
) -> tuple[EnvState, Transition]:
    """Acts for T = `num_steps` in B environments that reset themselves.

    Args:
        key: random key.
        env: the family of worlds.
        worlds: key -> world, drawn anew for every episode (a constant for a fixed world).
        act: (key, obs [B, D]) -> actions [B, ...].
        env_states: [B] the episodes under way.
        num_steps: T.

    Returns:
        (lives [B], transitions [T, B]).
    """
    reset_pool_size = min(env.reset_pool_size, num_steps)
    if reset_pool_size:
        k_ahead, key = jax.random.split(key)
        ahead = reset_batch(k_ahead, env, worlds, reset_pool_size)

    def new(k_world, k_reset):
        if not reset_pool_size:
            return env.reset(k_reset, worlds(k_world))
        drawn = jax.random.randint(k_reset, (), 0, reset_pool_size)
        return jax.tree.map(lambda leaf: leaf[drawn], ahead)

    def one(key, env_state, action):
        k_step, k_world, k_reset = jax.random.split(key, 3)
        env_state, transition = env.step(k_step, env_state, action)
        ended = transition.terminated | transition.truncated
        fresh = new(k_world, k_reset)
        return jax.tree.map(
            lambda new, old: jnp.where(ended, new, old), fresh, env_state
        ), transition

    def step(env_states, key):
        k_act, k_step = jax.random.split(key)
        action = act(k_act, env_states.obs)
        keys = jax.random.split(k_step, env_states.time.shape[0])
        return jax.vmap(one)(keys, env_states, action)

    return jax.lax.scan(step, env_states, jax.random.split(key, num_steps))


def reset_batch(
    key: jax.Array, env: Env, worlds: Callable[[jax.Array], World], num_envs: int
) -> EnvState:
    """Begins an episode in each of B = `num_envs` environments -> lives [B]."""

    def one(key):
        k_world, k_reset = jax.random.split(key)
        return env.reset(k_reset, worlds(k_world))

    return jax.vmap(one)(jax.random.split(key, num_envs))
