"""Sizes of a study, shared by all its arms."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunConfig:
    """Sizes of training and evaluation of one arm.

    Attributes:
        agent: static description of the agent, such as `PPO`.
        seeds: S, training runs per arm.
        rows: seeds computed: S rounded up to a multiple of the devices; the extra ones are ignored.
        chunks: of training per arm.
        updates: per chunk.
        num_envs: B, environments per seed.
        num_steps: T, steps of each environment per update.
        episodes: evaluated at each point.
        base: seed from which all keys are derived.
        optimise: whether to compile with XLA optimisation (for long runs).
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
        """Environment steps per seed and chunk: updates x B x T."""
        return self.updates * self.num_envs * self.num_steps
