"""Checks of numbers and of a batch against its spec, and removal of values that are not finite.

Shapes and dtypes are known when a program is traced, so the checks cost nothing once compiled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax.serialization import register_serialization_state

from affect.transition import Spec, Transition, is_a, is_number, one_line

KINDS = {
    "number": (jnp.floating, jnp.integer),
    "number or bool": (jnp.floating, jnp.integer, jnp.bool_),
    "floating": (jnp.floating,),
    "integer": (jnp.integer,),
    "uint8": (jnp.uint8,),
    "bool": (jnp.bool_,),
}
LIMIT = 1e6  # largest magnitude of a number that heads take in, and of a setting


def check_finite(what: str, value: float) -> None:
    """Checks that a setting is a finite number, of at most LIMIT in magnitude.

    Raises:
        ValueError: `what` it is, and the value.
    """
    if not is_number(value) or not abs(value) <= LIMIT:
        raise ValueError(
            f"{what} of {one_line(value)}: it is a finite number, at most {LIMIT:g} in size"
        )


def check_gamma(name: str, gamma: float | None) -> None:
    """Checks a discount; None stands for that of the spec.

    Raises:
        ValueError: it is not in (0, 1].
    """
    if gamma is not None and not (is_number(gamma) and 0 < gamma <= 1):
        raise ValueError(f"{name} needs a discount in (0, 1], not gamma={gamma}")


def check_spec(spec: Any) -> None:
    """Checks that a spec is one; raises a ValueError naming what it is instead."""
    if not is_a(spec, Spec):
        raise ValueError(f"spec is {one_line(spec)}, expected affect.Spec(obs_dim, num_actions)")


def check_key(key: Any) -> None:
    """Checks that a key is a single one; raises a ValueError naming what it is instead."""
    is_key = jnp.issubdtype(getattr(key, "dtype", bool), jax.dtypes.prng_key)
    old_style = getattr(key, "dtype", None) == jnp.uint32 and key.ndim == 1
    if not old_style and not (is_key and key.ndim == 0):
        raise ValueError(f"key is {one_line(key)}, expected one key, as of jax.random.key(0)")


@jax.tree_util.register_static
@dataclass(frozen=True)
class Shapes:
    """What a blend was initialised for: the spec, B = `num_envs` environments, names in order."""

    spec: Spec
    num_envs: int
    names: tuple[str, ...]


register_serialization_state(Shapes, lambda shapes: {}, lambda shapes, state: shapes)


def check_batch(batch: Transition, shapes: Shapes) -> Transition:
    """Checks shapes and dtypes of a batch -> the batch with the declared keys of `info` alone.

    Checked are: at least one step; obs and next_obs floating [T, B, D], or bytes of an image;
    action integer [T, B], or [T, B, n] of n choices, or floating [T, B, A]; reward a number [T, B];
    terminated, truncated and first bool [T, B]; and each key of `spec.info` as an array [T, B, ...]
    (`body` [T, B, n], `other` a dict of arrays).

    Raises:
        ValueError: naming the field, what was expected and what it is.
    """
    if not is_a(batch, Transition):
        raise ValueError(f"a batch is an affect.Transition, not a {type(batch).__name__}")
    if not is_a(batch.info, Mapping):
        raise ValueError(f"info is {one_line(batch.info)}, expected a dict, {{}} if it is empty")
    spec, num_envs = shapes.spec, shapes.num_envs
    reward_shape: Any = getattr(batch.reward, "shape", ())
    steps: Any = reward_shape[0] if reward_shape else "T"
    grid = (steps, num_envs)
    if len(reward_shape) == 2 and reward_shape[1] != num_envs == steps:
        raise ValueError(f"reward is {one_line(batch.reward)}, [B, T]: swap the axes, time first")
    kind = "floating" if spec.image is None else "uint8"
    _check("reward", batch.reward, grid, "number")
    _check("obs", batch.obs, (*grid, spec.row), kind)
    _check("next_obs", batch.next_obs, (*grid, spec.row), kind)
    kind = "integer" if spec.choices else "floating"
    _check("action", batch.action, (*grid, *spec.action_shape), kind)
    for name in ("terminated", "truncated", "first"):
        _check(name, getattr(batch, name), grid, "bool")
    if steps < 1:
        raise ValueError("a batch of 0 steps: it needs at least one")
    if "harm" in batch.info and "harm" not in spec.info:
        raise ValueError('info has "harm" but the Spec does not declare it: add it to Spec.info')
    declared = {}
    for key in spec.info:
        if key not in batch.info:
            raise ValueError(f'info has no "{key}", which the Spec declares: report it each step')
        declared[key] = value = batch.info[key]
        if key in ("harm", "body"):
            sizes: Any = getattr(value, "shape", ())
            last = () if key == "harm" else (sizes[2:3] if any(sizes[2:3]) else ("n",))
            _check(f'info["{key}"]', value, (*grid, *last), "number or bool")
        for path, leaf in jax.tree_util.tree_leaves_with_path(value, is_leaf=lambda x: x is None):
            name, trailing = f'info["{key}"]{jax.tree_util.keystr(path)}', jnp.shape(leaf)[2:]
            _check(name, leaf, (*grid, *trailing), "number or bool")
    dtype = jnp.promote_types(batch.obs.dtype, jnp.float32)  # float32 of bytes too
    return batch._replace(reward=jnp.asarray(batch.reward, dtype), info=declared)


def check_returned(
    what: str, returned: Any, shape: tuple[int, ...], second: Any = object
) -> tuple[jax.Array, Any]:
    """Checks that a head returned (signal [T, B], state), or its loss (number [], metrics) -> both.

    Raises:
        ValueError: naming the head and what it returned.
    """
    pair = is_a(returned, tuple) and len(returned) == 2 and is_a(returned[1], second)
    first = returned[0] if pair else None
    actual = getattr(first, "shape", () if is_number(first) else None)
    if actual != shape or jnp.iscomplexobj(first):
        got = ", ".join(map(one_line, returned)) if is_a(returned, tuple) else one_line(returned)
        expected = (
            f"signal {list(shape)}, state" if second is object else "number [], dict of metrics"
        )
        raise ValueError(f"{what} returned {got}, expected ({expected})")
    return returned


def _check(name: str, x: Any, shape: tuple[int | str, ...], kind: str) -> None:
    """Checks that an array has a shape, and a dtype of a kind."""
    if not hasattr(x, "dtype") or x.shape != shape:
        raise ValueError(
            f"{name} is {one_line(x)}, expected [{', '.join(map(str, shape))}]: an array [T, B, "
            "...], time first, with the number of environments that the blend was initialised for"
        )
    if not any(jnp.issubdtype(x.dtype, scalar) for scalar in KINDS[kind]):
        raise ValueError(f"{name} is {one_line(x)}, expected {kind}: convert it")


def only_finite(x: jax.Array) -> jax.Array:
    """The array with 0 for what is NaN or infinite in it."""
    return jnp.where(jnp.isfinite(x), x, 0.0)


def finite_batch(batch: Transition) -> tuple[Transition, jax.Array]:
    """Sets what is not finite to 0 and clips the rest at +-LIMIT -> (batch, such steps [T, B]).

    So one faulty number cannot make a head's weights or statistics NaN.
    """
    faulty = jnp.zeros(batch.reward.shape, bool)
    for leaf in filter(_is_float, jax.tree.leaves(batch)):
        wrong = ~(jnp.abs(leaf) <= LIMIT)  # true for NaN
        faulty |= wrong.reshape(*faulty.shape, -1).any(-1)

    def repaired(leaf: jax.Array) -> jax.Array:
        if not _is_float(leaf):
            return leaf
        return jnp.clip(only_finite(leaf), -LIMIT, LIMIT)

    return jax.tree.map(repaired, batch), faulty


def _is_float(x: jax.Array) -> bool:
    """Whether an array holds floating-point numbers."""
    return jnp.issubdtype(x.dtype, jnp.floating)
