"""Environments and their distribution shifts. Importing this package does not import jax.

The import registers every world with gymnasium, so that
`gymnasium.make("envs:affect/CartPole-v0")` works wherever this checkout is on the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from envs.suite import Suite

WORLDS = {
    "affect/Acrobot-v0": "envs.worlds.classic.acrobot:Acrobot",
    "affect/BoatRace-v0": "envs.worlds.proxy.boat_race:BoatRace",
    "affect/Button-v0": "envs.worlds.proxy.button:Button",
    "affect/CartPole-v0": "envs.worlds.classic.cartpole:CartPole",
    "affect/Coin-v0": "envs.worlds.grid.grid:Coin",
    "affect/Corridor-v0": "envs.worlds.theory.corridor:Corridor",
    "affect/DeepSea-v0": "envs.worlds.theory.deep_sea:DeepSea",
    "affect/Drift-v0": "envs.worlds.theory.drift:Drift",
    "affect/Drive-v0": "envs.worlds.drive.drive:Drive",
    "affect/FoodShare-v0": "envs.worlds.theory.food_share:FoodShare",
    "affect/Gamble-v0": "envs.worlds.theory.gamble:Gamble",
    "affect/HungryThirsty-v0": "envs.worlds.theory.hungry_thirsty:HungryThirsty",
    "affect/Keys-v0": "envs.worlds.grid.grid:Keys",
    "affect/Lava-v0": "envs.worlds.grid.grid:Grid",
    "affect/MountainCar-v0": "envs.worlds.classic.mountain_car:MountainCar",
    "affect/Pendulum-v0": "envs.worlds.classic.pendulum:Pendulum",
    "affect/Ponder-v0": "envs.worlds.theory.ponder:Ponder",
    "affect/Share-v0": "envs.worlds.share.share:Share",
    "affect/Timid-v0": "envs.worlds.drive.drive:Timid",
    "affect/Tomatoes-v0": "envs.worlds.proxy.tomatoes:Tomatoes",
}
"""Gymnasium id -> the class of a jitted world, imported on first use."""

SUITES = {
    "Acrobot": "envs.worlds.classic.acrobot:suite",
    "BoatRace": "envs.worlds.proxy.boat_race:suite",
    "Button": "envs.worlds.proxy.button:suite",
    "CartPole": "envs.worlds.classic.cartpole:suite",
    "Coin": "envs.worlds.grid.grid:coin_suite",
    "DeepSea": "envs.worlds.theory.deep_sea:suite",
    "Drive": "envs.worlds.drive.shifts:suite",
    "FoodShare": "envs.worlds.theory.food_share:suite",
    "Gamble": "envs.worlds.theory.gamble:suite",
    "HungryThirsty": "envs.worlds.theory.hungry_thirsty:suite",
    "Keys": "envs.worlds.grid.grid:keys_suite",
    "Lava": "envs.worlds.grid.grid:lava_suite",
    "MountainCar": "envs.worlds.classic.mountain_car:suite",
    "Pendulum": "envs.worlds.classic.pendulum:suite",
    "Share": "envs.worlds.share.share:suite",
    "Timid": "envs.worlds.drive.shifts:timid_suite",
    "Tomatoes": "envs.worlds.proxy.tomatoes:suite",
}
"""Name -> the function that makes the suite, imported on first use."""

SEALED = {"Drive": "envs.worlds.drive.sealed:sealed_suite"}
"""Name -> the function that makes the suite of sealed shifts, which `load_suite` does not know."""

ADAPTERS = {
    "craftax": "envs.adapters.craftax:suite",
    "gymnax": "envs.adapters.gymnax:suite",
    "navix": "envs.adapters.navix:suite",
}
"""Prefix -> the function that makes the suite of `prefix:id`, a third-party jitted environment."""

for _id, _entry in WORLDS.items():
    gymnasium.register(
        _id,
        entry_point="envs.adapters.gymnasium_env:WorldEnv",
        vector_entry_point="envs.adapters.gymnasium_vector:WorldVectorEnv",
        kwargs={"env": _entry},
    )


def import_entry(entry: str) -> Any:
    """Imports the object at "module:name", such as "envs.worlds.classic.cartpole:CartPole"."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


def is_jitted(name: str) -> bool:
    """Whether this is the name of a jitted suite: of SUITES, or a prefix of ADAPTERS and an id."""
    prefix, colon, _ = name.partition(":")
    return name in SUITES or (bool(colon) and prefix in ADAPTERS)


def load_suite(
    env: Any,
    shifts: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    reproducible: bool = True,
    workers: int | None = None,
    timeout: float = 60.0,
    image: str | None = None,
    reader: Any = None,
) -> Suite:
    """Makes the suite of an environment: its training world and its shifts.

    Args:
        env: one of SUITES, such as "CartPole"; a third-party jitted environment, such as
            "gymnax:CartPole-v1"; a gymnasium id, such as "LunarLander-v3", or
            "module:LunarLander-v3" for one that this module registers; a class or function in a
            file, "path/to/file.py:Class"; an environment, its class or a function that makes it,
            of gymnasium or an `envs.world.Env`.
        shifts: that agents are scored under (`envs.shift`); None for those that come with it, and
            of your own environment for those of sensors and actuators.
        kwargs: arguments with which the environment is made.
        reproducible: False for a gymnasium environment that cannot be seeded; its runs are then
            resumed with new episodes, and not bit for bit.
        workers: processes that step a gymnasium environment, 0 for this one; None to choose by
            its speed. It changes no result.
        timeout: seconds that one call of a gymnasium environment, or of a constructor in a file,
            may take.
        image: what the image of a gymnasium environment is taken for, "pixels", "symbols" or
            "numbers"; None to decide by its space (`envs.host.images`).
        reader: function from images [T, B, H, W, C] of bytes to features [T, B, F] that heads read;
            None for symbols as they are, or a frozen random convolution of pixels.

    Raises:
        ValueError: for an unknown name (the message lists similar names), a package that is not
            installed, spaces that are not supported, or an environment that breaks its contract.
    """
    from dataclasses import replace

    check = import_entry("envs.suite:checked_shifts")
    shifts = check(shifts, kwargs, reproducible, workers, timeout)
    host_options = kwargs, reproducible, workers, timeout, image, reader
    if not isinstance(env, str) or ".py:" in env:
        return import_entry("envs.own:own_suite")(env, shifts, *host_options)
    if is_jitted(env) and kwargs:
        raise ValueError(f"{env} is made without kwargs; give a class of your own with defaults")
    if is_jitted(env) and workers is not None:
        raise ValueError(f"{env} is jitted: no worker process steps it; leave out workers")
    if is_jitted(env) and (image is not None or reader is not None):
        raise ValueError(f"{env} is jitted and observes no image; leave out image and reader")
    if env in SUITES:
        suite = import_entry(SUITES[env])()
    elif is_jitted(env):
        prefix, _, id = env.partition(":")
        suite = import_entry(ADAPTERS[prefix])(id)
    else:
        host_suite = import_entry("envs.host.suite:host_suite")
        return host_suite(env, None, shifts, *host_options)
    return suite if shifts is None else replace(suite, shifts=shifts)


def load_sealed_suite(name: str, digest: str) -> Suite:
    """Makes a suite of sealed shifts, for a study that has drawn its sealed worlds.

    Args:
        name: one of SEALED.
        digest: of the sealed draw, 64 hexadecimal digits.

    Raises:
        ValueError: for an unknown name, or anything but such a digest.
    """
    sealed_families(name)  # refuses an unknown name
    if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise ValueError(
            f"sealed suite {name}: digest={digest!r}, expected the 64 hexadecimal digits of a "
            "sealed draw; draw the seal first (runs.prereg.seal.draw_sealed)"
        )
    return import_entry(SEALED[name])()


def sealed_families(name: str) -> dict[str, str]:
    """Name of each sealed shift -> its family, for the plan that precedes a sealed draw.

    Raises:
        ValueError: for a name that is not in SEALED.
    """
    if name not in SEALED:
        raise ValueError(f"no sealed suite {name!r}; {closest_names(str(name), SEALED)}")
    return {shift.name: shift.family for shift in import_entry(SEALED[name])().shifts}


def closest_names(name: str, names: Iterable[str]) -> str:
    """Hint that lists the names similar to this one, or all names if none is similar."""
    lower = {item.lower(): item for item in names}
    near = [lower[match] for match in get_close_matches(name.lower(), lower)]
    return (
        f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(lower.values())}"
    )
