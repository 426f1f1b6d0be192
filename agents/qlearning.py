"""Tabular Q-learning (Watkins & Dayan, 1992): one number for each state and action."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Spec, Transition


class QState(NamedTuple):
    """What changes: the table [states, actions]."""

    table: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QLearning:
    """The agent is its own configuration, and a pytree: learners that differ stack and `vmap`.

    It learns from the task's reward and the signals, added up.

    Attributes:
        states: rows of the table.
        cell: obs [..., D] -> row [...] int32 (see `one_hot_row`, `mixed_radix_row`).
        alpha: step size.
        gamma: discount.
        epsilon: probability of an action at random.
        initial: every entry of the table at first.
    """

    states: int = field(metadata={"static": True})
    cell: Callable[[jax.Array], jax.Array] = field(metadata={"static": True})
    alpha: jax.Array | float = 0.1
    gamma: jax.Array | float = 0.99
    epsilon: jax.Array | float = 0.1
    initial: jax.Array | float = 0.0

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> QState:
        """A table in which nothing was learned.

        Raises:
            ValueError: for a world without discrete actions.
        """
        del key, num_signals
        if not spec.num_actions:
            raise ValueError("a table has a column an action: give it a world of discrete actions")
        return QState(jnp.full((self.states, spec.num_actions), self.initial, jnp.float32))

    def act(self, state: QState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Actions [...] at obs [..., D]: epsilon-greedy, or the best one if there is no key."""
        values = state.table[self.cell(obs)]
        if key is None:
            return values.argmax(-1)
        return epsilon_greedy(values, jax.random.bits(key, values.shape[:-1]), self.epsilon)

    def update(
        self, state: QState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[QState, dict[str, jax.Array]]:
        """Learns from each transition of a batch [T, B] in the order of time -> (state, metrics).

        Of steps at the same time, the environments take turns. A terminal step has no value
        beyond it; one that was merely cut has.
        """
        del key
        reward = batch.reward + signals.sum(-1)
        discount = jnp.where(batch.terminated, 0.0, self.gamma)
        steps = self.cell(batch.obs), batch.action, reward, self.cell(batch.next_obs), discount

        def step(table, now):
            return td_update(table, *now, self.alpha)

        flat = jax.tree.map(lambda leaf: leaf.reshape(-1), steps)
        table, error = jax.lax.scan(step, state.table, flat)
        return QState(table), {"error": jnp.abs(error).mean()}


def td_update(
    table: jax.Array,
    here: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    there: jax.Array,
    discount: jax.Array | float,
    alpha: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """One update of one entry: Q(s, a) += alpha (r + discount max Q(s') - Q(s, a)).

    Args:
        table: [states, actions].
        here: [] row of the state.
        action: [] taken there.
        reward: [] received.
        there: [] row of the successor.
        discount: of its value: gamma, or 0 where the world ended.
        alpha: step size.

    Returns:
        (table, the error in the bracket []).
    """
    error = reward + discount * table[there].max() - table[here, action]
    return table.at[here, action].add(alpha * error), error


def epsilon_greedy(values: jax.Array, word: jax.Array, epsilon: jax.Array | float) -> jax.Array:
    """An epsilon-greedy action, ties broken at random, from one random word.

    Its upper 20 bits say whether to explore; its lower 12 pick one of the eligible actions: all of
    them when exploring, else the best. (Each has its share to within 1 in 4096.)

    Args:
        values: [..., actions].
        word: [...] uint32.
        epsilon: probability of an action at random, in steps of 2^-20.

    Returns:
        actions [...] int32.
    """
    explores = (word >> 12).astype(jnp.int32) < epsilon * 2**20
    eligible = (values == values.max(-1, keepdims=True)) | explores[..., None]
    rank = jnp.cumsum(eligible, -1, dtype=jnp.int32)
    picked = ((word & 0xFFF).astype(jnp.int32) * rank[..., -1]) >> 12
    return (rank <= picked[..., None]).sum(-1, dtype=jnp.int32)


def one_hot_row(obs: jax.Array) -> jax.Array:
    """The row [...] of a one-hot observation [..., states]."""
    return obs.argmax(-1)


def mixed_radix_row(*sizes: int) -> Callable[[jax.Array], jax.Array]:
    """The row of an observation of integers [..., D], the d-th of them in 0 .. sizes[d] - 1."""

    def cell(obs: jax.Array) -> jax.Array:
        row = jnp.zeros(obs.shape[:-1], jnp.int32)
        for d, size in enumerate(sizes):
            row = row * size + obs[..., d].astype(jnp.int32)
        return row

    return cell
