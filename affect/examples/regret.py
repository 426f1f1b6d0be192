"""Regret: reward minus the best reward that any action would have given."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Head, Spec, Transition
from affect.head import State


class Regret(Head):
    """Reward minus the best reward of any action (Loomes & Sugden, 1982), at most 0.

    Needs `info["foregone"]` [T, B, num_actions], which only some worlds report: the reward of
    each action, the chosen one among them. Patients with lesions of the orbitofrontal cortex show
    no regret (Camille et al., 2004).

    Args:
        spec: shapes of a world that reports `foregone`.
        rngs: unused.

    Raises:
        MissingInfo: the world reports no `foregone`.
    """

    sign = -1
    depends = ("info",)

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        del rngs
        self.require(spec, "foregone")

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Minus the regret [T, B], in units of reward."""
        best = jnp.maximum(batch.info["foregone"].max(-1), batch.reward)
        return jax.lax.stop_gradient(batch.reward - best), state
