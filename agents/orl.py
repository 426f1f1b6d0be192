"""ORL: the outcome-representation learner of bandits (Haines, Vassileva & Ahn, 2018)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec, Transition
from agents.pvl import softmax_sample


class ORLState(NamedTuple):
    """What changes, each [actions]: expected payoff, expected sign of it, and perseverance."""

    value: jax.Array
    frequency: jax.Array
    perseverance: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ORL:
    """A person's five parameters, and a pytree: people stack and `vmap`.

    The learner tracks how much a deck pays net, x, and how often it pays at all, sign x; from a
    win with one rate, from a loss with another. The decks that were not chosen are taken to have
    done the opposite: their frequency moves towards -sign(x) / (actions - 1), with the other rate
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
        """Expects nothing of any deck."""
        del key, num_signals
        nothing = jnp.zeros(spec.num_actions)
        return ORLState(nothing, nothing, nothing)

    def act(self, state: ORLState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Actions [...] at obs [..., D], which says nothing: softmax, or the best without a key."""
        wants = (
            state.value
            + self.frequency_weight * state.frequency
            + self.perseverance_weight * state.perseverance
        )
        return softmax_sample(key, wants, obs.shape[:-1])

    def update(
        self, state: ORLState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[ORLState, dict[str, jax.Array]]:
        """Learns from each card of a batch [T, B] in the order of time -> (state, metrics).

        Signals [T, B, K] are added to the payoff.
        """
        del key
        flat = batch.action.reshape(-1), (batch.reward + signals.sum(-1)).reshape(-1)
        state, error = jax.lax.scan(self._step, state, flat)
        return state, {"error": jnp.abs(error).mean()}

    def _step(self, state: ORLState, now: tuple) -> tuple[ORLState, jax.Array]:
        chosen, payoff = now
        won, count = payoff >= 0, state.value.shape[0]
        rate = jnp.where(won, self.reward_rate, self.punishment_rate)
        other = jnp.where(won, self.punishment_rate, self.reward_rate)
        here = jnp.arange(count) == chosen
        error = payoff - state.value[chosen]
        signs = jnp.where(here, jnp.sign(payoff), -jnp.sign(payoff) / (count - 1))
        rates = jnp.where(here, rate, other)
        kept = jnp.where(here, 1.0, state.perseverance) / 3.0**self.decay
        new = ORLState(
            state.value.at[chosen].add(rate * error),
            state.frequency + rates * (signs - state.frequency),
            kept,
        )
        return new, error
