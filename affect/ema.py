"""Exponential moving average of a stream, per environment, reset where an episode begins."""

import math

import jax
import jax.numpy as jnp

from affect.transition import is_number


def ema_rate(tau: float) -> float:
    """Rate 1 / tau of a moving average with a time constant of `tau` steps.

    Raises:
        ValueError: tau is below 1 step.
    """
    if not is_number(tau) or not 1 <= tau < math.inf:
        raise ValueError(f"a tau is at least 1 step, not {tau}")
    return 1 / tau


def ema(
    last: jax.Array, x: jax.Array, first: jax.Array, rate: float
) -> tuple[jax.Array, jax.Array]:
    """Exponential moving average m <- m + rate (x - m), reset to 0 wherever `first`.

    The same operations in the same order, step by step or on a chunk.

    Args:
        last: [B] the average so far.
        x: [T, B] the stream.
        first: [T, B] bool, reset before this step.
        rate: in (0, 1].

    Returns:
        (the average after each step [T, B], after the last [B]).
    """

    def step(mean: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
        x, first = inputs
        mean = jnp.where(first, 0.0, mean)
        mean = mean + rate * (x - mean)
        return mean, mean

    last, means = jax.lax.scan(step, last, (x, first))
    return means, last
