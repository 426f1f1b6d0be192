"""Tabular Q-learning (Watkins & Dayan, 1992)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec, Transition


class QState(NamedTuple):
    """Table of action values [states, actions]."""

    table: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QLearning:
    """Q-learning agent; a pytree, so that agents of different settings stack and `vmap`.

    It is trained on the sum of the task's reward and all signals.

    Attributes:
        states: rows of the table.
        cell: obs [..., D] -> row [...] int32 (see `one_hot_row`, `mixed_radix_row`).
        alpha: step size.
        gamma: discount.
        epsilon: probability of a random action.
        initial: initial value of every entry of the table.
    """

    states: int = field(metadata={"static": True})
    cell: Callable[[jax.Array], jax.Array] = field(metadata={"static": True})
    alpha: jax.Array | float = 0.1
    gamma: jax.Array | float = 0.99
    epsilon: jax.Array | float = 0.1
    initial: jax.Array | float = 0.0

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> QState:
        """Table with `initial` in every entry.

        Raises:
            ValueError: for a world without discrete actions, or with masks or images.
        """
        del key, num_signals
        spec.require_plain("Q-learning")
        if not spec.num_actions:
            raise ValueError(
                "Q-learning needs num_actions > 0: give it a world of discrete actions"
            )
        return QState(jnp.full((self.states, spec.num_actions), self.initial, jnp.float32))

    def act(self, state: QState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Epsilon-greedy actions [...] at obs [..., D]; the best ones if `key` is None."""
        values = state.table[self.cell(obs)]
        if key is None:
            return values.argmax(-1)
        return epsilon_greedy(values, jax.random.bits(key, values.shape[:-1]), self.epsilon)

    def update(
        self, state: QState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[QState, dict[str, jax.Array]]:
        """Trains on each transition of a batch [T, B] in the order of time -> (state, metrics).

        Steps at the same time are used in the order of environments. The successor of a terminal
        step has no value; that of a truncated step has.
        """
        del key
        reward = batch.reward + signals.sum(-1)
        discount = jnp.where(batch.terminated, 0.0, self.gamma)
        steps = self.cell(batch.obs), batch.action, reward, self.cell(batch.next_obs), discount

        def step(table, transition):
            return td_update(table, *transition, self.alpha)

        transitions = jax.tree.map(lambda leaf: leaf.reshape(-1), steps)
        table, error = jax.lax.scan(step, state.table, transitions)
        return QState(table), {"error": jnp.abs(error).mean()}


def td_update(
    table: jax.Array,
    row: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    next_row: jax.Array,
    discount: jax.Array | float,
    alpha: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """One update of one entry: Q(s, a) += alpha (r + discount max Q(s') - Q(s, a)).

    Args:
        table: [states, actions].
        row: [] row of the state.
        action: [] taken in the state.
        reward: [] received.
        next_row: [] row of the successor.
        discount: of the successor's value: gamma, or 0 at a terminal step.
        alpha: step size.

    Returns:
        (table, the TD error in the bracket []).
    """
    error = reward + discount * table[next_row].max() - table[row, action]
    return table.at[row, action].add(alpha * error), error


def epsilon_greedy(values: jax.Array, word: jax.Array, epsilon: jax.Array | float) -> jax.Array:
    """Epsilon-greedy actions with ties broken at random, from one random word each.

    Its upper 20 bits decide whether to explore; its lower 12 pick one of the eligible actions:
    all of them when exploring, else the best. (Probabilities are exact to 1 in 4096.)

    Args:
        values: [..., actions].
        word: [...] uint32.
        epsilon: probability of a random action, in steps of 2^-20.

    Returns:
        actions [...] int32.
    """
    explores = (word >> 12).astype(jnp.int32) < epsilon * 2**20
    eligible = (values == values.max(-1, keepdims=True)) | explores[..., None]
    rank = jnp.cumsum(eligible, -1, dtype=jnp.int32)
    picked = ((word & 0xFFF).astype(jnp.int32) * rank[..., -1]) >> 12
    return (rank <= picked[..., None]).sum(-1, dtype=jnp.int32)


def one_hot_row(obs: jax.Array) -> jax.Array:
    """Row index [...] of a one-hot observation [..., states]."""
    return obs.argmax(-1)


def mixed_radix_row(*sizes: int) -> Callable[[jax.Array], jax.Array]:
    """Function obs [..., D] -> row index [...], for integers obs[..., d] in 0 .. sizes[d] - 1."""

    def cell(obs: jax.Array) -> jax.Array:
        row = jnp.zeros(obs.shape[:-1], jnp.int32)
        for d, size in enumerate(sizes):
            row = row * size + obs[..., d].astype(jnp.int32)
        return row

    return cell
