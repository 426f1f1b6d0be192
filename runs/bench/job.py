"""One thing to measure, and how a measurement is taken."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

OBS, ACTIONS, WIDTH = 4, 2, 64  # of CartPole and of the networks


@dataclasses.dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        kind: a key of `runs.bench.worker.KINDS`.
        seeds: training runs at once.
        updates: in one measurement; in the kinds of the main job, of the whole training, 0 for
            as many as it has.
        num_envs: environments a seed.
        num_steps: steps in each of them an update.
        heads: of a blend, by the names of `runs.engine.arms`; in the kinds of the main job the
            first one is the arm.
        episodes: at each point of an evaluation.
        world: the suite of the kinds of the main job, and of `wandering`.
    """

    kind: str
    seeds: int
    updates: int
    num_envs: int = 64
    num_steps: int = 128
    heads: tuple[str, ...] = ()
    episodes: int = 256
    world: str = "CartPole"

    @property
    def steps(self) -> int:
        """Environment steps of all seeds in one measurement."""
        return self.seeds * self.num_envs * self.num_steps * self.updates


Measure = Callable[[], dict[str, float]]  # does it once, and says how much in how long


def time_work(work: Callable[[], Any], steps: int) -> dict[str, float]:
    """How long the work takes, finished -> {steps, seconds}."""
    import jax

    began = time.perf_counter()
    jax.block_until_ready(work())
    return {"steps": steps, "seconds": time.perf_counter() - began}
