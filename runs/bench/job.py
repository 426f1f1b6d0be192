"""Benchmark job (what is measured, at which sizes) and the timer."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

OBS, ACTIONS, WIDTH = 4, 2, 64  # of CartPole and of the networks


@dataclasses.dataclass(frozen=True)
class Job:
    """What to measure, and at which sizes.

    Attributes:
        kind: a key of `runs.bench.worker.KINDS`.
        seeds: training runs in parallel.
        updates: of the agent in one measurement; in the kinds of `runs.bench.main_job` in the whole
            training, 0 for the number that `runs.compare` uses.
        num_envs: environments per seed.
        num_steps: steps of each environment per update.
        heads: of the blend, by the names of `runs.engine.arms`; in the kinds of
            `runs.bench.main_job` the first one names the arm.
        episodes: per point of an evaluation.
        world: name of the suite, in the kinds of `runs.bench.main_job` and in `wandering`.
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


Measure = Callable[[], dict[str, float]]  # measures once -> values by name


def time_work(work: Callable[[], Any], steps: int) -> dict[str, float]:
    """Time the work until its results are ready -> {steps, seconds}."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(work())
    return {"steps": steps, "seconds": time.perf_counter() - start}
