"""Innate: a signal computed by a fixed function, without parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Head, State
from affect.transition import Spec, Transition, is_a, one_line


class Innate(Head):
    """A fixed function of the batch as a signal: the baseline for trained heads.

    An example is time to collision, which predicted harm as well as a trained fear did. Compare
    every trained head with such a feature.

    Args:
        spec: shapes of the world.
        fn: batch -> [T, B]; applied to each step by itself, as there is no state.
        reads: the keys of `info` that fn needs.
        rngs: unused.

    Raises:
        MissingInfo: the world does not report one of them.
        ValueError: fn is no function, reads is no tuple, or fn returns another shape.
    """

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks that fn is a function and reads a tuple of names."""
        fn, reads = settings["fn"], settings["reads"]
        if is_a(reads, str):
            raise ValueError(f"reads is a tuple of keys of info: write reads=({reads!r},)")
        if not callable(fn):
            raise ValueError(f"fn is a function of a batch, not {fn!r}")
        return settings

    def __init__(
        self,
        spec: Spec,
        fn: Callable[[Transition], jax.Array],
        reads: tuple[str, ...] = (),
        *,
        rngs: nnx.Rngs,
    ):
        del rngs
        for key in reads:
            self.require(spec, key)
        self.fn = fn

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal [T, B], the output of `fn`."""
        try:
            signal = self.fn(batch)
        except KeyError as error:
            key = error.args[0]
            raise ValueError(
                f"the fn of Innate reads info[{key!r}], which the batch does not have: "
                f"add reads=({key!r},), and {key!r} to Spec.info"
            ) from error
        if getattr(signal, "shape", None) != batch.reward.shape:
            raise ValueError(
                f"the fn of Innate gave {one_line(signal)}: it must give one number a step, "
                f"{batch.reward.shape}"
            )
        return jax.lax.stop_gradient(jnp.asarray(signal, jnp.float32)), state
