"""Checks of a saved state of signals against the wrapper that is to continue from it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

STEPS = ("first", "ended", "obs")  # arrays beside the leaves, which are numbered


def check_same(path: Any, saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Checks that a file is of a wrapper like this one; ValueError naming the first difference."""
    for name, value in here.items():
        if saved.get(name) != value:
            raise ValueError(
                f"{path} is of a wrapper with {name} {saved.get(name)}, and this one has {value}: "
                "make it with the blend and the settings that were saved"
            )


def restored(
    path: Any, arrays: Mapping[str, np.ndarray], leaves: list[jax.Array]
) -> list[jax.Array]:
    """The leaves of a file, of the shapes and dtypes of those here.

    Raises:
        ValueError: they are others.
    """
    expected = {f"{i:04}": (leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)}
    numbered = {name: array for name, array in arrays.items() if name not in STEPS}
    if expected != {name: (array.shape, array.dtype) for name, array in numbered.items()}:
        raise ValueError(
            f"{path} has other arrays than this wrapper: make it with the blend that was saved"
        )
    return [jnp.array(arrays[name], copy=True) for name in expected]
