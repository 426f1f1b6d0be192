"""Whole episodes of a jitted world, side by side, as one batch of transitions."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from affect import Transition
from envs.world import Env, EnvState, World

Act = Callable[[jax.Array, jax.Array], jax.Array]  # (key, obs [D]) -> action [...]


def record_episodes(
    act: Act, env: Env, worlds: World, keys: jax.Array
) -> tuple[EnvState, Transition, jax.Array]:
    """Whole episodes side by side, B = draws x episodes, T = the horizon.

    Args:
        act: how to act; its keys are its own, so that the world's luck does not depend on it.
        env: the family of worlds.
        worlds: [draws], with a channel.
        keys: [B], one an episode, those of the first world first.

    Returns:
        (lives [T, B] before each step, transitions [T, B] that are 0 after an episode's end,
        alive [T, B] bool).
    """
    count, draws = keys.shape[0], worlds.channel.noise.shape[0]
    worlds = jax.tree.map(lambda leaf: jnp.repeat(leaf, count // draws, 0), worlds)
    k_reset = jax.vmap(partial(jax.random.fold_in, data=env.horizon))(keys)
    env_states = jax.vmap(env.reset)(k_reset, worlds)

    def one(key, time, env_state):
        action = act(jax.random.fold_in(key, env.horizon + 1 + time), env_state.obs)
        return env.step(jax.random.fold_in(key, time), env_state, action)

    def step(carry, time):
        env_states, alive = carry
        after, seen = jax.vmap(one, (0, None, 0))(keys, time, env_states)
        return (after, alive & ~seen.terminated & ~seen.truncated), (env_states, seen, alive)

    begun = (env_states, jnp.ones((count,), bool))
    _, (env_states, batch, alive) = jax.lax.scan(step, begun, jnp.arange(env.horizon))
    return env_states, jax.tree.map(partial(_mask_finished, alive), batch), alive


def _mask_finished(alive: jax.Array, leaf: jax.Array) -> jax.Array:
    """A leaf [T, B, ...] that is 0 where not alive [T, B]."""
    there = alive.reshape(alive.shape + (1,) * (leaf.ndim - alive.ndim))
    return jnp.where(there, leaf, jnp.zeros_like(leaf))
