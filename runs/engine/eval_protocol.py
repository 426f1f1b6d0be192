"""Evaluation protocol: the points of a suite to score at, and the random keys used there."""

from typing import NamedTuple

import jax

from envs.suite import Suite
from runs.prereg import seal


class EvalProtocol(NamedTuple):
    """Points of a suite at which all arms are scored, with the seeds of worlds and episodes.

    Attributes:
        suite: whose points are scored.
        draw: digest that seeds worlds and episodes (`runs.prereg.seal.draw_sealed`); None for the
            public ("dev") split, which is seeded by the base seed of the plan.
    """

    suite: Suite
    draw: str | None = None

    @property
    def split(self) -> str:
        """Split of the worlds: "dev" or "sealed"."""
        return "dev" if self.draw is None else "sealed"

    @property
    def file(self) -> str:
        """Name of the split's score file."""
        return seal.SCORES[self.split]

    def keys(self, base: int) -> tuple[jax.Array, jax.Array]:
        """Random keys (for drawing worlds, for the episodes in them), from a base seed."""
        if self.draw is None:
            return jax.random.key(base + 1), jax.random.key(base + 2)
        worlds, episodes = jax.random.split(seal.seal_key(self.draw))
        return worlds, episodes

    def seed(self, base: int) -> int:
        """Seed of host-stepped episodes, from a base seed."""
        return base if self.draw is None else seal.host_seed(self.draw)
