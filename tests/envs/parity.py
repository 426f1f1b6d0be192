"""Step-by-step comparison of a classic-control world with gymnasium's own."""

from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from envs.world import Env, World


def _same_action(action: Any) -> Any:
    return action


def parity(
    env: Env,
    gym: gymnasium.Env,
    params: Any,
    choose: Callable,
    forced: bool,
    atol: float,
    steps: int = 1000,
    copy_state: Callable = lambda gym_state, state: jnp.asarray(gym_state, state.dtype),
    convert_action: Callable = _same_action,
) -> np.ndarray:
    """Step both environments and assert that they agree at every step.

    Args:
        env: our environment.
        gym: gymnasium's environment.
        params: of ours, such that both are the same world.
        choose: (generator, gymnasium's state) -> action for ours.
        forced: copy gymnasium's state before every step, not only after resets.
        atol: absolute tolerance of states and observations.
        steps: number of steps.
        copy_state: (gymnasium's state, our state) -> our state with gymnasium's values.
        convert_action: our action -> gymnasium's.

    Returns:
        End of each episode, [..., 2] (terminated, truncated).
    """
    rng, step = np.random.default_rng(0), jax.jit(env.step)
    world, env_state, endings = World(params), None, []
    for _ in range(steps):
        before = gym.unwrapped.state if env_state is not None else None
        if env_state is None:
            gym.reset(seed=len(endings))
            before = gym.unwrapped.state
            env_state = env.reset(jax.random.key(0), world)
            env_state = env_state._replace(state=copy_state(before, env_state.state))
        elif forced:
            env_state = env_state._replace(state=copy_state(before, env_state.state))
        action = choose(rng, np.asarray(before))
        obs, reward, terminated, truncated, _ = gym.step(convert_action(action))
        env_state, transition = step(jax.random.key(0), env_state, jnp.asarray(action))
        for our_leaf, gym_leaf in zip(
            jax.tree.leaves(env_state.state),
            jax.tree.leaves(copy_state(gym.unwrapped.state, env_state.state)),
            strict=True,
        ):
            np.testing.assert_allclose(our_leaf, gym_leaf, rtol=0, atol=atol)
        np.testing.assert_allclose(transition.next_obs, obs, rtol=1e-6, atol=max(atol, 1e-5))
        np.testing.assert_allclose(transition.reward, reward, rtol=1e-5, atol=atol)
        assert (bool(transition.terminated), bool(transition.truncated)) == (terminated, truncated)
        if terminated or truncated:
            endings.append((terminated, truncated))
            env_state = None
    return np.array(endings)


def coloured(image: np.ndarray, colour: str) -> np.ndarray:
    """Pixels of an image that have a colour, [N, 2] of row and column."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere((np.abs(image.astype(int) - rgb) < 12).all(-1))
