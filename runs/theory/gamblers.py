"""Simulated people in the Iowa Gambling Task, intact and with lesions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Curiosity, Mood, Normalised
from agents.pvl import PVL
from envs.world import World
from envs.worlds.theory.gamble import DECKS, SHUFFLED, TRIALS, Gamble, Params
from runs.engine.train import Learner, TrainConfig, update
from runs.theory.gambling_scores import OrderScores, group_curve
from runs.theory.simulation import run_seeds

ENV, BLOCK = Gamble(), 20
USUAL, EARLY_LOSSES = Params(moved=0.0), Params(moved=float(SHUFFLED))
INTACT = PVL()  # the median of our own fits to healthy people (`agents.pvl.PVL`)
NO_LOSSES, NO_REVERSAL = replace(INTACT, aversion=0.0), replace(INTACT, reversal=0.25)
WEIGHT = 0.1  # of mood and of curiosity, not tuned
NO_HEADS = Blend()
HEADS = Blend(mood=(WEIGHT, Mood), curiosity=(WEIGHT, Normalised(Curiosity)))


def play_session(
    key: jax.Array, agent: Any, params: Params, weights: jax.Array, *, blend: Blend
) -> jax.Array:
    """Simulate one person's 100 trials -> decks chosen [100].

    Args:
        key: random key.
        agent: with `init`, `act` and `update`.
        params: of the task.
        weights: [K] of the heads' signals.
        blend: heads whose signals the agent gets beside the payoff.
    """
    k_init, k_heads, k_reset, k_play = jax.random.split(key, 4)
    agent_state = agent.init(k_init, ENV.spec, len(blend.names))
    blend_state = blend.init(k_heads, ENV.spec, 1)._replace(weights=weights)
    config = TrainConfig(agent, blend, num_envs=1, num_steps=1)

    def trial(carry, key):
        learner, env_state = carry
        k_act, k_step, k_update = jax.random.split(key, 3)
        action = agent.act(learner.agent, k_act, env_state.obs)
        env_state, transition = ENV.step(k_step, env_state, action)
        batch = jax.tree.map(lambda leaf: leaf[None, None], transition)
        learner, _ = update(config, learner, k_update, batch)
        return (learner, env_state), action

    start = Learner(agent_state, blend_state), ENV.reset(k_reset, World(params))
    return jax.lax.scan(trial, start, jax.random.split(k_play, TRIALS))[1]


def simulate(
    agent: Any, params: Params, people: int, base: int = 0, weights: Sequence[float] | None = None
) -> np.ndarray:
    """Simulate scores [people, 5]; people differ in random numbers alone, paired by number.

    Args:
        agent: with `init`, `act` and `update`.
        params: of the task.
        people: number of them.
        base: of the random numbers.
        weights: of the signals of mood and curiosity; None for an agent without heads.
    """
    blend = NO_HEADS if weights is None else HEADS
    shared = agent, params, jnp.asarray(weights or (), jnp.float32)
    return blocks(run_seeds(play_session, people, *shared, base=base, blend=blend))


def blocks(choices: np.ndarray) -> np.ndarray:
    """Score of each block of 20 cards [..., 5], from decks [..., 100]."""
    good = np.where(np.asarray(choices) >= DECKS // 2, 1, -1)
    return good.reshape(*good.shape[:-1], -1, BLOCK).sum(-1)


# --- the lesion study -------------------------------------------------------------------------


def lesion_arms(consistency: float) -> dict[str, tuple[PVL, tuple[float, float]]]:
    """Arms of the lesion study: name -> (agent, weights of the signals of mood and curiosity).

    A weight of 0 is a lesion of the head, to the last bit (T14).
    """
    intact, no_losses, no_reversal = (
        replace(agent, consistency=consistency) for agent in (INTACT, NO_LOSSES, NO_REVERSAL)
    )
    return {
        "intact": (intact, (WEIGHT, WEIGHT)),
        "losses not felt": (no_losses, (WEIGHT, WEIGHT)),
        "sham: no mood": (intact, (0.0, WEIGHT)),
        "sham: no curiosity": (intact, (WEIGHT, 0.0)),
        "afterthought: no reversal": (no_reversal, (WEIGHT, WEIGHT)),
    }


def fit_consistency(people: int, grid: Sequence[float]) -> float:
    """Consistency in a grid whose intact curve is nearest to that of healthy people."""

    def distance(consistency: float) -> float:
        agent, weights = lesion_arms(consistency)["intact"]
        scores = simulate(agent, USUAL, people, base=1, weights=weights)
        return float(np.square(scores.mean(0) - group_curve()).sum())

    return min(grid, key=distance)


def lesion_scores(people: int, consistency: float) -> dict[str, OrderScores]:
    """Simulate every arm of the lesion study -> name -> scores."""
    return {
        name: simulate_orders(agent, people, weights)
        for name, (agent, weights) in lesion_arms(consistency).items()
    }


def simulate_orders(agent: Any, people: int, weights: Sequence[float] | None = None) -> OrderScores:
    """Simulate scores [people, 5] for both orders of the cards."""
    usual, shuffled = (
        simulate(agent, order, people, weights=weights) for order in (USUAL, EARLY_LOSSES)
    )
    return OrderScores(usual, shuffled)
