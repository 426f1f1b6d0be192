"""Where the learners of a host-stepped environment are: a few worker processes for all of them.

The processes go from world to world with the learners, one life after another. Whoever goes on
from where they no longer are is brought back there, by the actions of the episodes under way.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from envs.host.pool import HostPool
from envs.host.suite import HostEnv
from envs.world import World
from runs.adaptation.jax_learners import LearnerSizes
from runs.engine.host_evaluate import HostEvaluator
from runs.engine.host_step import HostObservation, by_seed, compiled_stepper
from runs.engine.train import EpisodeStats, Learner


class HostRunnerState(NamedTuple):
    """All learners where they are, leaves [rows, ...].

    Attributes:
        learner: what learns.
        host_obs: what is sensed.
        episode_stats: of the episodes under way.
        key: of each learner's stream.
        world: where it is.
        seed: of the episodes there.
        pool: of the environments, to be played again (`envs.host.pool.HostPool.snapshot`).
    """

    learner: Learner
    host_obs: HostObservation
    episode_stats: EpisodeStats
    key: jax.Array
    world: World
    seed: int
    pool: dict[str, np.ndarray]


class HostPools:
    """The worker processes: where all learners live, and where they are scored.

    Args:
        agent: how they act.
        host: the environment.
        sizes: of it all.
    """

    def __init__(self, agent: Any, host: HostEnv, sizes: LearnerSizes):
        self.host, self.sizes = host, sizes
        self.turn = compiled_stepper(agent, host, sizes.rows)
        self.stage = HostEvaluator(agent, host, sizes.rows, sizes.episodes)
        self.pool: HostPool | None = None
        self._at: dict | None = None  # the snapshot that the pool stands at

    def begin(self, world: World, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """First observations [rows, B, D] of all environments in a world, and their snapshot."""
        self._go(world, seed)
        return by_seed(self.pool.reset(), self.sizes.rows), self.here()

    def back(self, stay: HostRunnerState) -> None:
        """Brings the environments to where a stay left them, if they have moved on."""
        if self._at is not stay.pool:
            self._go(stay.world, stay.seed)
            self.pool.restore(stay.pool)
        self._at = None

    def here(self) -> dict[str, np.ndarray]:
        """The snapshot of where they are."""
        self._at = self.pool.snapshot()
        return self._at

    def close(self) -> None:
        """Ends the worker processes; whoever goes on starts others."""
        self.stage.close()
        if self.pool is not None:
            self.pool.close()
        self.pool, self._at = None, None

    def _go(self, world: World, seed: int) -> None:
        make = self.host.maker(world)
        if self.pool is None:
            count = self.sizes.rows * self.sizes.num_envs
            self.pool = HostPool(make, count, seed, name=self.host.id)
        else:
            self.pool.remake(make, seed)
