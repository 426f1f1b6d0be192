"""Decision times of a Q-learner that samples two noisy options until it chooses one.

The state is how much better one option looks by now (the posterior mean, from the environment's
known gap and noise) and the number of samples. The reward is the environment's: the worth of the
chosen option, less the cost of each step. The lesioned learner gets the same reward with that cost
cancelled by a signal.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Innate, Transition
from agents.qlearning import QLearning
from envs.world import World
from envs.worlds.theory.ponder import WAIT, Params, Ponder
from runs.theory.simulation import Training, run_seeds

ENV, PARAMS = Ponder(), Params()
EDGES = (0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.9, 1.3)  # of bins of the belief, either sign
BINS = 2 * len(EDGES) + 1


def belief(obs: jax.Array) -> jax.Array:
    """Posterior mean of the left option's advantage, in units of worth [...]."""
    samples = obs[..., 2] * ENV.horizon
    trust = samples / (samples + (PARAMS.noise / PARAMS.gap) ** 2)
    return trust * (obs[..., 0] - obs[..., 1])


def cell(obs: jax.Array) -> jax.Array:
    """Row of the Q-table for (steps waited, belief in bins) [...]."""
    samples = jnp.round(obs[..., 2] * ENV.horizon).astype(jnp.int32)
    edges = jnp.array([*(-np.array(EDGES[::-1])), *EDGES])
    return samples * BINS + jnp.searchsorted(edges, belief(obs)).astype(jnp.int32)


def cost_cancelling(batch: Transition) -> jax.Array:
    """Signal that cancels the cost of waiting [T, B]."""
    return jnp.where(batch.action == WAIT, -batch.info["foregone"][..., WAIT], 0.0)


AGENT = QLearning(
    states=(ENV.horizon + 1) * BINS, cell=cell, alpha=0.03, gamma=1.0, epsilon=0.1, initial=0.3
)
NUMBNESS = Blend(numbness=(1.0, partial(Innate, fn=cost_cancelling, reads=("foregone",))))
ARMS = {"intact": 0.0, "lesioned": 1.0}
"""Arm -> weight of the signal that cancels the cost of waiting."""


class Choices(NamedTuple):
    """Decisions [S, N] of S learners about the same N pairs of options.

    Attributes:
        waited: steps of waiting.
        regret: worth of the better option, less the return: worth taken, less cost of time.
        apart: difference in worth between the options.
    """

    waited: np.ndarray
    regret: np.ndarray
    apart: np.ndarray


def decide(seeds: int, updates: int, choices: int) -> dict[str, Choices]:
    """Train S learners of each arm, then simulate their greedy decisions -> arm -> decisions.

    Args:
        seeds: S.
        updates: of 1,024 steps each.
        choices: N.
    """
    training = Training(ENV, AGENT, num_envs=32, num_steps=32, blend=NUMBNESS)
    static = {"training": training, "updates": updates, "choices": choices}
    return {
        arm: run_seeds(_decide, seeds, jnp.array([weight]), **static)
        for arm, weight in ARMS.items()
    }


def _decide(
    key: jax.Array, weights: jax.Array, training: Training, updates: int, choices: int
) -> Choices:
    """Train one learner, then simulate its greedy decisions, [N]."""
    k_train, k_choose = jax.random.split(key)
    state, _ = training.train(training.init(k_train, weights), updates)
    keys = jax.random.split(k_choose, choices)
    return jax.vmap(partial(_simulate, state.learner.agent))(keys)


def _simulate(learner: Any, key: jax.Array) -> Choices:
    """Simulate one greedy decision."""
    k_reset, k_steps = jax.random.split(key)
    env_state = ENV.reset(k_reset, World(PARAMS))
    worth = env_state.state.worth

    def step(carry, key):
        env_state, earned, over = carry
        env_state, transition = ENV.step(key, env_state, AGENT.act(learner, None, env_state.obs))
        earned = earned + jnp.where(over, 0.0, transition.reward)
        waits = ~over & (transition.action == WAIT)
        return (env_state, earned, over | transition.terminated), waits

    start = (env_state, jnp.zeros(()), jnp.zeros((), bool))
    keys = jax.random.split(k_steps, ENV.horizon + 1)
    (_, earned, _), waits = jax.lax.scan(step, start, keys)
    return Choices(waits.sum(), worth.max() - earned, jnp.abs(worth[0] - worth[1]))


class DecisionTimes(NamedTuple):
    """Means of the decisions of S learners.

    Attributes:
        waited: [S] steps of waiting.
        regret: [S].
        by_fifth: [5, S] steps of waiting in fifths of the pairs, from the most to the least alike.
        apart: [5] difference in worth between the options of each fifth.
    """

    waited: np.ndarray
    regret: np.ndarray
    by_fifth: np.ndarray
    apart: np.ndarray


def decision_times(choices: Choices) -> DecisionTimes:
    """Average decisions over all pairs of options, and over fifths by their difference in worth."""
    waited, regret, apart = (values.astype(float) for values in choices)
    by_fifth, distances = [], []
    for pairs in np.array_split(np.argsort(choices.apart, axis=None), 5):
        mask = np.zeros(waited.size, bool)
        mask[pairs] = True
        mask = mask.reshape(waited.shape)
        by_fifth.append((waited * mask).sum(1) / mask.sum(1))
        distances.append(apart[mask].mean())
    return DecisionTimes(waited.mean(1), regret.mean(1), np.array(by_fifth), np.array(distances))
