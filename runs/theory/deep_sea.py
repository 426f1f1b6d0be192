"""T11: curiosity solves deeper seas than chance (Osband et al., 2020; Burda et al., 2018).

Both arms are the same tabular Q-learner: epsilon .1, ties broken at random, zero-initialised,
alpha .5, gamma .99. One of them adds the signal of the comparison's own curiosity head (random
network distillation over its running deviation, weight .1, not tuned here). There is no optimism
and no visit count in these arms: novelty is the error of a small network. (`runs.constant` puts a
constant in curiosity's place: below zero it makes the zeros of the table optimistic, and solves
DeepSea sooner than curiosity does.)
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from affect import Blend, Curiosity, Normalised
from agents.qlearning import QLearning, one_hot_row
from envs.worlds.theory.deep_sea import DeepSea
from runs.theory import Target
from runs.theory.simulation import Training, run_seeds

GAMMA = 0.99
CURIOSITY = (0.1, Normalised(Curiosity))  # as in `runs.compare`
SLOW = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
"""Optimiser of curiosity here: at heads' default step size, .01, all of 8 seeds find the treasure
of a 20 x 20 sea and none keeps to it."""
EPISODES, SEEDS = {10: 4_000, 14: 8_000, 20: 16_000}, 8  # size -> episodes a seed, in either arm
ARMS = {"epsilon-greedy": Blend(), "epsilon-greedy + curiosity": Blend(SLOW, curiosity=CURIOSITY)}


class DiveResults(NamedTuple):
    """Results of S seeds by episode, [S, E] bool each.

    Attributes:
        reached: the treasure was reached in the episode.
        known: the greedy policy of the table after the episode reaches it.
    """

    reached: np.ndarray
    known: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        """Whether the greedy policy succeeds in over .9 of the last tenth of episodes, [S]."""
        tail = max(self.known.shape[1] // 10, 1)
        return self.known[:, -tail:].mean(1) > 0.9

    @property
    def episodes(self) -> np.ndarray:
        """Number of the first episode with the treasure, for the seeds that solved it."""
        return self.reached[self.solved].argmax(1) + 1


def run_dives(size: int, blend: Blend, seeds: int, episodes: int) -> DiveResults:
    """Run S seeds of Q-learning in a DeepSea of `size` x `size`, one environment a seed."""
    agent = QLearning(states=size**2, cell=one_hot_row, alpha=0.5, gamma=GAMMA, epsilon=0.1)
    training = Training(DeepSea(size), agent, num_envs=1, num_steps=size, blend=blend)
    return DiveResults(*run_seeds(_run_seed, seeds, training=training, episodes=episodes))


def _run_seed(key: jax.Array, training: Training, episodes: int) -> tuple[jax.Array, jax.Array]:
    """Run one seed -> (reached [E], known [E])."""
    cells = jnp.arange(training.env.size)
    right = training.worlds(key).params.right[cells, cells]  # actions along the diagonal

    def episode(state, _):
        state, metrics = training.train(state, updates=1)
        best = state.learner.agent.table.argmax(-1).reshape(len(cells), len(cells))
        return state, (metrics["return"] > 0, (best[cells, cells] == right).all())

    return jax.lax.scan(episode, training.init(key), length=episodes)[1]


def targets(smoke: bool) -> Iterator[Target]:
    """Targets for every size with and without curiosity; only the smallest with `smoke`."""
    seeds, sizes = (4, {10: 2_000}) if smoke else (SEEDS, EPISODES)
    for size, episodes in sizes.items():
        for name, blend in ARMS.items():
            results = run_dives(size, blend, seeds, episodes)
            curious = bool(blend.names)
            yield Target(
                "T11",
                f"deep sea, N = {size}, {name}",
                "solves it" if curious else "does not",
                solved_text(results),
                bool(results.solved.all() if curious else not results.solved.any()),
            )


def solved_text(results: DiveResults) -> str:
    """Text with the number of seeds that solved it, and their first episodes."""
    number, episodes = results.reached.shape
    text = f"{results.solved.sum()} of {number} seeds in {episodes:,} episodes"
    if not results.solved.any():
        return text
    first_found = results.episodes
    return (
        f"{text}, first found after {np.median(first_found):,.0f} (at most {first_found.max():,})"
    )
