"""Training step of heads and agents: gradient of the loss, optax update, average of the weights.

Gradients of losses are taken here and nowhere else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

AVERAGED = 100  # last gradient steps that a head is averaged over, about


class TrainState(NamedTuple):
    """A module and the state of its optimiser, together a pytree."""

    net: Any
    opt_state: optax.OptState

    @classmethod
    def create(cls, net: Any, tx: optax.GradientTransformation) -> "TrainState":
        """Pairs the module with the initial optimiser state of `tx`."""
        return cls(net, tx.init(net))


class HeadState(NamedTuple):
    """A head as it is read and as it is trained, together a pytree.

    Attributes:
        net: the average of the trained weights (Polyak & Juditsky, 1992): all signals come from
            it. A batch may hold very few ends of one kind, such as crashes, and the weights
            swing with them; their average does not.
        trained: the weights that gradient steps change, and the state of their optimiser.
        steps: int [], gradient steps so far.
    """

    net: Any
    trained: TrainState
    steps: jax.Array

    @classmethod
    def create(cls, net: Any, tx: optax.GradientTransformation) -> "HeadState":
        """The state of a head `net` before its first gradient step."""
        copy = jax.tree.map(jnp.copy, net)  # so that a jitted update may be given its buffers
        return cls(net, TrainState.create(copy, tx), jnp.zeros((), jnp.int32))

    def step(
        self, tx: optax.GradientTransformation, loss: Callable
    ) -> tuple["HeadState", dict[str, jax.Array]]:
        """One gradient step on `loss(net) -> (scalar, metrics)` -> (state, metrics).

        The first AVERAGED steps have equal weight; from then on weights decay by 1 / AVERAGED a
        step. Weights that no step changes keep their bits.
        """
        trained, metrics = gradient_step(self.trained, tx, loss)
        steps = self.steps + 1
        rate = 1 / jnp.minimum(steps, AVERAGED)
        net = jax.tree.map(lambda mean, new: mean + rate * (new - mean), self.net, trained.net)
        return HeadState(net, trained, steps), metrics


def gradient_step(
    train_state: TrainState, tx: optax.GradientTransformation, loss: Callable, *args: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One gradient step on `loss(net, *args) -> (scalar, metrics)` -> (train state, metrics)."""
    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(train_state.net, *args)
    updates, opt_state = tx.update(grads, train_state.opt_state, train_state.net)
    return TrainState(optax.apply_updates(train_state.net, updates), opt_state), metrics
