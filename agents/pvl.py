"""Model of human choice in bandits: PVL-Delta (Ahn et al., 2008; Steingroever et al., 2013)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec, Transition


class PVLState(NamedTuple):
    """Expected utility [actions] of each deck."""

    value: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PVL:
    """PVL-Delta model of a person; a pytree, so that people stack and `vmap`.

    Utility of a net payoff x, in units of 100 play dollars: x^shape if x >= 0, else
    -aversion |x|^shape. The chosen deck's value moves by `rate` of its error. Choice is softmax
    with sensitivity 3^consistency - 1. The defaults are the median of our own fits to the
    published choices of healthy people (Steingroever et al., 2015).

    Attributes:
        rate: A, in [0, 1], of learning.
        shape: a, in [0, 1], of the utility.
        consistency: c, in [0, 5].
        aversion: lambda, weight of losses; 0 ignores them.
        reversal: factor of the learning rate for a negative error at a deck of positive value; 1
            in the published model. Less is a deficit of reversal learning, by which Fellows &
            Farah (2005) explain the choices of patients.
    """

    rate: jax.Array | float = 0.214
    shape: jax.Array | float = 0.49
    consistency: jax.Array | float = 1.07
    aversion: jax.Array | float = 0.62
    reversal: jax.Array | float = 1.0

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> PVLState:
        """Initial state: all expected utilities are 0."""
        del key, num_signals
        spec.require_plain("PVL")
        return PVLState(jnp.zeros(spec.num_actions))

    def act(self, state: PVLState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Softmax actions [...], the best if `key` is None; obs [..., D] gives only the shape."""
        sensitivity = 3.0**self.consistency - 1
        return softmax_sample(key, sensitivity * state.value, obs.shape[:-1])

    def utility(self, payoff: jax.Array) -> jax.Array:
        """Utility [...] of a net payoff [...]."""
        size = jnp.abs(payoff) ** self.shape
        return jnp.where(payoff >= 0, size, -self.aversion * size)

    def update(
        self, state: PVLState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[PVLState, dict[str, jax.Array]]:
        """Trains on each choice of a batch [T, B] in the order of time -> (state, metrics).

        Signals [T, B, K] are added to the utility of the payoff.
        """
        del key
        utility = self.utility(batch.reward) + signals.sum(-1)

        def step(value, inputs):
            chosen, utility = inputs
            error = utility - value[chosen]
            is_reversal = (value[chosen] > 0) & (error < 0)
            rate = jnp.where(is_reversal, self.reversal * self.rate, self.rate)
            return value.at[chosen].add(rate * error), error

        flat = batch.action.reshape(-1), utility.reshape(-1)
        value, error = jax.lax.scan(step, state.value, flat)
        return PVLState(value), {"error": jnp.abs(error).mean()}


def softmax_sample(key: jax.Array | None, logits: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Samples actions [*shape] by softmax over logits [actions]; the best if `key` is None."""
    if key is None:
        return jnp.broadcast_to(logits.argmax(-1), shape)
    return jax.random.categorical(key, logits, shape=shape)
