"""Makes one host environment that speaks in vectors; imports no jax, so workers start at once."""

from __future__ import annotations

import os
from ctypes.util import find_library
from functools import partial

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from envs.host.known import env_facts

LARGEST = 10_000  # numbers in one observation
LIMIT = 1_000  # steps of an environment that declares no limit


def make_env(id: str, **kwargs) -> gymnasium.Env:
    """Makes an environment with a vector [D] float32 to observe and actions 0..n-1 or in [-1, 1].

    Args:
        id: a gymnasium id.
        **kwargs: declared setters, and what `gymnasium.make` takes.

    Raises:
        ValueError: for an unknown id, a missing package, an environment that raises when made, or
            a space that does not fit, naming the wrapper that helps.
    """
    kind = env_facts(id)
    if kwargs.get("render_mode") == "rgb_array":
        _render_offscreen()
    try:
        env = kind.make(**kwargs)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ValueError(f"{id} needs a package: pip install -e '.[hosts]' ({error})") from None
    except Exception as error:  # somebody else's code
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(f"{id} cannot be made ({cause}); mend the environment") from error
    env = _rescale_actions(_flatten_observations(env, id), id)
    limit = env.spec.max_episode_steps if env.spec else None
    return env if limit else wrappers.TimeLimit(env, LIMIT)


def _render_offscreen() -> None:
    """MuJoCo, left to look for a screen that is not there, ends the process."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl" if find_library("EGL") else "disable")


def _flatten_observations(env: gymnasium.Env, id: str) -> gymnasium.Env:
    space = env.observation_space
    if not _is_numeric(space):
        raise ValueError(
            f"{id}: observation space {space} is not made of numbers; keep the keys that are by "
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
    with np.errstate(over="ignore"):  # beyond the largest float32 there is no bound
        bounded = spaces.Box(low.astype(np.float32), high.astype(np.float32))
    return wrappers.TransformObservation(env, partial(np.asarray, dtype=np.float32), bounded)


def _is_numeric(space: spaces.Space) -> bool:
    """Whether a space flattens to a vector that means something; letters would be numbered."""
    if isinstance(space, spaces.Dict):
        return all(map(_is_numeric, space.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_numeric, space))
    return space.is_np_flattenable and not isinstance(space, spaces.Text)


def _rescale_actions(env: gymnasium.Env, id: str) -> gymnasium.Env:
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
