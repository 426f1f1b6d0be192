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
        value: the signal.
        rngs: unused.
    """

    def __init__(self, spec: Spec, value: float, *, rngs: nnx.Rngs):
        del spec, rngs
        self.value = value

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """`value` [T, B]."""
        return jnp.full_like(batch.reward, self.value), state
