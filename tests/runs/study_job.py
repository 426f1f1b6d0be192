"""A job without a terminal, which stops a study after a number of units of work; a small design."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from affect import Blend
from agents.ppo import PPO
from envs.suite import Suite
from runs.cli.study import Job
from runs.engine.presets import Preset, preset


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


def small_preset(suite: Suite) -> Preset:
    """Preset of a suite with a small agent."""
    return preset(suite)._replace(agent=PPO(width=8, epochs=1, minibatches=2))


def with_arms(design: Any, names: Sequence[str], heads: Sequence[str]) -> Any:
    """A design of `runs.reward_free` or `runs.continual` with some of its arms and heads."""
    blend = Blend(epochs=2, **{name: design.blend.heads[name] for name in heads})
    arms = tuple(arm for arm in design.arms if arm.name in names)
    return replace(design, blend=blend, arms=arms)
