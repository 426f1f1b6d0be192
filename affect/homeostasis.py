"""Homeostasis: minus the distance of the body from its setpoint."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect.checks import LIMIT
from affect.head import Head, State
from affect.transition import Spec, Transition


class Homeostasis(Head):
    """Minus the drive, the Euclidean distance of `info["body"]` to a setpoint.

    D(H) = (sum_i |H*_i - H_i|^n)^(1/m) with n = m = 2 (Keramati & Gutkin, 2014, eq. 1). Their
    reward is the drive reduction D(H) - D(H'): that is `Potential(Homeostasis)` plus
    (1 - gamma)(-D(H')), so the part of it that may change what is optimal is small.

    Args:
        spec: shapes of a world that reports `body`.
        setpoint: H*, a number for all n variables of the body or one for each, in their units.
        rngs: unused.

    Raises:
        MissingInfo: the world reports no `body`.
        ValueError: the setpoint is no number or list of numbers, or does not fit the body.
    """

    sign = -1
    held = ("setpoint",)
    depends = ("info",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks that the setpoint is a finite number or a list of them."""
        setpoint = settings["setpoint"]
        try:
            numbers = np.asarray(setpoint)
        except (TypeError, ValueError):
            numbers = np.array("")
        fits = numbers.dtype.kind in "iuf" and numbers.ndim <= 1
        if not fits or not (np.abs(numbers) <= LIMIT).all():
            raise ValueError(f"a setpoint is a number or a list of numbers, not {setpoint}")
        return settings

    def __init__(self, spec: Spec, setpoint: float | tuple[float, ...], *, rngs: nnx.Rngs):
        del rngs
        self.require(spec, "body")
        self.setpoint = nnx.Param(jnp.asarray(setpoint, jnp.float32))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Minus the drive [T, B] after each step, at most 0."""
        body = batch.info["body"]
        if body.ndim != 3 or self.setpoint.shape not in ((), body.shape[2:]):
            raise ValueError(
                f"a setpoint {self.setpoint.shape} for a body {body.shape}: a body is [T, B, n] "
                "and the setpoint one number, or n"
            )
        deviation = body - jnp.broadcast_to(self.setpoint[...], body.shape)
        drive = jnp.linalg.norm(deviation, axis=-1)
        return -jax.lax.stop_gradient(drive), state
