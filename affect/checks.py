"""Checks of numbers and of a batch against its spec, and removal of values that are not finite.

Shapes and dtypes are known when a program is traced, so the checks cost nothing once compiled.
"""

import math
import numbers
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax.serialization import register_serialization_state

from affect.transition import Spec, Transition, is_a

KINDS = {jnp.number: "number", jnp.floating: "floating", jnp.integer: "integer", jnp.bool_: "bool"}
LIMIT = 1e6  # largest magnitude of a number that heads take in


def check_finite(what: str, value: float) -> None:
    """Checks that a setting is a finite number.

    Raises:
        ValueError: `what` it is, and the value.
    """
    if not is_a(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{what} of {value}: it is a finite number")


def check_gamma(name: str, gamma: float | None) -> None:
    """Checks a discount; None stands for that of the spec.

    Raises:
        ValueError: it is not in (0, 1].
    """
    if gamma is not None and not (is_a(gamma, numbers.Real) and 0 < gamma <= 1):
        raise ValueError(f"{name} needs a discount in (0, 1], not gamma={gamma}")


@jax.tree_util.register_static
@dataclass(frozen=True)
class Shapes:
    """What a blend was initialised for: the spec, and B = `num_envs` environments."""

    spec: Spec
    num_envs: int


register_serialization_state(Shapes, lambda shapes: {}, lambda shapes, state: shapes)


def check_batch(batch: Transition, shapes: Shapes) -> Transition:
    """Checks shapes and dtypes of a batch -> the batch with the declared keys of `info` alone.

    Checked are: at least one step; obs and next_obs floating [T, B, D]; action integer [T, B] or
    floating [T, B, A]; reward a number [T, B]; terminated, truncated and first bool [T, B]; and
    each key of `spec.info` as an array [T, B, ...] (`body` [T, B, n], `other` a dict of arrays).

    Raises:
        ValueError: naming the field, what was expected and what it is.
    """
    spec, num_envs = shapes.spec, shapes.num_envs
    steps = jnp.shape(batch.reward)[:1] or (0,)
    grid = (steps[0], num_envs)
    if jnp.ndim(batch.reward) == 2 and jnp.shape(batch.reward)[1] != num_envs == steps[0]:
        raise ValueError(f"reward is {_describe(batch.reward)}, [B, T]: swap the axes, time first")
    action_shape = grid if spec.num_actions else (*grid, spec.action_dim)
    kind = jnp.integer if spec.num_actions else jnp.floating
    _check("reward", batch.reward, grid, jnp.number)
    _check("obs", batch.obs, (*grid, spec.obs_dim), jnp.floating)
    _check("next_obs", batch.next_obs, (*grid, spec.obs_dim), jnp.floating)
    _check("action", batch.action, action_shape, kind)
    for name in ("terminated", "truncated", "first"):
        _check(name, getattr(batch, name), grid, jnp.bool_)
    if steps[0] < 1:
        raise ValueError("a batch of 0 steps: it needs at least one")
    if "harm" in batch.info and "harm" not in spec.info:
        raise ValueError('info has "harm" but the Spec does not declare it: add it to Spec.info')
    for key in spec.info:
        if key not in batch.info:
            raise ValueError(f'info has no "{key}", which the Spec declares: report it each step')
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch.info[key]):
            name = f'info["{key}"]{jax.tree_util.keystr(path)}'
            _check(name, leaf, (*grid, *jnp.shape(leaf)[2:]), None)
    if "body" in spec.info and jnp.ndim(batch.info["body"]) != 3:
        raise ValueError(f'info["body"] is {_describe(batch.info["body"])}, expected [T, B, n]')
    declared = {key: batch.info[key] for key in spec.info}
    return batch._replace(reward=jnp.asarray(batch.reward, float), info=declared)


def _check(name: str, x: Any, shape: tuple[int, ...], kind: Any) -> None:
    """Checks that an array has a shape, and a dtype of a kind, unless that is None."""
    if jnp.shape(x) != shape:
        raise ValueError(
            f"{name} is {_describe(x)}, expected {list(shape)}: [T, B, ...], time first, with the "
            "number of environments that the blend was initialised for"
        )
    if kind is not None and not jnp.issubdtype(jnp.result_type(x), kind):
        raise ValueError(f"{name} is {_describe(x)}, expected {KINDS[kind]}: convert it")


def _describe(x: Any) -> str:
    """Dtype and shape of an array."""
    return f"{jnp.result_type(x)}{list(jnp.shape(x))}"


def finite_batch(batch: Transition) -> tuple[Transition, jax.Array]:
    """Sets what is not finite to 0 and clips the rest at +-LIMIT -> (batch, share of such steps).

    So one faulty number cannot make a head's weights or statistics NaN. The share is over steps of
    all environments, [].
    """
    faulty = jnp.zeros(batch.reward.shape, bool)
    for leaf in filter(_is_float, jax.tree.leaves(batch)):
        wrong = ~(jnp.abs(leaf) <= LIMIT)  # true for NaN
        faulty |= wrong.reshape(*faulty.shape, -1).any(-1)

    def repaired(leaf: jax.Array) -> jax.Array:
        if not _is_float(leaf):
            return leaf
        return jnp.clip(jnp.where(jnp.isfinite(leaf), leaf, 0.0), -LIMIT, LIMIT)

    return jax.tree.map(repaired, batch), faulty.mean()


def _is_float(x: jax.Array) -> bool:
    """Whether an array holds floating-point numbers."""
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)
