"""Scoring: all points x draws x episodes x seeds in one compiled program."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from envs.world import Env, World

SCORES = ("return", "length", "success", "terminated", "truncated")


def evaluate(
    agent_state: Any, agent: Any, env: Env, worlds: World, key: jax.Array, episodes: int
) -> dict[str, jax.Array]:
    """Scores one agent, acting by its mode, on stacked worlds [P, draws].

    Every point, arm and seed meets the same episode keys (common random numbers). The task's own
    reward is reported, without the channel's noise.

    Args:
        agent_state: of one seed.
        agent: its description.
        env: the family of worlds.
        worlds: leading axes [P, draws].
        key: of the evaluation.
        episodes: in each world.

    Returns:
        Means over draws and episodes, each [P]: return, length, success, terminated (the world
        ended the episode), truncated (it ran out of time). Where the world reports
        `info["success"]`, an episode is a success only if its last step says so too.
    """
    channel = worlds.channel._replace(reward_noise=jnp.zeros_like(worlds.channel.reward_noise))
    draws = worlds.channel.noise.shape[1]
    keys = jax.random.split(key, draws * episodes).reshape(draws, episodes)
    live = partial(_episodes, agent_state, agent, env, keys)
    return jax.lax.map(live, worlds._replace(channel=channel))


def _episodes(agent_state: Any, agent: Any, env: Env, keys: jax.Array, worlds: World) -> dict:
    """One point: worlds [draws], keys [draws, episodes] -> means."""
    k_reset = jax.vmap(jax.vmap(partial(jax.random.fold_in, data=env.horizon)))(keys)
    lives = jax.vmap(jax.vmap(env.reset, (0, None)))(k_reset, worlds)

    def one(key, time, life, action):
        return env.step(jax.random.fold_in(key, time), life, action)

    def step(carry, time):
        lives, alive, total, length, ends, passed = carry
        action = agent.act(agent_state, None, lives.obs)
        lives, seen = jax.vmap(jax.vmap(one, (0, None, 0, 0)), (0, None, 0, 0))(
            keys, time, lives, action
        )
        total = total + jnp.where(alive, seen.reward, 0.0)
        ends = ends | (alive & seen.terminated)
        length = length + alive
        passed = jnp.where(alive, seen.info.get("success", 1.0) > 0, passed)
        alive = alive & ~seen.terminated & ~seen.truncated
        return (lives, alive, total, length, ends, passed), None

    zero, no = jnp.zeros(keys.shape), jnp.zeros(keys.shape, bool)
    start = (lives, ~no, zero, zero, no, no)
    (_, _, total, length, ends, passed), _ = jax.lax.scan(step, start, jnp.arange(env.horizon))
    scores = total, length, env.success(total, length) & passed, ends, ~ends
    return {
        name: score.astype(jnp.float32).mean() for name, score in zip(SCORES, scores, strict=True)
    }
