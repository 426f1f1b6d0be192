"""Running mean and variance as explicit state; one chunk gives the same as its single steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Moments(NamedTuple):
    """Number [], mean [*shape] and summed squared deviation [*shape] of the values so far."""

    number: jax.Array
    mean: jax.Array
    m2: jax.Array

    @property
    def variance(self) -> jax.Array:
        """Biased variance [*shape]; 0 before the first value."""
        number = jnp.expand_dims(self.number, range(self.number.ndim, self.m2.ndim))
        return self.m2 / jnp.maximum(number, 1.0)


def empty_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Moments of no values, of shape [*shape]."""
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def running_moments(moments: Moments, x: jax.Array) -> tuple[Moments, Moments]:
    """Adds x [T, B, *shape] -> (moments after each step [T, ...], moments after the last).

    The parallel update of Chan, Golub & LeVeque (1983, eq. 2.1), summed along time, so that no
    scan is needed and the moments at step t hold all environments up to and including t.
    """
    # Before the first value any centre is valid; one near the data keeps float32's precision.
    centre = jnp.where(moments.number > 0, moments.mean, x[0].mean(0))
    deviation = x - jnp.broadcast_to(centre, x.shape)
    number = moments.number + x.shape[1] * jnp.arange(1.0, x.shape[0] + 1)
    counts = jnp.expand_dims(number, range(1, x.ndim - 1))
    total = jnp.cumsum(deviation.sum(1), 0)
    squares = jnp.cumsum(jnp.square(deviation).sum(1), 0)
    m2 = jnp.maximum(moments.m2[None] + squares - jnp.square(total) / counts, 0.0)
    history = Moments(number, centre[None] + total / counts, m2)
    return history, jax.tree.map(lambda leaf: leaf[-1], history)


def whiten(moments: Moments, x: jax.Array, clip: float) -> jax.Array:
    """Centres and scales x [..., *shape] by the moments; clips it at +-`clip` deviations."""
    mean = jnp.broadcast_to(moments.mean, x.shape)
    scale = jnp.broadcast_to(jnp.sqrt(moments.variance + 1e-8), x.shape)
    return jnp.clip((x - mean) / scale, -clip, clip)
