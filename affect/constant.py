"""Constant: the control head whose signal is the same number at every step."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.checks import check_finite
from affect.head import Head, State
from affect.transition import Spec, Transition


class Constant(Head):
    """A constant signal, whatever the agent does.

    Above 0 it prolongs episodes, below 0 it ends them. +(1 - gamma) cancels the discount of a
    final reward of 1, so a head is useful only where it beats this control.

    Args:
        spec: shapes of the world, unused.
        value: the signal; a parameter that is never trained, so all values share one program.
        rngs: unused.
    """

    held = ("value",)
    depends = ()

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks that the value is a finite number."""
        check_finite("a constant signal has a value", settings["value"])
        return settings

    def __init__(self, spec: Spec, value: float, *, rngs: nnx.Rngs):
        del spec, rngs
        self.value = nnx.Param(jnp.asarray(value, jnp.float32))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal [T, B], `value` everywhere."""
        signal = jax.lax.stop_gradient(self.value[...])
        return jnp.broadcast_to(signal, batch.reward.shape), state
