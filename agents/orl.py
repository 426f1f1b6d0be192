"""Model of human choice in bandits: outcome-representation learning (Haines et al., 2018)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec, Transition
from agents.pvl import softmax_sample


class ORLState(NamedTuple):
    """Expected payoff, expected sign of payoff, and perseverance, each [actions]."""

    value: jax.Array
    frequency: jax.Array
    perseverance: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ORL:
    """ORL model of a person with five parameters; a pytree, so that people stack and `vmap`.

    It estimates the net payoff x of each deck and its sign, with one learning rate for wins and
    another for losses. Decks that were not chosen are assumed to have had the opposite outcome:
    their frequency moves towards -sign(x) / (actions - 1), with the other rate
    (Haines et al., 2018, eqs. 7 to 11). Choice is softmax over value + frequency weight x
    frequency + perseverance weight x perseverance.

    Attributes:
        reward_rate: in [0, 1], of learning from x >= 0.
        punishment_rate: in [0, 1], of learning from x < 0.
        decay: K', in [0, 5]: perseverance is divided by 3^K' every trial.
        frequency_weight: beta_F.
        perseverance_weight: beta_P.
    """

    reward_rate: jax.Array | float = 0.2
    punishment_rate: jax.Array | float = 0.05
    decay: jax.Array | float = 1.0
    frequency_weight: jax.Array | float = 1.0
    perseverance_weight: jax.Array | float = 1.0

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> ORLState:
        """Initial state: all expectations are 0."""
        del key, num_signals
        spec.require_plain("ORL")
        zeros = jnp.zeros(spec.num_actions)
        return ORLState(zeros, zeros, zeros)

    def act(self, state: ORLState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Softmax actions [...], the best if `key` is None; obs [..., D] gives only the shape."""
        preference = (
            state.value
            + self.frequency_weight * state.frequency
            + self.perseverance_weight * state.perseverance
        )
        return softmax_sample(key, preference, obs.shape[:-1])

    def update(
        self, state: ORLState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[ORLState, dict[str, jax.Array]]:
        """Trains on each choice of a batch [T, B] in the order of time -> (state, metrics).

        Signals [T, B, K] are added to the payoff.
        """
        del key
        flat = batch.action.reshape(-1), (batch.reward + signals.sum(-1)).reshape(-1)
        state, error = jax.lax.scan(self._step, state, flat)
        return state, {"error": jnp.abs(error).mean()}

    def _step(self, state: ORLState, inputs: tuple) -> tuple[ORLState, jax.Array]:
        chosen, payoff = inputs
        won, num_actions = payoff >= 0, state.value.shape[0]
        rate = jnp.where(won, self.reward_rate, self.punishment_rate)
        other_rate = jnp.where(won, self.punishment_rate, self.reward_rate)
        is_chosen = jnp.arange(num_actions) == chosen
        error = payoff - state.value[chosen]
        signs = jnp.where(is_chosen, jnp.sign(payoff), -jnp.sign(payoff) / (num_actions - 1))
        rates = jnp.where(is_chosen, rate, other_rate)
        perseverance = jnp.where(is_chosen, 1.0, state.perseverance) / 3.0**self.decay
        new_state = ORLState(
            state.value.at[chosen].add(rate * error),
            state.frequency + rates * (signs - state.frequency),
            perseverance,
        )
        return new_state, error
