"""Makes gymnasium environments with flat observations and actions in [-1, 1]; imports no jax."""

from __future__ import annotations

import os
from collections.abc import Callable
from ctypes.util import find_library
from functools import partial

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from envs.host.known import EnvFacts, env_facts

LARGEST = 10_000  # most numbers in one observation
LIMIT = 1_000  # steps of an episode, for environments that declare no limit


def make_env(
    id: str, constructor: Callable[..., gymnasium.Env] | None = None, **kwargs
) -> gymnasium.Env:
    """Makes an environment with observations [D] float32 and actions 0..n-1 or [A] in [-1, 1].

    Args:
        id: a gymnasium id, or the name in messages of what `constructor` makes.
        constructor: makes the environment; None for `gymnasium.make(id)`.
        **kwargs: declared setters (`envs.host.known`) and arguments of `gymnasium.make`.

    Raises:
        ValueError: for an unknown id, a missing package, an environment that raises when made, or
            a space that does not fit; the message gives the wrapper that helps.
    """
    facts = env_facts(id) if constructor is None else EnvFacts(constructor)
    if kwargs.get("render_mode") == "rgb_array":
        _render_offscreen()
    try:
        env = facts.make(**kwargs)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ValueError(f"{id} needs a package: pip install -e '.[hosts]' ({error})") from None
    except Exception as error:  # third-party code may raise anything
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(f"{id} cannot be made ({cause}); fix the environment") from error
    env = _rescale_actions(_flatten_observations(env, id), id)
    limit = env.spec.max_episode_steps if env.spec else None
    return env if limit else wrappers.TimeLimit(env, LIMIT)


def _render_offscreen() -> None:
    """Selects off-screen drivers: without a display, MuJoCo would otherwise abort the process."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl" if find_library("EGL") else "disable")


def _flatten_observations(env: gymnasium.Env, id: str) -> gymnasium.Env:
    """Wraps `env` so that it observes a vector [D] float32; ValueError if that is impossible."""
    space = env.observation_space
    if not _is_numeric(space):
        raise ValueError(
            f"{id}: observation space {space} is not made of numbers; keep only numeric keys by "
            "gymnasium.wrappers.FilterObservation, or map it by TransformObservation"
        )
    size = spaces.flatdim(space)
    if size > LARGEST:
        raise ValueError(
            f"{id}: an observation has {size} numbers, more than {LARGEST}; shrink it by "
            "gymnasium.wrappers.GrayscaleObservation and ResizeObservation"
        )
    if not (isinstance(space, spaces.Box) and len(space.shape) == 1):
        env = wrappers.FlattenObservation(env)
    low, high = env.observation_space.low, env.observation_space.high
    if low.dtype == np.float32:
        return env
    with np.errstate(over="ignore"):  # a bound beyond the largest float32 becomes infinite
        bounded = spaces.Box(low.astype(np.float32), high.astype(np.float32))
    return wrappers.TransformObservation(env, partial(np.asarray, dtype=np.float32), bounded)


def _is_numeric(space: spaces.Space) -> bool:
    """Whether every part of a space is numeric; text would flatten to character codes."""
    if isinstance(space, spaces.Dict):
        return all(map(_is_numeric, space.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_numeric, space))
    return space.is_np_flattenable and not isinstance(space, spaces.Text)


def _rescale_actions(env: gymnasium.Env, id: str) -> gymnasium.Env:
    """Wraps `env` so that box actions are clipped to [-1, 1] and rescaled to its own bounds."""
    space = env.action_space
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return env
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.is_bounded():
        low, high = -np.ones_like(space.low), np.ones_like(space.high)
        return wrappers.ClipAction(wrappers.RescaleAction(env, low, high))
    raise ValueError(
        f"{id}: action space {space} is neither Discrete from 0 nor a bounded vector; map it by "
        "gymnasium.wrappers.TransformAction"
    )
