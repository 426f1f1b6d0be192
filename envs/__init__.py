"""Worlds and the shifts they are scored under. Importing this package does not import jax.

The import registers every world with gymnasium, so that
`gymnasium.make("envs:affect/CartPole-v0")` works wherever this checkout is on the path.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from envs.suite import Suite

WORLDS = {
    "affect/Acrobot-v0": "envs.acrobot:Acrobot",
    "affect/BoatRace-v0": "envs.boat_race:BoatRace",
    "affect/Button-v0": "envs.button:Button",
    "affect/CartPole-v0": "envs.cartpole:CartPole",
    "affect/Coin-v0": "envs.grid:Coin",
    "affect/Corridor-v0": "envs.corridor:Corridor",
    "affect/DeepSea-v0": "envs.deep_sea:DeepSea",
    "affect/Drift-v0": "envs.drift:Drift",
    "affect/Drive-v0": "envs.drive:Drive",
    "affect/FoodShare-v0": "envs.food_share:FoodShare",
    "affect/Gamble-v0": "envs.gamble:Gamble",
    "affect/HungryThirsty-v0": "envs.hungry_thirsty:HungryThirsty",
    "affect/Keys-v0": "envs.grid:Keys",
    "affect/Lava-v0": "envs.grid:Grid",
    "affect/MountainCar-v0": "envs.mountain_car:MountainCar",
    "affect/Pendulum-v0": "envs.pendulum:Pendulum",
    "affect/Ponder-v0": "envs.ponder:Ponder",
    "affect/Share-v0": "envs.share:Share",
    "affect/Timid-v0": "envs.drive:Timid",
    "affect/Tomatoes-v0": "envs.tomatoes:Tomatoes",
}
"""Gymnasium id -> the class of a jitted world, imported when one is made."""

SUITES = {
    "Acrobot": "envs.acrobot:suite",
    "BoatRace": "envs.boat_race:suite",
    "Button": "envs.button:suite",
    "CartPole": "envs.cartpole:suite",
    "Coin": "envs.grid:coin",
    "DeepSea": "envs.deep_sea:suite",
    "Drive": "envs.drive_shifts:suite",
    "FoodShare": "envs.food_share:suite",
    "Gamble": "envs.gamble:suite",
    "HungryThirsty": "envs.hungry_thirsty:suite",
    "Keys": "envs.grid:keys",
    "Lava": "envs.grid:lava",
    "MountainCar": "envs.mountain_car:suite",
    "Pendulum": "envs.pendulum:suite",
    "Share": "envs.share:suite",
    "Timid": "envs.drive_shifts:timid",
    "Tomatoes": "envs.tomatoes:suite",
}
"""Name -> the function that makes the suite, imported when it is asked for."""

ADAPTERS = {
    "craftax": "envs.adapters.craftax:suite",
    "gymnax": "envs.adapters.gymnax:suite",
    "navix": "envs.adapters.navix:suite",
}
"""Prefix -> the function that makes the suite of `prefix:id`, anybody's jitted environment."""

for _id, _entry in WORLDS.items():
    gymnasium.register(
        _id,
        entry_point="envs.as_gymnasium:WorldEnv",
        vector_entry_point="envs.as_vector:WorldVectorEnv",
        kwargs={"env": _entry},
    )


def load(entry: str) -> Any:
    """Imports what an entry such as "envs.cartpole:CartPole" names."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


def jitted(name: str) -> bool:
    """Whether `load_suite` makes it: one of SUITES, or an id behind a prefix of ADAPTERS."""
    prefix, colon, _ = name.partition(":")
    return name in SUITES or (bool(colon) and prefix in ADAPTERS)


def load_suite(name: str) -> Suite:
    """Makes a registered suite, such as "CartPole", or an adapted one: "gymnax:CartPole-v1".

    Raises:
        ValueError: if there is none of this name; the nearest ones are named. Or if it is of a
            package that is missing.
    """
    if not jitted(name):
        raise ValueError(f"there is no suite {name!r}; {nearest(name, SUITES)}")
    if name in SUITES:
        return load(SUITES[name])()
    prefix, _, id = name.partition(":")
    return load(ADAPTERS[prefix])(id)


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint at the names that resemble this one, or at all of them if none does."""
    lower = {known.lower(): known for known in names}
    near = [lower[match] for match in get_close_matches(name.lower(), lower)]
    return (
        f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(lower.values())}"
    )
