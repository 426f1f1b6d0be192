"""Flatten pytrees and stack scalar metrics, so that calls of jitted functions cost less time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@partial(jax.tree_util.register_dataclass, data_fields=("leaves",), meta_fields=("structure",))
@dataclass(frozen=True)
class Flat:
    """A tree as the list of its leaves: jax finds those of Flax modules in Python, at each call.

    Attributes:
        leaves: of the tree.
        structure: of the tree; the same object in all calls, since comparing equal ones takes long.
    """

    leaves: list[jax.Array]
    structure: Any

    @property
    def tree(self) -> Any:
        """The tree."""
        return jax.tree.unflatten(self.structure, self.leaves)

    def of(self, tree: Any) -> "Flat":
        """Another tree of this structure."""
        return Flat(jax.tree.leaves(tree), self.structure)


def flat(tree: Any) -> Flat:
    """A tree as the list of its leaves."""
    return Flat(*jax.tree.flatten(tree))


@partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("names",))
@dataclass(frozen=True)
class Packed:
    """Numbers by name in one array.

    Attributes:
        names: of the M numbers.
        values: [..., M], float32.
    """

    names: tuple[str, ...]
    values: jax.Array


def pack(numbers: Mapping[str, jax.Array]) -> Packed:
    """Pack numbers [] by name; booleans become 0 or 1."""
    values = [jnp.asarray(value, jnp.float32) for value in numbers.values()]
    return Packed(tuple(numbers), jnp.stack(values))


def unpack(updates: Sequence[Packed]) -> dict[str, np.ndarray]:
    """Numbers by name, [S, U] each, of S seeds in U updates, packed with the same names."""
    values = np.stack([np.asarray(update.values) for update in updates], 1)
    return dict(zip(updates[0].names, np.moveaxis(values, -1, 0), strict=True))
