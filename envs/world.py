"""What every jitted world is made of: gymnasium's functional protocol, a fused step, a rollout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv

from affect import Spec, Transition
from envs import channel as senses
from envs.channel import Channel


class Later(NamedTuple):
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
        later: what both become within an episode; None where they stay as they are.
    """

    params: Any
    channel: Channel | None = None
    later: Later | None = None


class Life(NamedTuple):
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
        starts: where episodes are dear to begin, how many a `rollout` begins ahead, to draw all
            its resets from; 0 begins a new one at every step, whether one ended or not.
    """

    spec: Spec
    horizon: int
    obs_scale: tuple[float, ...]
    starts: int = 0

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

    def reset(self, key: jax.Array, world: World) -> Life:
        """Begins an episode."""
        k_state, k_observe, k_sense = jax.random.split(key, 3)
        state = self.initial(k_state, world.params)
        obs, queue = self.observation(state, k_observe, world.params), None
        if world.channel is not None:
            obs, queue = senses.attend(k_sense, world.channel, self.spec, self._scale(), obs)
        return Life(world, state, obs, queue, jnp.zeros((), jnp.int32))

    def step(self, key: jax.Array, life: Life, action: jax.Array) -> tuple[Life, Transition]:
        """One step of one environment, without reset; the key is split once."""
        k_act, k_state, k_reward, k_end, k_observe, k_sense, k_pay = jax.random.split(key, 7)
        world, queue, taken = at(life.world, life.time), life.queue, action
        params, first = world.params, life.time == 0
        if world.channel is not None:
            taken, queue = senses.act(k_act, world.channel, queue, self.spec, first, action)
        state = self.transition(life.state, taken, k_state, params)
        reward = self.reward(life.state, taken, state, k_reward, params)
        terminated = self.terminal(state, k_end, params)
        truncated = (life.time + 1 >= self.horizon) & ~terminated
        obs = self.observation(state, k_observe, params)
        if world.channel is not None:
            obs = senses.sense(k_sense, world.channel, life.obs, self._scale(), obs)
            reward = senses.pay(k_pay, world.channel, reward)
        info = self.transition_info(life.state, taken, state, params)
        transition = Transition(life.obs, action, obs, reward, terminated, truncated, first, info)
        return Life(life.world, state, obs, queue, life.time + 1), transition

    def _scale(self) -> jax.Array:
        return jnp.array(self.obs_scale)


def at(world: World, time: jax.Array) -> World:
    """What a world is at the step `time` of an episode; itself, if there is nothing to come.

    Numbers with a point move evenly on their way, all else changes at its end.
    """
    if world.later is None:
        return world
    params, channel, onset, ramp = world.later
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
    lives: Life,
    num_steps: int,
) -> tuple[Life, Transition]:
    """Acts for T = `num_steps` in B environments that reset themselves.

    Args:
        key: random key.
        env: the family of worlds.
        worlds: key -> world, drawn anew for every episode (a constant for a fixed world).
        act: (key, obs [B, D]) -> actions [B, ...].
        lives: [B] the episodes under way.
        num_steps: T.

    Returns:
        (lives [B], transitions [T, B]).
    """
    starts = min(env.starts, num_steps)
    if starts:
        k_ahead, key = jax.random.split(key)
        ahead = begin(k_ahead, env, worlds, starts)

    def new(k_world, k_reset):
        if not starts:
            return env.reset(k_reset, worlds(k_world))
        drawn = jax.random.randint(k_reset, (), 0, starts)
        return jax.tree.map(lambda leaf: leaf[drawn], ahead)

    def one(key, life, action):
        k_step, k_world, k_reset = jax.random.split(key, 3)
        life, transition = env.step(k_step, life, action)
        ended = transition.terminated | transition.truncated
        fresh = new(k_world, k_reset)
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, life), transition

    def step(lives, key):
        k_act, k_step = jax.random.split(key)
        action = act(k_act, lives.obs)
        keys = jax.random.split(k_step, lives.time.shape[0])
        return jax.vmap(one)(keys, lives, action)

    return jax.lax.scan(step, lives, jax.random.split(key, num_steps))


def begin(key: jax.Array, env: Env, worlds: Callable[[jax.Array], World], num_envs: int) -> Life:
    """Begins an episode in each of B = `num_envs` environments -> lives [B]."""

    def one(key):
        k_world, k_reset = jax.random.split(key)
        return env.reset(k_reset, worlds(k_world))

    return jax.vmap(one)(jax.random.split(key, num_envs))
