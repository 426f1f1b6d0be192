"""Visit counts of coarse observation cells, a measure of how familiar a state is.

A cell is a SimHash (Tang et al., 2017): the signs of BITS random projections of the observation,
whitened by its moments in the unshifted world. Observations at a small angle from the mean share a
cell.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect.moments import Moments, whiten

BITS = 8  # so there are 256 cells


class VisitCounts(NamedTuple):
    """Moments of the observation [D], and number of visits to each cell [2^BITS]."""

    moments: Moments
    visits: jax.Array


def visit_counts(obs: jax.Array, counted: jax.Array) -> VisitCounts:
    """Moments and visit counts of the observations [..., D] where counted [...]."""
    number = jnp.maximum(counted.sum(), 1).astype(jnp.float32)
    weight = counted.reshape(-1, 1).astype(jnp.float32)
    flat = obs.reshape(-1, obs.shape[-1])
    mean = (weight * flat).sum(0) / number
    m2 = (weight * jnp.square(flat - mean[None])).sum(0)
    moments = Moments(number, mean, m2)
    visits = jnp.zeros(2**BITS).at[visit_cell(moments, flat)].add(weight[:, 0])
    return VisitCounts(moments, visits)


def visit_cell(moments: Moments, obs: jax.Array) -> jax.Array:
    """Index [...] int32 of the cell that contains obs [..., D]."""
    planes = jax.random.normal(jax.random.key(0), (obs.shape[-1], BITS))
    sides = (whiten(moments, obs, 5.0) @ planes > 0).astype(jnp.int32)
    return sides @ (2 ** jnp.arange(BITS))
