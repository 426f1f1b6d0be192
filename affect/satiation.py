"""Satiation: minus a moving average of reward."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.ema import ema, ema_rate
from affect.head import Head
from affect.transition import Spec, Transition


class Satiation(Head):
    """Minus the exponential moving average of reward: repeated reward is worth less.

    s_t = -m_t, m_t = m_{t-1} + (r_t - m_{t-1}) / tau, m = 0 where an episode begins. After k steps
    of reward r it is -r (1 - (1 - 1 / tau)^k): a drive falls as it is satisfied (Hull, 1943),
    which favours other sources of reward. For negative reward the signal is positive.

    Args:
        spec: shapes of the world, unused.
        tau: steps in which it grows and fades by a factor e, at least 1.
        rngs: unused.

    Raises:
        ValueError: tau is below 1.
    """

    depends = ()

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks that tau is at least 1."""
        ema_rate(settings.get("tau", 2))
        return settings

    def __init__(self, spec: Spec, tau: float = 20, *, rngs: nnx.Rngs):
        del spec, rngs
        self.rate = ema_rate(tau)

    def initial_state(self, num_envs: int) -> jax.Array:
        """Zero average reward, [B]."""
        return jnp.zeros((num_envs,))

    def __call__(self, state: jax.Array, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Satiation [T, B], in units of reward."""
        mean, state = ema(state, batch.reward, batch.first, self.rate)
        return -jax.lax.stop_gradient(mean), state
