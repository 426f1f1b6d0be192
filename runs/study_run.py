"""Base of studies of several phases: `StudyRun` trains them with progress and resumes them.

Learners are trained at home and go on from there in other worlds (`runs.reward_free`,
`runs.continual`, `runs.calibrate`). Also their sizes, their finite seeds and the names of their
pages.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affect import Blend, Transition
from envs.suite import Suite
from envs.world import World
from runs.analysis.stats import FEWEST
from runs.cli.study import Job
from runs.engine.backend import make_backend
from runs.engine.cache import cached_part
from runs.engine.checkpoint import Checkpoints
from runs.engine.config import RunConfig, make_run_config
from runs.engine.evaluate import EvalPoints
from runs.engine.jax_backend import DRAWS
from runs.engine.phases import Phase, world_pool
from runs.engine.presets import preset
from runs.engine.train import Learner
from runs.engine.training_loop import Chunk, Trained, run_phase
from runs.errors import Interrupted, UserError
from runs.names import safe_name
from runs.signal_arms import AT_HOME, with_parent_critic
from runs.tree_io import leaves_digest

NO_HEADS = Blend()  # one object: agents that are trained with it share their compiled programs
SMOKE_SIZES = {"seeds": 3, "num_envs": 4, "num_steps": 32, "episodes": 4}


@dataclass(frozen=True)
class StudyDesign:
    """What a study of several phases runs; a study adds its own.

    Attributes:
        suite: with the shifts that are used.
        home: sizes of the training at home, and of evaluations.
        further: sizes of the training elsewhere after it.
        blend: heads of all learners.
    """

    suite: Suite
    home: RunConfig
    further: RunConfig
    blend: Blend


def run_configs(
    settings: Any,
    suite: Suite,
    steps: Sequence[int],
    chunks: Sequence[int],
    episodes: int,
    smoke_updates: Sequence[int],
) -> list[RunConfig]:
    """Sizes of trainings at home and in other worlds, with the preset's agent and environments.

    Each training has its `steps` a seed, in at most so many `chunks`; in a smoke run, which has
    SMOKE_SIZES, its `smoke_updates`.
    """
    sizes, smoke = preset(suite), settings.smoke
    common = {"seeds": settings.seeds, "num_envs": sizes.num_envs, "num_steps": sizes.num_steps}
    common["episodes"] = episodes
    if smoke:
        common = SMOKE_SIZES
        steps = [common["num_envs"] * common["num_steps"] * updates for updates in smoke_updates]
    base, draws = getattr(settings, "base", 0), DRAWS if sizes.jitted else 1
    common = common | {"base": base, "draws": draws, "optimise": not smoke}
    return [
        make_run_config(sizes.agent, steps=n, chunks=count, **common)
        for n, count in zip(steps, chunks, strict=True)
    ]


class StudyRun(AbstractContextManager):
    """Trains phases of a study in its folder; a context manager that ends worker processes.

    Progress is counted in updates; one of all learners of a phase is `units_an_update`.

    Args:
        job: its folder, progress and stop flag.
        env: the environment.
        home: sizes of the training at home, and of all evaluations.
    """

    def __init__(self, job: Job, env: Any, home: RunConfig):
        self.out, self.progress, self.stopped = job.out, job.progress, job.stopped
        self.backend, self.home, self.done = make_backend(env, home), home, 0
        self.units_an_update = 1

    def __exit__(self, *error: Any) -> None:
        self.backend.close()

    def train(
        self,
        name: str,
        phase: Phase,
        start: Any = None,
        folder: Path | None = None,
        on_chunk: Callable[[Chunk], Any] = lambda chunk: None,
    ) -> Trained:
        """Train a phase, showing `name`, and resume it.

        Args:
            name: shown as progress.
            phase: to train.
            start: state at its beginning, or a function that returns it; by default of untrained
                learners.
            folder: of the checkpoints from which it is resumed; None keeps none.
            on_chunk: receives each chunk.

        Raises:
            Interrupted: if a stop is requested.
        """
        before, begin = self.done, start
        if start is None:
            begin = partial(self.backend.init, phase)
        elif not callable(start):
            begin = lambda: start  # noqa: E731

        def advance(chunks: int, fresh: bool) -> None:
            self.done = before + chunks * phase.updates * self.units_an_update
            self.progress.advance(name, self.done, fresh)

        def after_chunk(chunk: Chunk) -> None:
            on_chunk(chunk)
            advance(chunk.index + 1, True)

        return run_phase(
            self.backend,
            phase,
            begin,
            self.stopped,
            folder and Checkpoints(folder, keep=1, warn=self.progress.say),
            lambda chunks: advance(chunks, False),
            after_chunk,
        )

    def train_from(self, name: str, phase: Phase, learner: Learner | None = None) -> Trained:
        """Train a phase from a learner or untrained ones (`train`), or restore it.

        Its checkpoints are in a folder of this name and a digest of the worlds and of the learner.
        """
        start = None if learner is None else partial(self.backend.enter, learner, phase)
        folder = self.out / f"{safe_name(name)}-{leaves_digest((phase.worlds, learner))}"
        return self.train(name, phase, start, folder)

    def train_and_measure(
        self, name: str, phase: Phase, start: Any, times: int, measure: Callable[[Learner], Any]
    ) -> tuple[Trained, list[Any]]:
        """Train a phase several times on end (`train`) -> (result, what is measured after each)."""
        alive, measured = np.ones(self.home.rows, bool), []
        for _ in range(times):
            start, finite = self.train(name, phase, start)
            alive &= finite
            measured.append(measure(start.learner))
        return Trained(start, alive), measured

    def scores(self, learner: Learner, points: EvalPoints) -> list[dict[str, np.ndarray]]:
        """Scores [seeds] by name of the agents from home at each point."""
        scored = self.backend.evaluate(learner, self.home.agent, points, self.stopped)
        return [{name: x[: self.home.seeds] for name, x in score.items()} for score in scored]

    def recordings(
        self, learner: Any, points: EvalPoints, agent: Any = None
    ) -> Iterator[tuple[Transition, Any]]:
        """Whole episodes at each point -> (transitions, alive), each [S, T, B] (`Backend.record`).

        They are of the agents from home, or of another one whose state is in the learners.
        """
        acting = self.home.agent if agent is None else agent
        return self.backend.record(learner, acting, points, self.stopped, self.home.episodes)

    def train_at_home(self, pool: World, blend: Blend, folder: Path) -> Trained:
        """Train on the task reward in worlds [N], or restore -> (learners, alive).

        Their critic is in every `ParentCritic` of the blend.
        """
        sizes = self.home.chunks, self.home.updates, self.home.agent
        phase = Phase(world_pool(pool), *sizes, blend, AT_HOME.mix(blend))
        state, alive = self.train("at home", phase, folder=folder)
        if failed := int((~alive[: self.home.seeds]).sum()):
            self.progress.say(f"{failed} seeds got non-finite numbers at home and are stopped")
        return Trained(with_parent_critic(state.learner, blend), alive)

    def part(self, name: str, digest: str, updates: int, compute: Callable[[], dict]) -> dict:
        """Columns of a part of the study, from its file or computed in so many `updates`.

        A saved part of another `digest`, that of all that it depends on, is replaced. Raises
        Interrupted if a stop is requested.
        """
        if self.stopped():
            raise Interrupted
        before, path = self.done, self.out / "parts" / f"{safe_name(name)}.json"
        part, fresh = cached_part(path, digest, lambda: {"columns": compute()})
        self.done = before + updates
        self.progress.advance(name, self.done, fresh)
        return part["columns"]


def seed_rows(
    measures: Mapping[str, Any], trained: Trained, seeds: int, **labels: Any
) -> pd.DataFrame:
    """Table with a row for each of the first seeds: measures [S], labels, seed, `alive`."""
    table = pd.DataFrame({name: np.asarray(x, float) for name, x in measures.items()})
    return table.assign(**labels, seed=range(len(table)), alive=trained.alive)[:seeds]


def finite_seeds(results: pd.DataFrame) -> pd.DataFrame:
    """Results, a row per arm, seed and more, of the seeds that are `alive` in every arm.

    Raises:
        UserError: if fewer than 3 are.
    """
    alive = results.groupby("seed")["alive"].all()
    if alive.sum() < FEWEST:
        raise UserError(
            f"{alive.sum()} of {len(alive)} seeds have finite numbers in every arm, and an "
            f"interval needs {FEWEST}: run more --seeds"
        )
    return results[results["seed"].map(alive)]


def page_name(study: str, suite: str) -> str:
    """Name of the page of a study: with that of the suite, unless it is Drive."""
    return study if suite == "Drive" else safe_name(f"{study}-{suite}")
