"""Known host environments, and the setters that each declares; imports no jax.

A known environment is a function whose keyword parameters are its declared setters: what a shift
of its physics may change. Anything else is `gymnasium.make`, with no setters.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import gymnasium

from envs import SUITES

LOG = logging.getLogger(__name__)
DRIVERS = ("IDMVehicle", "AggressiveVehicle")
SIZES = ("S9N1", "S9N2", "S9N3", "S11N5")  # of a crossing: cells on a side, rivers to cross
PACKAGES = {"MiniGrid": "minigrid", "highway": "highway_env"}  # register ids that begin like this


class EnvFacts(NamedTuple):
    """What is known of an environment beside what it declares.

    Attributes:
        make: makes it; its keyword parameters are the declared setters.
        harmful: its every termination is harm, whatever it pays.
        goal: the return from which an episode is a success; None for the declared threshold, NaN
            where the return itself is the score.
        levels: severities that are scored, evenly up to 1. Where a shift goes from one layout to
            the next, of which there is none between, they are as many as there are steps to go.
    """

    make: Callable[..., gymnasium.Env]
    harmful: bool = False
    goal: float | None = None
    levels: int = 2

    @property
    def setters(self) -> dict[str, float]:
        """Declared setters and their defaults."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if isinstance(p.default, float)}


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


def mujoco(
    id: str,
    gravity: float = -9.81,
    mass: float = 1.0,
    friction: float = 1.0,
    gear: float = 1.0,
    **kwargs,
) -> gymnasium.Env:
    """A MuJoCo world of this id; gravity in m/s^2, all else as factors.

    `mass` goes for every body and its inertia, `friction` for every surface, `gear` for the torque
    of every motor. What the compiled model derives from them is derived anew; without that, a
    heavier body would keep the contacts of a light one.
    """
    from mujoco import mj_setConst, set_mju_user_warning

    set_mju_user_warning(LOG.info)  # else they go into a file, wherever the command is given
    env = gymnasium.make(id, **kwargs)
    model = env.unwrapped.model
    model.opt.gravity[2] = gravity
    model.body_mass *= mass
    model.body_inertia *= mass
    model.geom_friction *= friction
    model.actuator_gear *= gear
    mj_setConst(model, env.unwrapped.data)
    return env


def highway(id: str, aggressive: float = 0.0, density: float = 1.0, **kwargs) -> gymnasium.Env:
    """A highway of this id; from aggressive .5 on all others drive so, `density` is a factor.

    It makes 3 to 30 steps a second, so that it serves to score few episodes of an agent that was
    trained shortly, not to train one well.
    """
    config = {
        "other_vehicles_type": f"highway_env.vehicle.behavior.{DRIVERS[round(aggressive)]}",
        "vehicles_density": density,
    }
    return gymnasium.make(id, config=config, **kwargs)


def minigrid(id: str, **kwargs) -> gymnasium.Env:
    """A MiniGrid world, seen as the 7 x 7 cells before the agent, without the mission's text."""
    import minigrid.wrappers

    return minigrid.wrappers.ImgObsWrapper(gymnasium.make(id, **kwargs))


def layouts(*ids: str) -> EnvFacts:
    """MiniGrid worlds from the one that is trained in to the one that is furthest from it.

    Their setter `layout` is a place in that row, rounded.
    """

    def make(layout: float = 0.0, **kwargs) -> gymnasium.Env:
        return minigrid(ids[round(layout)], **kwargs)

    return EnvFacts(make, goal=0.01, levels=len(ids) - 1)


def _crossing(what: str) -> EnvFacts:
    return layouts(*(f"MiniGrid-{what}Crossing{size}-v0" for size in SIZES))


KNOWN = {
    "CartPole-v1": EnvFacts(cartpole, harmful=True),
    "HalfCheetah-v5": EnvFacts(partial(mujoco, "HalfCheetah-v5"), goal=math.nan),
    "Hopper-v5": EnvFacts(partial(mujoco, "Hopper-v5"), harmful=True, goal=math.nan),
    "LunarLander-v3": EnvFacts(lunar_lander),
    "MiniGrid-DistShift1-v0": layouts("MiniGrid-DistShift1-v0", "MiniGrid-DistShift2-v0"),
    "MiniGrid-LavaCrossingS9N1-v0": _crossing("Lava"),
    "MiniGrid-SimpleCrossingS9N1-v0": _crossing("Simple"),
    "Pendulum-v1": EnvFacts(pendulum),
    "highway-fast-v0": EnvFacts(partial(highway, "highway-fast-v0"), harmful=True, levels=1),
    "highway-v0": EnvFacts(partial(highway, "highway-v0"), harmful=True, levels=1),
}


def env_facts(id: str) -> EnvFacts:
    """What is known of an id, which may begin with the module that registers it and a colon.

    Raises:
        ValueError: if gymnasium has no such id, naming the nearest; or if its package is missing.
    """
    module, _, name = id.rpartition(":")
    module = module or next((PACKAGES[start] for start in PACKAGES if name.startswith(start)), "")
    if module:
        _import(module)
    if name in KNOWN:
        return KNOWN[name]
    if name not in gymnasium.registry:
        names = {known.lower(): known for known in (*gymnasium.registry, *SUITES)}
        close = difflib.get_close_matches(name.lower(), names, 1)
        hint = f"did you mean {names[close[0]]}?" if close else "see gymnasium.registry"
        raise ValueError(f"unknown environment {id!r}; {hint}")
    if name.startswith("MiniGrid"):
        return EnvFacts(partial(minigrid, id), goal=0.01)
    return EnvFacts(partial(gymnasium.make, id))


def _import(module: str) -> None:
    """Imports a module that registers environments."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} is missing: pip install -e '.[hosts]' ({error})") from None
