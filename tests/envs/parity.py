"""A world of ours and gymnasium's own, stepped side by side."""

from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from envs.world import Env, World


def _as_it_is(value: Any) -> Any:
    return value


def parity(
    env: Env,
    gym: gymnasium.Env,
    params: Any,
    choose: Callable,
    forced: bool,
    atol: float,
    steps: int = 1000,
    place: Callable = lambda theirs, ours: jnp.asarray(theirs, ours.dtype),
    told: Callable = _as_it_is,
) -> np.ndarray:
    """Asserts that both agree at every step.

    Args:
        env: ours.
        gym: gymnasium's.
        params: of ours, such that both are the same world.
        choose: (generator, their state) -> action for ours.
        forced: copy their state before every step, not only after resets.
        atol: how far states and observations may be apart.
        steps: to take.
        place: (their state, ours) -> ours where they are.
        told: our action -> theirs.

    Returns:
        How the episodes ended, [..., 2] (terminated, truncated).
    """
    rng, step = np.random.default_rng(0), jax.jit(env.step)
    world, env_state, endings = World(params), None, []
    for _ in range(steps):
        before = gym.unwrapped.state if env_state is not None else None
        if env_state is None:
            gym.reset(seed=len(endings))
            before = gym.unwrapped.state
            env_state = env.reset(jax.random.key(0), world)
            env_state = env_state._replace(state=place(before, env_state.state))
        elif forced:
            env_state = env_state._replace(state=place(before, env_state.state))
        action = choose(rng, np.asarray(before))
        obs, reward, terminated, truncated, _ = gym.step(told(action))
        env_state, seen = step(jax.random.key(0), env_state, jnp.asarray(action))
        for mine, their in zip(
            jax.tree.leaves(env_state.state),
            jax.tree.leaves(place(gym.unwrapped.state, env_state.state)),
            strict=True,
        ):
            np.testing.assert_allclose(mine, their, rtol=0, atol=atol)
        np.testing.assert_allclose(seen.next_obs, obs, rtol=1e-6, atol=max(atol, 1e-5))
        np.testing.assert_allclose(seen.reward, reward, rtol=1e-5, atol=atol)
        assert (bool(seen.terminated), bool(seen.truncated)) == (terminated, truncated)
        if terminated or truncated:
            endings.append((terminated, truncated))
            env_state = None
    return np.array(endings)


def coloured(image: np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has a colour: [N, 2] of row and column."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere((np.abs(image.astype(int) - rgb) < 12).all(-1))
