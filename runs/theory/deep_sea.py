"""T11: curiosity dives deeper than chance does (Osband et al., 2020; Burda et al., 2018).

The same tabular Q-learner in both arms: epsilon .1, ties broken at random, zero-initialised,
alpha .5, gamma .99. One of them is also paid what the comparison's own curiosity head feels (random
network distillation over its running deviation, weight .1, none of it tuned here). There is no
optimism and no count of visits in these arms: what is new is what a small network predicts badly.
(What a constant does in curiosity's place is told by `runs.constant`: below zero it makes the zeros
of the table optimistic, and solves the sea sooner than curiosity does.)

When a seed finds the treasure in the largest sea hangs on the last bits of its arithmetic: under
two of XLA's levels of optimisation the same eight seeds found it after 894 to 10,896 episodes, and
after 1,655 to 18,876. So they are given 32,000.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Curiosity, Normalised
from agents.qlearning import QLearning, one_hot_row
from envs.world import World
from envs.worlds.theory.deep_sea import DeepSea
from runs.engine.train import RunnerState, TrainConfig, init_runner, seed_keys, train, vmap_seeds
from runs.theory.target import Target

GAMMA = 0.99
CURIOSITY = (0.1, Normalised(Curiosity))  # as in `runs.compare`
EPISODES, SEEDS = {10: 4_000, 14: 8_000, 20: 32_000}, 8  # size -> episodes a seed, in either arm
ARMS = {
    "epsilon-greedy": Blend(),
    "epsilon-greedy + curiosity": Blend(curiosity=CURIOSITY),
}


class DiveResults(NamedTuple):
    """What became of some seeds, [S, E] bool each, by episode.

    Attributes:
        found: the treasure was reached.
        known: a dive by the best actions in the table as it is after the episode reaches it.
    """

    found: np.ndarray
    known: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        """Whether the treasure was known through most (.9) of the last tenth of life, [S]."""
        tail = max(self.known.shape[1] // 10, 1)
        return self.known[:, -tail:].mean(1) > 0.9

    @property
    def episodes(self) -> np.ndarray:
        """The first episode that found the treasure, of the seeds that solved the sea."""
        return self.found[self.solved].argmax(1) + 1


def run_dives(size: int, blend: Blend, seeds: int, episodes: int) -> DiveResults:
    """Lives that long in a sea of `size` x `size`, an environment a seed."""
    env = DeepSea(size)
    world = World(env.get_default_params())
    agent = QLearning(states=size**2, cell=one_hot_row, alpha=0.5, gamma=GAMMA, epsilon=0.1)
    config = TrainConfig(agent, blend, num_envs=1, num_steps=size)
    live = partial(_run_seed, config=config, env=env, world=world, episodes=episodes)
    return DiveResults(*map(np.asarray, vmap_seeds(live, seeds)(seed_keys(0, np.arange(seeds)))))


def targets(smoke: bool) -> Iterator[Target]:
    """Every size with and without curiosity; the smoke run has the smallest."""
    seeds, sizes = (4, {10: 2_000}) if smoke else (SEEDS, EPISODES)
    for size, episodes in sizes.items():
        for name, blend in ARMS.items():
            seen = run_dives(size, blend, seeds, episodes)
            curious = bool(blend.names)
            yield Target(
                "T11",
                f"deep sea, N = {size}, {name}",
                "solves it" if curious else "does not",
                solved_text(seen),
                bool(seen.solved.all() if curious else not seen.solved.any()),
            )


def solved_text(seen: DiveResults) -> str:
    """How many seeds solved it, and how soon."""
    number, episodes = seen.found.shape
    text = f"{seen.solved.sum()} of {number} seeds in {episodes:,} episodes"
    if not seen.solved.any():
        return text
    soon = seen.episodes
    return f"{text}, first found after {np.median(soon):,.0f} (at most {soon.max():,})"


def _run_seed(key: jax.Array, *, config: TrainConfig, env: DeepSea, world: World, episodes: int):
    """One seed -> (found [E], known [E])."""
    worlds = partial(_same, world)

    def episode(run: RunnerState, _: None) -> tuple[RunnerState, tuple[jax.Array, jax.Array]]:
        run, metrics, _ = train(run, config, env, worlds, 1)
        return run, (metrics["return"] > 0, _known(run.learner.agent.table, env, world))

    return jax.lax.scan(episode, init_runner(key, config, env, worlds), length=episodes)[1]


def _known(table: jax.Array, env: DeepSea, world: World) -> jax.Array:
    """Whether the best action is to the right all along the diagonal."""
    cell = jnp.arange(env.size)
    best = table.argmax(-1).reshape(env.size, env.size)
    return (best[cell, cell] == world.params.right[cell, cell]).all()


def _same(world: World, key: Any) -> World:
    return world
