"""Table of gymnasium environments whose physics can be set: add one here; imports no jax.

The float keyword parameters of a constructor are its declared setters: the physics that a shift may
change. An id that is not listed in KNOWN, or that a user's module registers anew, is made by
`gymnasium.make` and has no setters.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import gymnasium

from envs import SUITES, is_jitted
from envs.host import envpool_env
from envs.host.user_code import check_file, import_module

LOG = logging.getLogger(__name__)
DRIVERS = ("IDMVehicle", "AggressiveVehicle")
SIZES = ("S9N1", "S9N2", "S9N3", "S11N5")  # MiniGrid crossings: S = cells on a side, N = rivers
PACKAGES = {
    "BabyAI": "minigrid",
    "MiniGrid": "minigrid",
    "highway": "highway_env",
}  # id prefix -> package that registers it
BUILT_IN = {"envs", "gymnasium", *PACKAGES.values()}  # packages whose ids are made as listed here

make = partial(gymnasium.make, disable_env_checker=True)  # `envs.host.probe` checks more


class EnvFacts(NamedTuple):
    """Constructor, harm, success threshold and number of severities of a gymnasium environment.

    Attributes:
        make: makes the environment; its float keyword parameters are the declared setters.
        harmful: whether every termination counts as harm, whatever its reward.
        goal: the return from which an episode is a success; None for the declared
            `reward_threshold`, NaN if there is no success and the return itself is the score.
        levels: number of severities that are scored, evenly spaced up to 1. A shift through a row
            of layouts has one for each layout after the first.
    """

    make: Callable[..., gymnasium.Env]
    harmful: bool = False
    goal: float | None = None
    levels: int = 2

    @property
    def setters(self) -> dict[str, float]:
        """Name -> default value of every declared setter."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if isinstance(p.default, float)}

    def with_floats(self, kwargs: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Arguments with floats in place of the other numbers that are given to setters.

        Raises:
            ValueError: for a setter that is given no number; the message begins with `name`.
        """
        floats = {key: kwargs[key] for key in self.setters if key in kwargs}
        for key, value in floats.items():
            if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
                raise ValueError(f"{name}: kwargs have {key}={value!r}, expected a number")
            floats[key] = float(value)
        return {**kwargs, **floats}

    @property
    def drops_text(self) -> bool:
        """Whether the text of its observations, the mission of MiniGrid, is dropped."""
        return getattr(self.make, "func", None) is minigrid


def cartpole(
    force: float = 10.0, half_length: float = 0.5, pole_mass: float = 0.1, **kwargs
) -> gymnasium.Env:
    """Makes `CartPole-v1` with this physics; the constants that it caches are recomputed.

    Units: N, m, kg.
    """
    env = make("CartPole-v1", **kwargs)
    inner = env.unwrapped
    inner.force_mag, inner.length, inner.masspole = force, half_length, pole_mass
    inner.total_mass = inner.masscart + pole_mass
    inner.polemass_length = pole_mass * half_length
    return env


def lunar_lander(gravity: float = -10.0, wind: float = 0.0, **kwargs) -> gymnasium.Env:
    """Makes `LunarLander-v3`; gravity in (-12, 0) m/s^2, wind power in [0, 20]."""
    physics = {"gravity": gravity, "enable_wind": wind > 0, "wind_power": wind}
    return make("LunarLander-v3", **physics, **kwargs)


def pendulum(
    gravity: float = 10.0, mass: float = 1.0, length: float = 1.0, **kwargs
) -> gymnasium.Env:
    """Makes `Pendulum-v1` with gravity in m/s^2, mass in kg and length in m."""
    env = make("Pendulum-v1", g=gravity, **kwargs)
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
    """Makes a MuJoCo environment; gravity in m/s^2, the other parameters are factors.

    `mass` multiplies mass and inertia of every body, `friction` that of every surface and `gear`
    the torque of every motor. The constants that the compiled model derives from them are
    recomputed; otherwise a heavier body would keep the contact forces of a light one.
    """
    from mujoco import mj_setConst, set_mju_user_warning

    set_mju_user_warning(LOG.info)  # by default they go to a file in the working directory
    env = make(id, **kwargs)
    model = env.unwrapped.model
    model.opt.gravity[2] = gravity
    model.body_mass *= mass
    model.body_inertia *= mass
    model.geom_friction *= friction
    model.actuator_gear *= gear
    mj_setConst(model, env.unwrapped.data)
    return env


def highway(id: str, aggressive: float = 0.0, density: float = 1.0, **kwargs) -> gymnasium.Env:
    """Makes a highway-env environment; `density` is a factor on the number of vehicles per metre.

    All other drivers are aggressive if `aggressive` rounds to 1. The simulator runs at 3 to 30
    steps/s: enough to score a few episodes of a briefly trained agent, too slow for long training.
    """
    config = {
        "other_vehicles_type": f"highway_env.vehicle.behavior.{DRIVERS[round(aggressive)]}",
        "vehicles_density": density,
    }
    return make(id, config=config, **kwargs)


def minigrid(id: str, **kwargs) -> gymnasium.Env:
    """Makes a MiniGrid environment that observes the 7 x 7 cells before the agent, without text."""
    import minigrid.wrappers

    return minigrid.wrappers.ImgObsWrapper(make(id, **kwargs))


def layouts(*ids: str) -> EnvFacts:
    """Facts of a MiniGrid environment whose setter `layout`, rounded, is an index into `ids`.

    The first id is the one to train in, the last one the strongest shift.
    """

    def make_layout(layout: float = 0.0, **kwargs) -> gymnasium.Env:
        return minigrid(ids[round(layout)], **kwargs)

    return EnvFacts(make_layout, goal=0.01, levels=len(ids) - 1)


def _crossing(kind: str) -> EnvFacts:
    """Facts of the MiniGrid crossings of one kind, "Lava" or "Simple", in order of SIZES."""
    return layouts(*(f"MiniGrid-{kind}Crossing{size}-v0" for size in SIZES))


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
    """Facts of the environment `id`, written "Name-v0", "module:Name-v0" or "envpool:Name-v0".

    Raises:
        ValueError: if gymnasium has no such id (the message gives the nearest one), or if its
            package is missing.
    """
    module, _, name = id.rpartition(":")
    if f"{module}:" == envpool_env.PREFIX:
        envpool_env.check_task(name)
        facts = KNOWN.get(name, EnvFacts(gymnasium.make))
        return facts._replace(make=partial(envpool_env.EnvPoolEnv, name), levels=2)
    _import_package(module, name)
    built_in = name in gymnasium.registry and is_built_in(name)
    if built_in and name in KNOWN:
        return KNOWN[name]
    if name not in gymnasium.registry and name.endswith(".py"):
        raise ValueError(f"{id} is a file: write {id}:Class, for a class or function in it")
    if name not in gymnasium.registry:
        names = {entry.lower(): entry for entry in (*gymnasium.registry, *SUITES)}
        close = difflib.get_close_matches(name.lower(), names, 1)
        known = f"there are {', '.join(SUITES)}, and the ids of gymnasium.registry"
        hint = f"did you mean {names[close[0]]}?" if close else known
        raise ValueError(f"unknown environment {id!r}; {hint}")
    if built_in and _registering_package(name) == "minigrid":
        return EnvFacts(partial(minigrid, id), goal=0.01)
    return EnvFacts(partial(make, id))


def is_built_in(id: str) -> bool:
    """Whether an id is registered by a package of BUILT_IN, and not by a user's module."""
    return _registering_package(id.rpartition(":")[2]) in BUILT_IN


def check_env(env: str) -> None:
    """Checks that an environment id or file exists, without importing jax.

    Raises:
        ValueError: naming the nearest ids, or the package or file that is missing.
    """
    if ".py:" in env:
        check_file(env)
    elif not is_jitted(env):
        env_facts(env)


def _registering_package(name: str) -> str:
    """Top-level package of the constructor that is registered under a name; "" if there is none."""
    entry = getattr(gymnasium.registry.get(name), "entry_point", None)
    module = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return module.partition(":")[0].partition(".")[0]


def _import_package(module: str, name: str) -> None:
    """Imports the module that registers a name: the given one, or that of a prefix of PACKAGES."""
    prefix = next((prefix for prefix in PACKAGES if name.startswith(prefix)), "")
    package = PACKAGES.get(prefix, "")
    if not module and _registering_package(name) in ("", package):
        module = package
    if module in PACKAGES.values():
        import_module(module, "pip install -e '.[hosts]'")
    elif module:
        import_module(module)
