"""Satiation by source: minus the moving average of what the source that pays has paid lately."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Head, Spec, Transition
from affect.ema import ema, ema_rate
from affect.transition import is_whole


class SourceSatiation(Head):
    """Minus the moving average of the pay of each source, at the steps at which that source pays.

    s_t = -sum_k [x_k,t != 0] m_k,t, m_k,t = m_k,t-1 + (x_k,t - m_k,t-1) / tau, m = 0 where an
    episode begins, x = `info["source"]` [T, B, n]. At weight w a source that pays 1 at a rate q is
    worth about q (1 - w q) a step: its return diminishes, as marginal utility does (Gossen, 1854),
    where that of `Satiation`, which is felt at every step, is q (1 - w). So several sources that
    pay seldom are better than one that pays often.

    Args:
        spec: shapes of a world that reports `source`.
        sources: n; 1 takes all sources of a world as one.
        tau: steps in which it grows and fades by a factor e, at least 1.
        rngs: unused.

    Raises:
        MissingInfo: the world reports no `source`.
        ValueError: sources or tau below 1, or another number of sources in the world.
    """

    depends = ("info",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks sources and tau."""
        ema_rate(settings["tau"])
        if not is_whole(settings["sources"]) or settings["sources"] < 1:
            raise ValueError(f"sources are a whole number, at least 1, not {settings['sources']!r}")
        return settings

    def __init__(self, spec: Spec, sources: int = 1, tau: float = 20, *, rngs: nnx.Rngs):
        del rngs
        self.require(spec, "source")
        self.sources, self.rate = sources, ema_rate(tau)

    def initial_state(self, num_envs: int) -> jax.Array:
        """Zero average pay of each source, [B, n]."""
        return jnp.zeros((num_envs, self.sources))

    def __call__(self, state: jax.Array, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Satiation by source [T, B], in units of reward."""
        pay = batch.info["source"]
        if self.sources == 1:
            pay = pay.sum(-1, keepdims=True)
        if pay.shape[-1] != self.sources:
            raise ValueError(
                f"this world has {pay.shape[-1]} sources, and SourceSatiation was made for "
                f"{self.sources}: give sources={pay.shape[-1]}, or 1 to take them as one"
            )
        by_source = jax.vmap(ema, (1, 2, None, None), (2, 1))
        mean, state = by_source(state, pay, batch.first, self.rate)
        return -jax.lax.stop_gradient(jnp.where(pay != 0, mean, 0.0).sum(-1)), state
