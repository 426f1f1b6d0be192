"""What every jitted world is made of: gymnasium's functional protocol, a fused step, a rollout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv

from affect import Spec, Transition
from envs import channel as senses
from envs.channel import Channel, Memory


class World(NamedTuple):
    """What a world is and what an agent senses of it: a pytree, so worlds stack and `vmap`.

    Attributes:
        params: the world's physics.
        channel: what disturbs sensing and acting; None where nothing ever does.
    """

    params: Any
    channel: Channel | None = None


class Life(NamedTuple):
    """An episode under way in one environment.

    Attributes:
        world: the world it happens in.
        state: of the world.
        obs: [D] what is sensed of it.
        memory: what the channel carries, None without a channel.
        time: [] int32, steps taken.
    """

    world: World
    state: Any
    obs: jax.Array
    memory: Memory | None
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
    """

    spec: Spec
    horizon: int
    obs_scale: tuple[float, ...]

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
        obs, memory = self.observation(state, k_observe, world.params), None
        if world.channel is not None:
            obs, memory = senses.attend(k_sense, world.channel, self.spec, self._scale(), obs)
        return Life(world, state, obs, memory, jnp.zeros((), jnp.int32))

    def step(self, key: jax.Array, life: Life, action: jax.Array) -> tuple[Life, Transition]:
        """One step of one environment, without reset; the key is split once."""
        k_act, k_state, k_reward, k_end, k_observe, k_sense, k_pay = jax.random.split(key, 7)
        world, memory, taken = life.world, life.memory, action
        params, first = world.params, life.time == 0
        if world.channel is not None:
            taken, memory = senses.act(k_act, world.channel, memory, self.spec, first, action)
        state = self.transition(life.state, taken, k_state, params)
        reward = self.reward(life.state, taken, state, k_reward, params)
        terminated = self.terminal(state, k_end, params)
        truncated = (life.time + 1 >= self.horizon) & ~terminated
        obs = self.observation(state, k_observe, params)
        if world.channel is not None:
            obs, memory = senses.sense(k_sense, world.channel, memory, self._scale(), obs)
            reward = senses.pay(k_pay, world.channel, reward)
        info = self.transition_info(life.state, taken, state, params)
        transition = Transition(life.obs, action, obs, reward, terminated, truncated, first, info)
        return Life(world, state, obs, memory, life.time + 1), transition

    def _scale(self) -> jax.Array:
        return jnp.array(self.obs_scale)


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

    def one(key, life, action):
        k_step, k_world, k_reset = jax.random.split(key, 3)
        life, transition = env.step(k_step, life, action)
        ended = transition.terminated | transition.truncated
        fresh = env.reset(k_reset, worlds(k_world))
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
