"""Makes gymnasium environments with observations in one row and standard actions; no jax."""

from __future__ import annotations

import os
from collections.abc import Callable
from ctypes.util import find_library
from functools import partial
from numbers import Integral, Real
from operator import attrgetter

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from envs.host.action_buffer import LONGEST
from envs.host.actions import LARGEST, check_bounds, standard_actions
from envs.host.checks import Checked
from envs.host.images import image_facts
from envs.host.known import EnvFacts, env_facts, is_built_in
from envs.host.rows import ImageRows, MaskedRows, choices
from envs.host.user_code import call_user

LIMIT = 1_000  # steps of an episode, for environments that declare no limit


def make_env(
    id: str,
    constructor: Callable[..., gymnasium.Env] | None = None,
    *,
    check_values: bool = False,
    reproducible: bool = True,
    image: str | None = None,
    masked: bool = False,
    **kwargs,
) -> gymnasium.Env:
    """Makes an environment with observations [D] and the actions of `envs.host.actions`.

    Observations are float32, or bytes if there is an image among them (`envs.host.rows`).

    Args:
        id: a gymnasium id, or the name in messages of what `constructor` makes.
        constructor: makes the environment; None for `gymnasium.make(id)`.
        check_values: whether to check values too, as `envs.host.probe` does.
        reproducible: whether a seed and actions determine an episode.
        image: what an image is taken for (`envs.host.images`); None to decide by its space.
        masked: whether observations end with the mask of actions in `info`.
        **kwargs: declared setters (`envs.host.known`) and arguments of `gymnasium.make`.

    Raises:
        ValueError: for an unknown id, a missing package, an environment that raises when made, or
            a space that does not fit; the message gives the wrapper that helps.
    """
    facts = env_facts(id) if constructor is None else EnvFacts(constructor)
    if kwargs.get("render_mode") == "rgb_array":
        _render_offscreen()
    try:
        env = call_user(f"{id} cannot be made", partial(facts.make, **kwargs))
    except ValueError as fault:
        error = fault.__cause__
        missing = isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError)
        if missing and constructor is None and is_built_in(id):
            raise ValueError(f"{id} needs a package: pip install -e '.[hosts]' ({error})") from None
        raise
    env = Checked(_with_spaces(env, id), check_values, reproducible)
    facts_of_image = image_facts(env.observation_space, id, image)
    if facts_of_image is None:
        env = _flatten_observations(env, id)
    else:
        _check_numeric(env.observation_space, id)
        env = ImageRows(env, facts_of_image)
    env = standard_actions(env, id)
    env = MaskedRows(env, choices(env.action_space)) if masked else env
    limit, _ = limit_and_goal(env, id)
    return (
        env if limit and limit <= LONGEST else wrappers.TimeLimit(env, LONGEST if limit else LIMIT)
    )


def limit_and_goal(env: gymnasium.Env, id: str) -> tuple[int | None, float | None]:
    """Most steps of an episode, and return of a success, that `env.spec` declares; None if none.

    Raises:
        ValueError: if they are no numbers, or if `env.spec` raises.
    """
    read = attrgetter("max_episode_steps", "reward_threshold")
    what = f"{id}: its spec fails"
    limit, goal = call_user(what, lambda: read(env.spec) if env.spec else (None, None))
    if limit is not None and not (isinstance(limit, Integral) and limit >= 0):
        expected = "expected a whole number of at least 1, or None; correct it"
        raise ValueError(f"{id}: spec.max_episode_steps is {limit!r}, {expected}")
    if goal is not None and not isinstance(goal, Real):
        expected = "expected a number or None; correct it"
        raise ValueError(f"{id}: spec.reward_threshold is {goal!r}, {expected}")
    return limit or None, goal


def _with_spaces(env: gymnasium.Env, id: str) -> gymnasium.Env:
    """Returns `env`; ValueError if it is none of gymnasium's, or lacks a space."""
    if not isinstance(env, gymnasium.Env):
        raise ValueError(
            f"{id}: {type(env).__name__} is no gymnasium.Env; derive it from that class"
        )
    for name in ("observation_space", "action_space"):
        space = call_user(f"{id}: its {name} fails", partial(getattr, env, name, None))
        if not isinstance(space, spaces.Space):
            raise ValueError(f"{id}: {name} is {space!r}; set it to one of gymnasium.spaces")
    return env


def _render_offscreen() -> None:
    """Selects off-screen drivers: without a display, MuJoCo would otherwise abort the process."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl" if find_library("EGL") else "disable")


def _flatten_observations(env: gymnasium.Env, id: str) -> gymnasium.Env:
    """Wraps `env` so that it observes a vector [D] float32; ValueError if that is impossible."""
    space = env.observation_space
    _check_numeric(space, id)
    size = spaces.flatdim(space)
    if size > LARGEST:
        remedy = "shrink it, or make an image uint8, by gymnasium.wrappers.TransformObservation"
        if not (isinstance(space, spaces.Box) and len(space.shape) > 1):
            remedy = (
                "map it to fewer by gymnasium.wrappers.TransformObservation, such as a class of "
                "Discrete, of which each is one number, to its coordinates"
            )
        raise ValueError(
            f"{id}: an observation of {space} has {size} numbers, more than {LARGEST}; {remedy}"
        )
    if size < 1:
        raise ValueError(f"{id}: observation space {space} is empty; observe at least one number")
    if isinstance(space, spaces.Box):
        check_bounds(space, f"{id}: observation space")
    if not (isinstance(space, spaces.Box) and len(space.shape) == 1):
        env = wrappers.FlattenObservation(env)
    low, high = env.observation_space.low, env.observation_space.high
    if low.dtype == np.float32:
        return env
    with np.errstate(over="ignore"):  # a bound beyond the largest float32 becomes infinite
        bounded = spaces.Box(low.astype(np.float32), high.astype(np.float32))
    return wrappers.TransformObservation(env, partial(np.asarray, dtype=np.float32), bounded)


def _check_numeric(space: spaces.Space, id: str) -> None:
    """Checks that every part of a space is numeric; ValueError if not."""
    if not _is_numeric(space):
        raise ValueError(
            f"{id}: observation space {space} is not made of numbers; keep only numeric keys by "
            "gymnasium.wrappers.FilterObservation, or map it by TransformObservation"
        )


def _is_numeric(space: spaces.Space) -> bool:
    """Whether every part of a space is numeric; text would flatten to character codes."""
    if isinstance(space, spaces.Dict):
        return all(map(_is_numeric, space.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_numeric, space))
    return space.is_np_flattenable and not isinstance(space, spaces.Text)
