"""Constant: the control that feels the same whatever happens."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Head, State
from affect.transition import Spec, Transition


class Constant(Head):
    """The same signal at every step.

    Above 0 it prolongs episodes, below 0 it ends them. +(1 - gamma) cancels the discount of a
    final reward of 1, so a feeling is worth something only beyond it.

    Args:
        spec: of the world, unused.
        value: the signal; a parameter that nothing moves, so all constants are one program.
        rngs: unused.
    """

    def __init__(self, spec: Spec, value: float, *, rngs: nnx.Rngs):
        del spec, rngs
        self.value = nnx.Param(jnp.asarray(value, jnp.float32))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """`value` [T, B]."""
        signal = jax.lax.stop_gradient(self.value[...])
        return jnp.broadcast_to(signal, batch.reward.shape), state
