"""What trained agents are asked: the points of a suite, and whose luck draws their worlds."""

from typing import NamedTuple

import jax

from envs.suite import Suite
from runs.prereg import seal


class EvalProtocol(NamedTuple):
    """One scoring of all arms.

    Attributes:
        suite: whose points are scored.
        draw: digest that draws worlds and episodes (`runs.prereg.seal.draw_sealed`); None in public,
            where the base seed of the plan does.
    """

    suite: Suite
    draw: str | None = None

    @property
    def split(self) -> str:
        """Of the worlds: "dev" or "sealed"."""
        return "dev" if self.draw is None else "sealed"

    @property
    def file(self) -> str:
        """Name of the score file."""
        return seal.SCORES[self.split]

    def keys(self, base: int) -> tuple[jax.Array, jax.Array]:
        """Of the worlds, and of what happens in them."""
        if self.draw is None:
            return jax.random.key(base + 1), jax.random.key(base + 2)
        worlds, episodes = jax.random.split(seal.seal_key(self.draw))
        return worlds, episodes

    def seed(self, base: int) -> int:
        """Of host-stepped episodes."""
        return base if self.draw is None else seal.host_seed(self.draw)
