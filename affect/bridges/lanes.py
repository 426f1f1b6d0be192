"""Functions of all environments at once, called from within a `vmap` over environments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.custom_batching import custom_vmap

from affect.bridges.vmap_cond import copies


def over_lanes(
    function: Callable, num_envs: int | None, lane: Any, shared: Any, params: Any
) -> tuple[Any, Any]:
    """Calls a function of B environments once, where a loop maps over one environment.

    `function(lanes, shared, params, axes)` gets the lanes [B, ...] of all environments and one copy
    of what they share, and returns both, changed. `axes` says for each leaf of params whether it
    differs between environments (0) or not (None). Further `vmap`s outside, as over seeds, act as
    usual.

    Args:
        function: of B environments.
        num_envs: B; None for a single environment without a `vmap` of its own.
        lane: of one environment.
        shared: the same for all.
        params: of the environment; leaves that are no arrays stay Python numbers.

    Returns:
        (lane, shared).

    Raises:
        ValueError: another number of environments than B is mapped over.
    """
    leaves, structure = jax.tree.flatten(params)
    is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
    arrays = [leaf for leaf, known in zip(leaves, is_array, strict=True) if known]

    def call(lanes: Any, shared: Any, arrays: list, batched: list[bool]) -> tuple[Any, Any]:
        rest, flags = iter(arrays), iter(batched)
        pairs = [
            (next(rest), 0 if next(flags) else None) if known else (leaf, None)
            for leaf, known in zip(leaves, is_array, strict=True)
        ]
        full = jax.tree.unflatten(structure, [leaf for leaf, _ in pairs])
        axes = [axis for _, axis in pairs]
        tree = jax.tree.unflatten(structure, axes) if any(x == 0 for x in axes) else None
        return function(lanes, shared, full, tree)

    alone = partial(_alone, call, num_envs or 1)
    if num_envs is None:
        return alone(lane, shared, arrays)
    mapped = custom_vmap(alone)
    mapped.def_vmap(partial(_together, call, num_envs))
    return mapped(lane, shared, arrays)


def _alone(call: Callable, count: int, lane: Any, shared: Any, arrays: list) -> tuple[Any, Any]:
    """Results of one environment that is not mapped over: all lanes are equal to it."""
    lanes = jax.tree.map(lambda leaf: copies(count, False, leaf), lane)
    lanes, shared = call(lanes, shared, arrays, [False] * len(arrays))
    return jax.tree.map(lambda leaf: leaf[0], lanes), shared


def _together(
    call: Callable, count: int, size: int, batched: list, lane: Any, shared: Any, arrays: list
) -> tuple[Any, Any]:
    """Rule for `vmap` over environments -> (results, which of them differ between them)."""
    if size != count:
        raise ValueError(
            f"a vmap over {size} environments, and AffectEnv was made with num_envs={count}: give "
            f"it num_envs={size}, or to evaluate use the environment without signals, env.task"
        )
    lane_flags, shared_flags, array_flags = batched
    lanes = jax.tree.map(lambda leaf, mapped: copies(size, mapped, leaf), lane, lane_flags)
    shared = jax.tree.map(lambda leaf, mapped: leaf[0] if mapped else leaf, shared, shared_flags)
    lanes, shared = call(lanes, shared, arrays, list(array_flags))
    flags = jax.tree.map(lambda _: True, lanes), jax.tree.map(lambda _: False, shared)
    return (lanes, shared), flags
