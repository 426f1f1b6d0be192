"""Labels of what follows each step of an episode: harm, time to harm, and discounted return."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Transition
from affect.predict import harm


class OutcomeLabels(NamedTuple):
    """Labels of what follows each step, each [T, B].

    Attributes:
        counted: bool, the episode went on after this step.
        known: bool, counted, and the label `harmed` is certain: harm came within h steps, or the
            next h steps were observed, or the episode terminated before.
        harmed: bool, harm came within h steps.
        steps_to_harm: int32, k, steps until the next harm; more than the horizon if none came.
        nearness: (1 - 1/h)^k, 0 where no harm came: the prediction target of `Fear`.
        return_to_go: discounted return from the next step to the end of the episode.
    """

    counted: jax.Array
    known: jax.Array
    harmed: jax.Array
    steps_to_harm: jax.Array
    nearness: jax.Array
    return_to_go: jax.Array


def outcome_labels(
    batch: Transition, alive: jax.Array, horizon: int, gamma: float
) -> OutcomeLabels:
    """Label each step of whole episodes [T, B] with what follows it.

    Within h steps of a truncation `harmed` may be unknown; after a termination no more harm comes.
    """
    steps, count = alive.shape
    never, time = 2 * steps + horizon, jnp.arange(steps)[:, None]
    harms = jnp.where(harm(batch), time, never)
    first = jax.lax.cummin(harms, axis=0, reverse=True)
    first = jnp.concatenate([first[1:], jnp.full((1, count), never)])
    harmed = first - time <= horizon
    observed = ~batch.truncated.any(0)[None] | (time + horizon < alive.sum(0)[None])
    counted = alive & ~batch.terminated & ~batch.truncated
    nearness = jnp.where(first < never, (1 - 1 / horizon) ** (first - time), 0.0)

    def accumulate(return_to_go, reward):
        return reward + gamma * return_to_go, return_to_go

    return_to_go = jax.lax.scan(accumulate, jnp.zeros((count,)), batch.reward, reverse=True)[1]
    return OutcomeLabels(
        counted, counted & (harmed | observed), harmed, first - time, nearness, return_to_go
    )
