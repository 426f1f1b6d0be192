"""Worlds and the shifts they are scored under. Importing this package does not import jax.

The import registers every world with gymnasium, so that
`gymnasium.make("envs:affect/CartPole-v0")` works wherever this checkout is on the path.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from envs.suite import Suite

WORLDS = {
    "affect/CartPole-v0": "envs.cartpole:CartPole",
    "affect/Corridor-v0": "envs.corridor:Corridor",
    "affect/DeepSea-v0": "envs.deep_sea:DeepSea",
    "affect/Drift-v0": "envs.drift:Drift",
    "affect/Drive-v0": "envs.drive:Drive",
    "affect/FoodShare-v0": "envs.food_share:FoodShare",
    "affect/Gamble-v0": "envs.gamble:Gamble",
    "affect/HungryThirsty-v0": "envs.hungry_thirsty:HungryThirsty",
    "affect/Ponder-v0": "envs.ponder:Ponder",
    "affect/Timid-v0": "envs.drive:Timid",
}
"""Gymnasium id -> the class of a jitted world, imported when one is made."""

SUITES = {
    "CartPole": "envs.cartpole:suite",
    "DeepSea": "envs.deep_sea:suite",
    "Drive": "envs.drive_shifts:suite",
    "FoodShare": "envs.food_share:suite",
    "Gamble": "envs.gamble:suite",
    "HungryThirsty": "envs.hungry_thirsty:suite",
    "Timid": "envs.drive_shifts:timid",
}
"""Name -> the function that makes the suite, imported when it is asked for."""

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


def load_suite(name: str) -> Suite:
    """Makes a registered suite.

    Raises:
        ValueError: if there is none of this name; the nearest ones are named.
    """
    if name not in SUITES:
        lower = {known.lower(): known for known in SUITES}
        near = [lower[match] for match in get_close_matches(name.lower(), lower)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(SUITES)}"
        raise ValueError(f"there is no suite {name!r}; {hint}")
    return load(SUITES[name])()
