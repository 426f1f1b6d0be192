"""Gradient steps of heads and agents: the only place that takes the gradient of a loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax


class TrainState(NamedTuple):
    """A module and the state of its optimiser, together a pytree."""

    net: Any
    opt_state: optax.OptState

    @classmethod
    def create(cls, net: Any, tx: optax.GradientTransformation) -> "TrainState":
        """Pairs the module with the initial optimiser state of `tx`."""
        return cls(net, tx.init(net))


def gradient_step(
    train_state: TrainState, tx: optax.GradientTransformation, loss: Callable, *args: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One gradient step on `loss(net, *args) -> (scalar, metrics)` -> (train state, metrics)."""
    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(train_state.net, *args)
    updates, opt_state = tx.update(grads, train_state.opt_state, train_state.net)
    return TrainState(optax.apply_updates(train_state.net, updates), opt_state), metrics
