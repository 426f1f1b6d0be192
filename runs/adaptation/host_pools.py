"""Worker processes of a host-stepped environment, shared by all learners of a study.

The processes are reused from world to world and from arm to arm. A run that continues from an
earlier state is restored by replaying the actions of its episodes under way.
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
    """State of training in a host-stepped environment, leaves [rows, ...].

    Attributes:
        learner: agent and heads.
        host_obs: last observations.
        episode_stats: of the episodes under way.
        key: of each learner's stream of random numbers.
        world: the present world.
        seed: of the episodes there.
        snapshot: of the environments, to be replayed (`envs.host.pool.HostPool.snapshot`).
    """

    learner: Learner
    host_obs: HostObservation
    episode_stats: EpisodeStats
    key: jax.Array
    world: World
    seed: int
    snapshot: dict[str, np.ndarray]


class HostPools:
    """The worker processes in which all learners are trained and evaluated.

    Args:
        agent: that acts.
        host: the environment.
        sizes: numbers of learners, environments, steps and episodes.
    """

    def __init__(self, agent: Any, host: HostEnv, sizes: LearnerSizes):
        self.host, self.sizes = host, sizes
        self.stepper = compiled_stepper(agent, host, sizes.rows)
        self.evaluator = HostEvaluator(agent, host, sizes.rows, sizes.episodes)
        self.pool: HostPool | None = None
        self._current: dict | None = None  # the snapshot that equals the present state

    def reset(self, world: World, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Reset all environments in a world -> (observations [rows, B, D], snapshot)."""
        self._remake(world, seed)
        return by_seed(self.pool.reset(), self.sizes.rows), self.snapshot()

    def restore(self, run: HostRunnerState) -> None:
        """Restore the environments to the state of a run, unless they are still in it."""
        if self._current is not run.snapshot:
            self._remake(run.world, run.seed)
            self.pool.restore(run.snapshot)
        self._current = None

    def snapshot(self) -> dict[str, np.ndarray]:
        """Snapshot of the present state of all environments."""
        self._current = self.pool.snapshot()
        return self._current

    def close(self) -> None:
        """End the worker processes; the next reset or evaluation starts new ones."""
        self.evaluator.close()
        if self.pool is not None:
            self.pool.close()
        self.pool, self._current = None, None

    def _remake(self, world: World, seed: int) -> None:
        """Start the worker processes, or move them to another world."""
        make = self.host.maker(world)
        if self.pool is None:
            count = self.sizes.rows * self.sizes.num_envs
            self.pool = HostPool(make, count, seed, name=self.host.id)
        else:
            self.pool.remake(make, seed)
