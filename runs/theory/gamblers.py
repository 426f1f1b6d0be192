"""Simulated and real people in the Iowa Gambling Task, intact and with lesions.

A score is the net (C + D) - (A + B) of a block of 20 cards.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from affect import Blend, Curiosity, Mood, Normalised
from agents.pvl import PVL
from envs.world import World
from envs.worlds.theory.gamble import DECKS, SHUFFLED, TRIALS, Gamble, Params
from runs.theory.simulation import run_seeds

PEOPLE = Path(__file__).parents[1] / "data" / "igt_human_blocks.csv"
HEALTHY = "healthy_pool_100_trials"
STUDIES = (0.2, 26.6)  # lowest and highest mean total of healthy people over studies
ENV, BLOCK = Gamble(), 20
USUAL, EARLY_LOSSES = Params(moved=0.0), Params(moved=float(SHUFFLED))
INTACT = PVL()  # the published healthy median
NO_LOSSES, NO_REVERSAL = replace(INTACT, aversion=0.0), replace(INTACT, reversal=0.25)
GRID = (0.7, 0.9, 1.07, 1.3, 1.6)  # of the consistency, in the lesion study
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
    learner = agent.init(k_init, ENV.spec, len(blend.names))
    blend_state = blend.init(k_heads, ENV.spec, 1)._replace(weights=weights)
    env_state = ENV.reset(k_reset, World(params))

    def trial(carry, key):
        learner, blend_state, env_state = carry
        k_act, k_step, k_update = jax.random.split(key, 3)
        action = agent.act(learner, k_act, env_state.obs)
        env_state, transition = ENV.step(k_step, env_state, action)
        batch = jax.tree.map(lambda leaf: leaf[None, None], transition)
        signals, blend_state, _ = blend.update(blend_state, batch)
        learner, _ = agent.update(learner, k_update, batch, signals)
        return (learner, blend_state, env_state), action

    start = (learner, blend_state, env_state)
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


def slope(blocks: np.ndarray) -> np.ndarray:
    """Least-squares slope of the score over the blocks [..., 5], in cards a block."""
    return blocks @ np.arange(-2.0, 3.0) / 10.0


# --- people -----------------------------------------------------------------------------------


def human_scores() -> pd.DataFrame:
    """Scores of people by group: n, block1 to block5, their errors, the total, and shares."""
    return pd.read_csv(PEOPLE, index_col="group")


def group_curve(group: str = HEALTHY) -> np.ndarray:
    """The five block scores of a group of people, [5]."""
    return human_scores().loc[group, [f"block{k}" for k in range(1, 6)]].to_numpy(float)


def healthy_band() -> tuple[np.ndarray, np.ndarray]:
    """Curve of healthy people [5], moved to the lowest and to the highest total of a study."""
    healthy = group_curve()
    least, most = (healthy + (total - healthy.sum()) / len(healthy) for total in STUDIES)
    return least, most


# --- the lesion study -------------------------------------------------------------------------


class OrderScores(NamedTuple):
    """Scores [people, 5] of an arm, for the usual order of the cards and with early losses."""

    usual: np.ndarray
    shuffled: np.ndarray


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


def fit_consistency(people: int) -> float:
    """Consistency in GRID whose intact curve is nearest to that of healthy people."""

    def distance(consistency: float) -> float:
        agent, weights = lesion_arms(consistency)["intact"]
        scores = simulate(agent, USUAL, people, base=1, weights=weights)
        return float(np.square(scores.mean(0) - group_curve()).sum())

    return min(GRID, key=distance)


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


def total_deficits(intact: OrderScores, lesioned: OrderScores) -> OrderScores:
    """Cards by which each lesioned person's total is lower, [people] for both orders."""
    return OrderScores(*((x - y).sum(1) for x, y in zip(intact, lesioned, strict=True)))
