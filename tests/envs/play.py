"""Helpers of the tests of worlds: rollouts, training, pictures, and pixels of a colour."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from affect import Blend, Transition
from envs.suite import Suite
from envs.world import Env, EnvState, World, reset_batch, rollout


def play(
    env: Env, world: World | Callable, act: Callable, num_envs: int, num_steps: int, seed: int = 0
) -> tuple[EnvState, Transition]:
    """Roll out from a reset -> (environment states [B], transitions [T, B]) of numpy arrays.

    Args:
        env: the environment.
        world: that of all episodes, or key -> the world of an episode.
        act: (key, obs [B, D]) -> actions [B, ...].
        num_envs: B.
        num_steps: T.
        seed: of the random key.
    """
    worlds = world if not isinstance(world, World) else lambda key: world
    k_reset, k_rollout = jax.random.split(jax.random.key(seed))
    env_states = reset_batch(k_reset, env, worlds, num_envs)
    roll_out = jax.jit(rollout, static_argnums=(1, 2, 3, 5))
    results = roll_out(k_rollout, env, worlds, act, env_states, num_steps)
    return jax.tree.map(np.asarray, results)


@functools.cache
def random_actions(num_actions: int) -> Callable:
    """Policy (key, obs [B, D]) -> uniform discrete actions [B]."""
    return lambda key, obs: jax.random.randint(key, obs.shape[:1], 0, num_actions)


def train_and_score(suite: Suite, agent: Any = None, **sizes: int) -> dict[tuple, dict]:
    """Train PPO without heads -> (shift, severity) -> score by name, [S]; nothing must be NaN."""
    from runs.engine.evaluate import draw_points
    from runs.engine.training_loop import run_phase
    from runs.experiment import Experiment

    experiment = Experiment(suite, {"none": Blend()}, agent, **sizes)
    backend, phase = experiment.make_backend(), experiment.phases["none"]
    points, never = draw_points(suite, backend.draws, 0), lambda: False
    trained = run_phase(backend, phase, lambda: backend.init(phase), never)
    assert trained.alive.all()
    scores = backend.evaluate(trained.state.learner, phase.agent, points, never)
    return {(at.shift, at.severity): s for at, s in zip(points.points, scores, strict=True)}


def picture(env: Env, state: Any, params: Any = None) -> np.ndarray:
    """Picture [H, W, 3] of a state."""
    image = env.render_image(state, env.render_init(params), params)[1]
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3
    return image


def coloured(image: np.ndarray, colour: str) -> np.ndarray:
    """Pixels of an image that have a colour, [N, 2] of row and column."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere((np.abs(image.astype(int) - rgb) < 12).all(-1))
