"""What came after each step of an episode: harm, how soon, and how much reward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Transition
from affect.predict import harm


class OutcomeLabels(NamedTuple):
    """What came after each step, each [T, B].

    Attributes:
        counted: bool, the episode went on after this step.
        known: bool, and the next h steps were seen, or harm or the world's end before them.
        harmed: bool, harm came within h steps.
        ahead: int32, k, steps until the next harm; more than an episode has where none was seen.
        nearness: (1 - 1/h)^k, 0 where none was seen: what `Fear` predicts.
        worth: discounted return of the task, as far as the episode goes.
    """

    counted: jax.Array
    known: jax.Array
    harmed: jax.Array
    ahead: jax.Array
    nearness: jax.Array
    worth: jax.Array


def outcome_labels(
    batch: Transition, alive: jax.Array, horizon: int, gamma: float
) -> OutcomeLabels:
    """What came after each step of whole episodes [T, B].

    Where an episode was cut, what would have come within h steps is not known; a world that ended
    has no more harm in it.
    """
    steps, count = alive.shape
    never, time = 2 * steps + horizon, jnp.arange(steps)[:, None]
    harms = jnp.where(harm(batch), time, never)
    first = jax.lax.cummin(harms, axis=0, reverse=True)
    first = jnp.concatenate([first[1:], jnp.full((1, count), never)])
    harmed = first - time <= horizon
    seen = ~batch.truncated.any(0)[None] | (time + horizon < alive.sum(0)[None])
    counted = alive & ~batch.terminated & ~batch.truncated
    near = jnp.where(first < never, (1 - 1 / horizon) ** (first - time), 0.0)

    def back(worth, reward):
        return reward + gamma * worth, worth

    worth = jax.lax.scan(back, jnp.zeros((count,)), batch.reward, reverse=True)[1]
    return OutcomeLabels(counted, counted & (harmed | seen), harmed, first - time, near, worth)
