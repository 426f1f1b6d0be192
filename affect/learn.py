"""The one gradient step: the only place where gradients meet parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax


class TrainState(NamedTuple):
    """A module and what its optimiser remembers of it: all of it a pytree."""

    net: Any
    opt_state: optax.OptState

    @classmethod
    def create(cls, net: Any, tx: optax.GradientTransformation) -> "TrainState":
        """The module with the initial optimiser state of `tx`."""
        return cls(net, tx.init(net))


def gradient_step(
    trained: TrainState, tx: optax.GradientTransformation, loss: Callable, *args: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One gradient step on `loss(net, *args) -> (scalar, metrics)` -> (trained, metrics)."""
    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trained.net, *args)
    updates, opt_state = tx.update(grads, trained.opt_state, trained.net)
    return TrainState(optax.apply_updates(trained.net, updates), opt_state), metrics
