"""Settings that a sweep may vary: those of a study, its agent, and its heads with their wrappers.

Names: `steps` (a field of the study's `Settings`), `agent.lr`, `heads.hope.horizon`,
`heads.hope.weight`, and `weight`, the weight of every head that is no constant.
"""

import importlib
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from runs.cli.index import list_studies
from runs.cli.settings import parse_settings, typed_value
from runs.engine.arms import named_arms
from runs.engine.knobs import is_plain, knob_kinds, with_knobs
from runs.engine.presets import preset
from runs.errors import UserError
from runs.experiment import Experiment
from runs.names import checked_choice, closest_name
from runs.scale.grid import Axes, Point, distinct, make_points, point_digest

EXPERIMENTS = ("compare",)  # studies whose settings make one experiment
NOT_SWEPT = ("out", "config", "record", "smoke", "seeds", "heads", "sealed")
SIZES = ("steps", "num_envs", "num_steps", "episodes")  # of an experiment that is made in Python
ROOT = Path(__file__).resolve().parents[2]


class Space:
    """The experiments or studies that differ from one in some settings.

    Args:
        experiment: with the settings that no point names; None for a study that is more than one.
        settings: of the study; None for an experiment that was made in Python.
    """

    def __init__(self, experiment: Experiment | None, settings: Any = None):
        self.experiment, self.settings = experiment, settings
        self._made = {point_digest({}): experiment}
        hints = {} if settings is None else typing.get_type_hints(type(settings))
        self.own = {name: kind for name, kind in hints.items() if name not in NOT_SWEPT}
        if settings is None:
            self.own = dict.fromkeys(SIZES, int)

    def kinds(self) -> dict[str, Any]:
        """Type of every setting that may be varied, by name."""
        kinds = dict(self.own)
        if self.experiment is None:
            return kinds
        hints = typing.get_type_hints(type(_agent(self.experiment)))
        kinds |= {f"agent.{name}": kind for name, kind in hints.items() if is_plain(kind)}
        if self.settings is not None:
            kinds.pop("agent.gamma", None)  # the constants of its arms are made for one discount
        for arm in self.experiment.all_arms:
            for head, (_, factory) in arm.blend.heads.items():
                kinds |= {f"heads.{head}.{name}": kind for name, kind in knob_kinds(factory)}
                kinds[f"heads.{head}.weight"] = float
        return kinds | {"weight": float}

    def points(
        self, grid: Axes | Sequence[Point], samples: int = 0, search: str = "sobol"
    ) -> list[Point]:
        """Points of a grid, a sample of it or a list (`make_points`), checked without compiling.

        Raises:
            UserError: for a setting that does not exist, with the closest name; a value of another
                type, or one that its head, agent or study refuses.
        """
        kinds, typed, seen = self.kinds(), [], set[tuple[str, str]]()
        whole = [name for name, kind in kinds.items() if kind is int]
        for point in make_points(grid, samples, search, whole):
            typed.append(values := typed_point(point, kinds))
            new = {(name, str(value)) for name, value in values.items()} - seen
            seen |= new
            if new and self.experiment is None:
                self.settings_at(values)
            elif new:
                _ = self.at(values).plan  # refuses what does not fit
        return distinct(typed)

    def at(self, point: Point) -> Experiment:
        """The experiment of a point; raises UserError for a value that is refused."""
        experiment = self._of_own({k: v for k, v in point.items() if k in self.own})
        agent = {k.partition(".")[2]: v for k, v in point.items() if k.startswith("agent.")}
        knobs = {k: v for k, v in point.items() if k.startswith("heads.") or k == "weight"}
        try:
            if agent:
                experiment = replace(experiment, agent=replace(_agent(experiment), **agent))
            if knobs:
                arms = named_arms(experiment.arms)
                arms = tuple(replace(arm, blend=with_knobs(arm.blend, knobs)) for arm in arms)
                experiment = replace(experiment, arms=arms)
        except ValueError as error:
            raise UserError(f"--grid {_text(point)}: {error}") from None
        return experiment

    def contrast(self, given: Sequence[str] = ()) -> tuple[str, ...]:
        """A contrast, (arm, reference) or (arm,), by default the declared one of the experiment.

        Raises:
            UserError: for an unknown arm, or more than two.
        """
        arms = [arm.name for arm in named_arms(self.experiment.arms)]
        for arm in given:
            checked_choice("arm", arm, arms)
        if len(given) > 2:
            raise UserError(f"--contrast {' '.join(given)}: name an arm and a reference")
        return tuple(given) or tuple(self.experiment.plan.primary) or tuple(arms)

    def settings_at(self, point: Point) -> Any:
        """The settings of the study at a point; raises UserError if the study refuses them."""
        settings = replace(self.settings, **point)
        inspect.getmodule(type(settings)).check(settings)
        return settings

    def _of_own(self, part: Point) -> Experiment:
        """The experiment with other settings of the study, or other sizes; made once for each."""
        key = point_digest(part)
        if key not in self._made:
            if self.settings is None:
                self._made[key] = replace(self.experiment, **part)
            else:
                make = inspect.getmodule(type(self.settings)).make_experiment
                self._made[key] = make(self.settings_at(part))
        return self._made[key]


def study_space(study: str, argv: Sequence[str]) -> Space:
    """The space around a study with some flags; raises UserError for what the study refuses."""
    names = [listed.name for listed in list_studies(ROOT) if listed.recorded]
    module = importlib.import_module(f"runs.{checked_choice('study', study, names)}")
    settings = parse_settings(module.Settings, list(argv), module.__doc__ or "", module.COMMAND)
    module.check(settings)
    experiment = module.make_experiment(settings) if study in EXPERIMENTS else None
    return Space(experiment, settings)


def typed_point(point: Point, kinds: Mapping[str, Any]) -> Point:
    """A point with values, as YAML gives them, of the types of its settings, by name.

    Raises:
        UserError: for a setting that does not exist, with the closest name, or another type.
    """
    values: Point = {}
    for name, value in point.items():
        if name not in kinds:
            raise UserError(f"--grid: there is no setting {name!r}{closest_name(name, kinds)}")
        value = value.item() if isinstance(value, np.generic) else value
        value = list(value) if isinstance(value, tuple) else value
        values[name] = typed_value(value, kinds[name], f"--grid: {name}")
    return values


def _agent(experiment: Experiment) -> Any:
    """The agent of an experiment, by default its preset's."""
    agent = experiment.agent
    return preset(experiment.suite).agent if agent is None else agent


def _text(point: Point) -> str:
    """A point as it is written in a message."""
    return " ".join(f"{name}={value}" for name, value in point.items())
