"""Makes one host environment that speaks in vectors; imports no jax, so workers start at once.

A known environment is a function whose keyword parameters are its declared setters: what a shift
of its physics may change. Anything else is `gymnasium.make`, with no setters.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from envs import SUITES

LARGEST = 10_000  # numbers in one observation
LIMIT = 1_000  # steps of an environment that declares no limit


def cartpole(
    force: float = 10.0, half_length: float = 0.5, pole_mass: float = 0.1, **kwargs
) -> gymnasium.Env:
    """`CartPole-v1`; the constants that it caches are computed anew."""
    env = gymnasium.make("CartPole-v1", **kwargs)
    inner = env.unwrapped
    inner.force_mag, inner.length, inner.masspole = force, half_length, pole_mass
    inner.total_mass = inner.masscart + pole_mass
    inner.polemass_length = pole_mass * half_length
    return env


def lunar_lander(gravity: float = -10.0, wind: float = 0.0, **kwargs) -> gymnasium.Env:
    """`LunarLander-v3`; gravity in (-12, 0) m/s^2, wind power in [0, 20]."""
    physics = {"gravity": gravity, "enable_wind": wind > 0, "wind_power": wind}
    return gymnasium.make("LunarLander-v3", **physics, **kwargs)


def pendulum(
    gravity: float = 10.0, mass: float = 1.0, length: float = 1.0, **kwargs
) -> gymnasium.Env:
    """`Pendulum-v1`; m/s^2, kg, m."""
    env = gymnasium.make("Pendulum-v1", g=gravity, **kwargs)
    env.unwrapped.m, env.unwrapped.l = mass, length
    return env


def dist_shift(layout: float = 0.0, **kwargs) -> gymnasium.Env:
    """`MiniGrid-DistShift1-v0`; from layout .5 on `MiniGrid-DistShift2-v0`, where lava moved."""
    return minigrid(f"MiniGrid-DistShift{2 if layout >= 0.5 else 1}-v0", **kwargs)


def minigrid(id: str, **kwargs) -> gymnasium.Env:
    """A MiniGrid world, seen as the 7 x 7 cells before the agent, without the mission's text."""
    import minigrid.wrappers

    return minigrid.wrappers.ImgObsWrapper(gymnasium.make(id, **kwargs))


class Known(NamedTuple):
    """What is known of an environment beside what it declares.

    Attributes:
        make: makes it; its keyword parameters are the declared setters.
        harmful: its every termination is harm, whatever it pays.
        goal: the return from which an episode is a success; None for the declared threshold.
    """

    make: Callable[..., gymnasium.Env]
    harmful: bool = False
    goal: float | None = None

    @property
    def setters(self) -> dict[str, float]:
        """Declared setters and their defaults."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if isinstance(p.default, float)}


KNOWN = {
    "CartPole-v1": Known(cartpole, harmful=True),
    "LunarLander-v3": Known(lunar_lander),
    "Pendulum-v1": Known(pendulum),
    "MiniGrid-DistShift1-v0": Known(dist_shift, goal=0.01),
}


def known(id: str) -> Known:
    """What is known of an id, which may begin with the module that registers it and a colon.

    Raises:
        ValueError: if gymnasium has no such id, naming the nearest; or if its package is missing.
    """
    module, _, name = id.rpartition(":")
    gridworld = name.startswith("MiniGrid")
    if module or gridworld:
        _import(module or "minigrid")
    if name in KNOWN:
        return KNOWN[name]
    if name not in gymnasium.registry:
        names = {known.lower(): known for known in (*gymnasium.registry, *SUITES)}
        close = difflib.get_close_matches(name.lower(), names, 1)
        hint = f"did you mean {names[close[0]]}?" if close else "see gymnasium.registry"
        raise ValueError(f"unknown environment {id!r}; {hint}")
    if gridworld:
        return Known(lambda **kwargs: minigrid(id, **kwargs), goal=0.01)
    return Known(lambda **kwargs: gymnasium.make(id, **kwargs))


def make(id: str, **kwargs) -> gymnasium.Env:
    """Makes an environment with a vector [D] float32 to observe and actions 0..n-1 or in [-1, 1].

    Args:
        id: a gymnasium id.
        **kwargs: declared setters, and what `gymnasium.make` takes.

    Raises:
        ValueError: for an unknown id, a missing package, an environment that raises when made, or
            a space that does not fit, naming the wrapper that helps.
    """
    kind = known(id)
    if kwargs.get("render_mode") == "rgb_array":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures need no screen
    try:
        env = kind.make(**kwargs)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ValueError(f"{id} needs a package: pip install -e '.[hosts]' ({error})") from None
    except Exception as error:  # somebody else's code
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(f"{id} cannot be made ({cause}); mend the environment") from error
    env = _act_in_unit_box(_see_a_vector(env, id), id)
    limit = env.spec.max_episode_steps if env.spec else None
    return env if limit else wrappers.TimeLimit(env, LIMIT)


def _import(module: str) -> None:
    """Imports a module that registers environments."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} is missing: pip install -e '.[hosts]' ({error})") from None


def _see_a_vector(env: gymnasium.Env, id: str) -> gymnasium.Env:
    space = env.observation_space
    if not _of_numbers(space):
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


def _of_numbers(space: spaces.Space) -> bool:
    """Whether a space flattens to a vector that means something; letters would be numbered."""
    if isinstance(space, spaces.Dict):
        return all(map(_of_numbers, space.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_of_numbers, space))
    return space.is_np_flattenable and not isinstance(space, spaces.Text)


def _act_in_unit_box(env: gymnasium.Env, id: str) -> gymnasium.Env:
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
