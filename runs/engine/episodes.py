"""Record episodes of a jitted environment: transitions, states, and rendered frames."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.world import Env, EnvState, World, mask_finished, reset_batch, rollout
from runs.engine.seeds import Stream, stream_key

Act = Callable[[jax.Array, jax.Array], jax.Array]  # (key, obs [D]) -> action [...]


def record_episodes(
    act: Act, env: Env, worlds: World, keys: jax.Array
) -> tuple[EnvState, Transition, jax.Array]:
    """Roll out whole episodes in parallel, B = draws x episodes, T = the horizon.

    Args:
        act: the policy; its keys are separate, so that the environment's are the same for all.
        env: the family of worlds.
        worlds: [draws], with a channel.
        keys: [B], one an episode, those of the first world first.

    Returns:
        (states [T, B] before each step, transitions [T, B] that are 0 after an episode's end,
        alive [T, B] bool).
    """
    count, draws = keys.shape[0], worlds.channel.noise.shape[0]
    worlds = jax.tree.map(lambda leaf: jnp.repeat(leaf, count // draws, 0), worlds)
    k_reset, k_step, k_action = (
        jax.vmap(partial(stream_key, stream=stream))(keys)
        for stream in (Stream.RESET, Stream.STEP, Stream.ACTION)
    )
    env_states = jax.vmap(env.reset)(k_reset, worlds)

    def step_once(k_step, k_action, time, env_state):
        action = act(jax.random.fold_in(k_action, time), env_state.obs)
        return env.step(jax.random.fold_in(k_step, time), env_state, action)

    def step(carry, time):
        env_states, alive = carry
        inputs = k_step, k_action, time, env_states
        next_states, transition = jax.vmap(step_once, (0, 0, None, 0))(*inputs)
        return (next_states, alive & ~transition.terminated & ~transition.truncated), (
            env_states,
            transition,
            alive,
        )

    initial = (env_states, jnp.ones((count,), bool))
    _, (env_states, batch, alive) = jax.lax.scan(step, initial, jnp.arange(env.horizon))
    return env_states, mask_finished(alive, batch), alive


def episode_length(batch: Transition) -> int:
    """Number of steps of the first episode of the first environment in a batch [T, B]."""
    return int(np.asarray(batch.terminated | batch.truncated)[:, 0].argmax()) + 1


def render_states(env: Env, world: World, states: Any, length: int) -> np.ndarray:
    """Render frames [T, H, W, 3] of environment 0 from states [T, B, ...]."""
    canvas, frames = env.render_init(world.params), []
    states = jax.tree.map(lambda leaf: np.asarray(leaf[:length, 0]), states)
    for t in range(length):
        state = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        canvas, frame = env.render_image(state, canvas, world.params)
        frames.append(frame)
    return np.stack(frames)


def record_horizon(
    act: Act, env: Env, num_envs: int, world: World, key: jax.Array
) -> tuple[Any, Transition]:
    """Roll out one horizon in B = `num_envs` environments -> (states, transitions), [T, B]."""
    k_reset, k_steps = jax.random.split(key)

    def worlds(key: jax.Array) -> World:
        return world

    def step(env_states, key):
        next_states, batch = rollout(key, env, worlds, act, env_states, 1)
        return next_states, (env_states.state, jax.tree.map(lambda leaf: leaf[0], batch))

    env_states = reset_batch(k_reset, env, worlds, num_envs)
    return jax.lax.scan(step, env_states, jax.random.split(k_steps, env.horizon))[1]
