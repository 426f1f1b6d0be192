"""A condition under `vmap`: what it guards is computed only if it holds in some of the copies."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Leaves = list[jax.Array]


def cond_if_any(condition: jax.Array, change: Callable, state: Any) -> Any:
    """`change(state)` if `condition` [] holds, else `state`.

    `jax.lax.cond` computes both under `vmap`. Seeds that are trained side by side agree when heads
    are to learn; for them this computes the change only then. Copies whose condition does not hold
    keep their state.

    Args:
        condition: bool [].
        change: a pure function of a state to one of the same structure.
        state: a pytree of arrays.
    """
    leaves, structure = jax.tree.flatten(state)

    def change_leaves(leaves: Leaves) -> Leaves:
        return jax.tree.leaves(change(jax.tree.unflatten(structure, leaves)))

    return jax.tree.unflatten(structure, _guarded(change_leaves)(condition, leaves))


def _guarded(change: Callable[[Leaves], Leaves]) -> Callable:
    """Function of a condition and leaves, with a rule of its own for `vmap`."""
    guarded = custom_vmap(partial(_cond, change))
    guarded.def_vmap(partial(_cond_of_copies, change))
    return guarded


def _cond(change: Callable, condition: jax.Array, leaves: Leaves) -> Leaves:
    """The leaves, changed if the condition holds."""
    return jax.lax.cond(condition, change, list, leaves)


def _cond_of_copies(
    change: Callable, size: int, batched: list, condition: jax.Array, leaves: Leaves
) -> tuple[Leaves, list[bool]]:
    """Rule for `vmap` over `size` copies -> (leaves, which of them differ between copies: all)."""
    conditions = copies(size, batched[0], condition)
    states = [copies(size, *pair) for pair in zip(batched[1], leaves, strict=True)]
    changed = _guarded(partial(_change_some, change))(conditions.any(), [conditions, *states])[1:]
    return changed, [True] * len(changed)


def _change_some(change: Callable, leaves: Leaves) -> Leaves:
    """Changes the copies whose condition, the first leaf [copies], holds."""
    conditions, *states = leaves
    changed = jax.vmap(change)(states)

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(conditions.reshape(conditions.shape + (1,) * (old.ndim - 1)), new, old)

    return [conditions, *map(pick, changed, states)]


def copies(size: int, batched: bool, leaf: jax.Array) -> jax.Array:
    """An array [size, ...]: the leaf itself if it is batched, else copies of it."""
    return leaf if batched else jnp.broadcast_to(leaf, (size, *jnp.shape(leaf)))
