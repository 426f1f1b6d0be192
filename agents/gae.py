"""Generalised advantage estimation (Schulman et al., 2016)."""

import jax
import jax.numpy as jnp


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: jax.Array,
    lam: float,
) -> jax.Array:
    """Advantages of C critic channels, eq. 16.

    Args:
        reward: [T, B, C] the task reward and one signal a feeling.
        value: [T, B, C] at `obs`.
        next_value: [T, B, C] at the true successor, before any reset.
        terminated: [T, B] bool, no value beyond.
        truncated: [T, B] bool, value beyond, but no further steps.
        gamma: [C] each channel's discount.
        lam: the trace, in [0, 1].

    Returns:
        [T, B, C].
    """
    gamma = jnp.broadcast_to(gamma, reward.shape)
    on = 1.0 - terminated[..., None].astype(reward.dtype)
    same = 1.0 - (terminated | truncated)[..., None].astype(reward.dtype)
    delta = reward + on * gamma * next_value - value

    def back(advantage, step):
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    start = jnp.zeros_like(delta[-1])
    return jax.lax.scan(back, start, (delta, same * gamma * lam), reverse=True)[1]
