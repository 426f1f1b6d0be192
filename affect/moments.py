"""Running mean and variance as explicit state; one chunk gives the same as its single steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

OUTLIER = 10.0  # deviations from the mean, beyond which a value is clipped before it is added
NEARLY_CONSTANT = 1e-4  # deviation relative to 1 + |mean|, below which agents do not scale
FEW = 100  # values from which on they are clipped
MOST = 1e12  # largest deviation, whose square float32 holds


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

    The parallel update of Chan, Golub & LeVeque (1983, eq. 2.1), step by step over T: the moments
    at step t hold all environments up to and including t. Values more than OUTLIER deviations from
    the mean so far count as that far away, so that a single one does not blind the statistics; a
    lasting change of scale is followed, since each such value widens the bounds. What is not finite
    counts as the mean so far.
    """

    def step(moments: Moments, x: jax.Array) -> tuple[Moments, Moments]:
        bounds = OUTLIER * jnp.sqrt(moments.variance) + 1e-3 * (1 + jnp.abs(moments.mean))
        bounds = jnp.minimum(jnp.where(moments.number < FEW, jnp.inf, bounds), MOST)
        deviation = jnp.clip(x - moments.mean[None], -bounds[None], bounds[None])
        deviation = jnp.where(jnp.isfinite(x), deviation, 0.0)
        added = x.shape[0]
        number = moments.number + added
        shift = deviation.mean(0)
        mean = moments.mean + shift * (added / number)
        within = jnp.square(deviation - shift[None]).sum(0)
        between = jnp.square(shift) * (moments.number * added / number)
        moments = Moments(number, mean, moments.m2 + within + between)
        return moments, moments

    moments, history = jax.lax.scan(step, moments, x)
    return history, moments


def whiten(moments: Moments, x: jax.Array, clip: float, constant: float = 0.0) -> jax.Array:
    """Centres and scales x [..., *shape] by the moments; clips it at +-`clip` deviations.

    What deviates by less than `constant` (1 + |mean|) so far is not enlarged, so that a small
    change of what was constant stays small.
    """
    mean = jnp.broadcast_to(moments.mean, x.shape)
    variance = moments.variance + 1e-8
    if constant:
        bound = jnp.square(constant * (1 + jnp.abs(moments.mean)))
        nearly_constant = (moments.variance < bound) & (moments.number > 0)
        variance = jnp.where(nearly_constant, jnp.maximum(variance, 1.0), variance)
    scale = jnp.broadcast_to(jnp.sqrt(variance), x.shape)
    return jnp.clip((x - mean) / scale, -clip, clip)
