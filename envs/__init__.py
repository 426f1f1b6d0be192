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

WORLDS = {"affect/CartPole-v0": "envs.cartpole:CartPole"}
"""Gymnasium id -> the class of a jitted world, imported when one is made."""

SUITES = {"CartPole": "envs.cartpole:suite"}
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
