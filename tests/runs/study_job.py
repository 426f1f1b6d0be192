"""A job that stops a study after a number of units of work, a small design, cells of a page."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from affect import Blend
from agents.ppo import PPO
from envs.suite import Suite
from runs import signal_arms, study_run
from runs.cli.study import Job
from runs.engine.backend import make_backend
from runs.engine.presets import Preset, preset
from tests.runs import small_study


class FakeProgress:
    """Progress that counts its units."""

    def __init__(self):
        self.total, self.done, self.fresh, self.lines = 0, 0, 0, []

    def say(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)

    def advance(self, name: str, done: int, fresh: bool = True) -> None:
        """Count a unit."""
        self.done, self.fresh = done, self.fresh + fresh


def make_job(settings: Any, out: Path, stop_at: float = float("inf")) -> Job:
    """A job in a folder that is asked to stop once `stop_at` units are done."""
    progress = FakeProgress()
    return Job(settings, out, "the command", progress, lambda: progress.done >= stop_at)


def files(out: Path) -> dict[str, bytes]:
    """Content of the results in a study's folder, by path: parts, score files, plan."""
    paths = [*out.glob("parts/*.json"), *out.glob("*.csv"), *out.glob("plan.toml")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def table_rows(text: str) -> list[list[str]]:
    """Cells of the rows of all Markdown tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


one_backend = functools.cache(make_backend)  # of all studies of a module, compiled once


def small_preset(suite: Suite) -> Preset:
    """Preset of a suite with a small agent."""
    return preset(suite)._replace(agent=PPO(width=8, epochs=1, minibatches=2))


@contextmanager
def small_world(module: Any, **constants: Any) -> Iterator[None]:
    """Let the study that is designed in `module` run in CartPole of 20 steps, on one backend.

    `constants` replace those of `runs.signal_arms`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "find_suite", lambda env, **options: small_study.suite())
        patch.setattr(study_run, "make_backend", one_backend)
        for place in (module, study_run):
            patch.setattr(place, "preset", small_preset)
        for name, value in constants.items():
            patch.setattr(signal_arms, name, value)
        yield


def with_arms(design: Any, names: Sequence[str], heads: Sequence[str]) -> Any:
    """A design of `runs.reward_free` or `runs.continual` with some of its arms and heads."""
    blend = Blend(epochs=2, **{name: design.blend.heads[name] for name in heads})
    arms = tuple(arm for arm in design.arms if arm.name in names)
    return replace(design, blend=blend, arms=arms)
