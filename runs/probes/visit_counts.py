"""What is familiar: visits to coarse cells of the observation.

A cell is a SimHash (Tang et al., 2017): the signs of BITS random projections of the observation,
whitened by what is seen at home. Observations at a small angle from the middle share one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect.moments import Moments, whiten

BITS = 8  # so there are 256 cells


class VisitCounts(NamedTuple):
    """What is familiar: moments of the observation [D], and visits to each cell [2^BITS]."""

    moments: Moments
    visits: jax.Array


def visit_counts(obs: jax.Array, counted: jax.Array) -> VisitCounts:
    """The observations [..., D] that count, as what is to be expected."""
    number = jnp.maximum(counted.sum(), 1).astype(jnp.float32)
    weight = counted.reshape(-1, 1).astype(jnp.float32)
    flat = obs.reshape(-1, obs.shape[-1])
    middle = (weight * flat).sum(0) / number
    m2 = (weight * jnp.square(flat - middle[None])).sum(0)
    moments = Moments(number, middle, m2)
    visits = jnp.zeros(2**BITS).at[visit_cell(moments, flat)].add(weight[:, 0])
    return VisitCounts(moments, visits)


def visit_cell(moments: Moments, obs: jax.Array) -> jax.Array:
    """The number [...] int32 of the cell in which obs [..., D] lies."""
    planes = jax.random.normal(jax.random.key(0), (obs.shape[-1], BITS))
    sides = (whiten(moments, obs, 5.0) @ planes > 0).astype(jnp.int32)
    return sides @ (2 ** jnp.arange(BITS))
