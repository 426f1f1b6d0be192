"""Where the learners of a host-stepped environment are: a few worker processes for all of them.

The processes go from world to world with the learners, one life after another. Whoever goes on
from where they no longer are is brought back there, by the actions of the episodes under way.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from envs.host import Host
from envs.host_pool import HostPool
from envs.world import World
from runs.adapting.adapt import Sizes
from runs.harness.stage import Stage
from runs.harness.train import Learner, Tally
from runs.harness.turn import Ears, by_seed, compiled


class Stay(NamedTuple):
    """All learners where they are, leaves [rows, ...].

    Attributes:
        learner: what learns.
        ears: what is sensed.
        tally: of the episodes under way.
        key: of each learner's stream.
        world: where it is.
        seed: of the episodes there.
        pool: of the environments, to be played again (`envs.host_pool.HostPool.snapshot`).
    """

    learner: Learner
    ears: Ears
    tally: Tally
    key: jax.Array
    world: World
    seed: int
    pool: dict[str, np.ndarray]


class Places:
    """The worker processes: where all learners live, and where they are scored.

    Args:
        agent: how they act.
        host: the environment.
        sizes: of it all.
    """

    def __init__(self, agent: Any, host: Host, sizes: Sizes):
        self.host, self.sizes = host, sizes
        self.turn = compiled(agent, host, sizes.rows)
        self.stage = Stage(agent, host, sizes.rows, sizes.episodes)
        self.pool: HostPool | None = None
        self._at: dict | None = None  # the snapshot that the pool stands at

    def begin(self, world: World, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """First observations [rows, B, D] of all environments in a world, and their snapshot."""
        self._go(world, seed)
        return by_seed(self.pool.reset(), self.sizes.rows), self.here()

    def back(self, stay: Stay) -> None:
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
