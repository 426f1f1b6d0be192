"""Innate: a feeling that is given and not learned."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Head, State
from affect.transition import Spec, Transition


class Innate(Head):
    """A feature of what happens, hard-wired: the honest evolved emotion, without parameters.

    Time to collision is one, and it knew danger as well as a learned fear did. Every learned
    feeling should be asked whether such a feature would have done.

    Args:
        spec: of the world.
        fn: batch -> [T, B]; each step by itself, as nothing is carried.
        reads: the keys of `info` that fn needs.
        rngs: unused.

    Raises:
        MissingInfo: the world does not report one of them.
        ValueError: fn gives another shape.
    """

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
        """What fn says, [T, B]."""
        signal = jnp.asarray(self.fn(batch), jnp.float32)
        if signal.shape != batch.reward.shape:
            raise ValueError(
                f"an Innate feeling of shape {signal.shape}: its fn must give one number a step, "
                f"{batch.reward.shape}"
            )
        return jax.lax.stop_gradient(signal), state
