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
    """Advantages [T, B, C] of C critic channels (eq. 16).

    Args:
        reward: [T, B, C] the task reward and each signal.
        value: [T, B, C] at `obs`.
        next_value: [T, B, C] at the true successor, before any reset.
        terminated: [T, B] bool, the successor has no value.
        truncated: [T, B] bool, the successor has a value, but no further steps.
        gamma: [C] discount of each channel.
        lam: the trace, in [0, 1].

    Returns:
        [T, B, C].
    """
    gamma = jnp.broadcast_to(gamma, reward.shape)
    not_terminated = 1.0 - terminated[..., None].astype(reward.dtype)
    continues = 1.0 - (terminated | truncated)[..., None].astype(reward.dtype)
    delta = reward + not_terminated * gamma * next_value - value

    def accumulate(advantage, inputs):
        delta, decay = inputs
        advantage = delta + decay * advantage
        return advantage, advantage

    start = jnp.zeros_like(delta[-1])
    return jax.lax.scan(accumulate, start, (delta, continues * gamma * lam), reverse=True)[1]
