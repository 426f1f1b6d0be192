"""Inequity aversion: minus the difference between one's own and another's recent reward."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Head, Spec, Transition

ENVY, GUILT = 5.0, 0.05  # alpha and beta of the paper, for less and for more than the other has
TRACE = 0.975  # gamma lambda of the smoothed rewards there


class InequityAversion(Head):
    """Disutility of unequal rewards (Fehr & Schmidt, 1999; Hughes et al., 2018, eq. 3 and 4).

    -alpha max(e_other - e_own, 0) - beta max(e_own - e_other, 0), with the traces e <- TRACE e + r,
    0 where an episode begins. Of a world with two agents, whose rewards it compares.

    Args:
        spec: shapes of a world whose `info["other"]` has a reward.
        rngs: unused.

    Raises:
        MissingInfo: the world reports no `other`.
    """

    sign = -1
    depends = ("info",)

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        del rngs
        self.require(spec, "other")

    def initial_state(self, num_envs: int) -> jax.Array:
        """Traces of own and other's reward, [B, 2]."""
        return jnp.zeros((num_envs, 2))

    def __call__(self, state: jax.Array, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Disutility [T, B], at most 0."""

        def step(traces: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
            rewards, first = inputs
            traces = TRACE * jnp.where(first[:, None], 0.0, traces) + rewards
            return traces, traces[:, 1] - traces[:, 0]

        rewards = jnp.stack([batch.reward, batch.info["other"]["reward"]], -1)
        state, behind = jax.lax.scan(step, state, (rewards, batch.first))
        cost = ENVY * jnp.maximum(behind, 0.0) + GUILT * jnp.maximum(-behind, 0.0)
        return -jax.lax.stop_gradient(cost), state
