"""The sizes of a study, the same for each of its arms."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunConfig:
    """How much of everything.

    Attributes:
        agent: the agent's description.
        seeds: S, training runs an arm.
        rows: seeds computed, S rounded up to what the devices share evenly; the rest is ignored.
        chunks: of training, an arm.
        updates: in a chunk.
        num_envs: B, environments a seed.
        num_steps: T, steps in each of them an update.
        episodes: scored at each point.
        base: seed of all seeds.
        optimise: whether programs run long enough to be compiled with care.
    """

    agent: Any
    seeds: int
    rows: int
    chunks: int
    updates: int
    num_envs: int
    num_steps: int
    episodes: int
    base: int = 0
    optimise: bool = True

    @property
    def chunk_steps(self) -> int:
        """Environment steps a seed takes in a chunk."""
        return self.updates * self.num_envs * self.num_steps
