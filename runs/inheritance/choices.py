"""Choices in development worlds: the base reward, the numbers of every carrier in every body."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from runs.inheritance.design import InheritDesign
from runs.inheritance.run import Cell, InheritRun
from runs.inheritance.tuning import Choice, choose, trials
from runs.scale.grid import Axes

OWN = "own"
RETUNED = ("scale", "shift", "k")  # numbers that are chosen again in each body
Key = tuple[str, str]  # carrier, body


class Choices(NamedTuple):
    """What was chosen in development.

    Attributes:
        base: constant reward of every newborn, in units of 1 - gamma: 0 or 1.
        chosen: (carrier, body) -> numbers and score.
        areas: (carrier, body) -> areas under the learning curves [newborns] of the chosen trial.
        misfits: (carrier, body) -> why the carrier cannot enter the body.
        table: a row for every newborn that was raised.
    """

    base: float
    chosen: Mapping[Key, Choice]
    areas: Mapping[Key, np.ndarray]
    misfits: Mapping[Key, str]
    table: pd.DataFrame

    def numbers(self, carrier: str, body: str) -> dict[str, float] | None:
        """Numbers of a carrier in a body; None if it cannot enter it."""
        choice = self.chosen.get((carrier, body))
        return None if choice is None else choice.numbers

    def best(self, body: str, carriers: Iterable[str]) -> str:
        """Carrier of the highest score in a body, of those that can enter it."""
        able = [name for name in carriers if (name, body) in self.chosen]
        return max(able, key=lambda name: self.chosen[name, body].score)


def choose_all(run: InheritRun) -> Choices:
    """Choose the base reward, then the numbers of every carrier: in the own body, then in others.

    In another body `RETUNED` and the body's own numbers are chosen again; all others stay as they
    were chosen in the parents' body. A carrier gets as many trials as any other.
    """
    design, tables = run.design, []
    chosen: dict[Key, Choice] = {}
    areas: dict[Key, np.ndarray] = {}
    misfits: dict[Key, str] = {}

    def tune(carrier: str, body: str, step: str = "chosen") -> None:
        if reason := run.misfit(carrier, body):
            misfits[carrier, body] = reason
            return
        knobs, points = tried(design, carrier, body, chosen.get((carrier, OWN)))
        cell = Cell(carrier, body, points, design.dev_newborns)
        table = run.raise_cell(step, cell, design.config.base)
        by_trial = table.pivot(index="trial", columns=["place", "pair"], values="area").to_numpy()
        choice = choose(points, by_trial, knobs)
        chosen[carrier, body] = choice
        areas[carrier, body] = by_trial[points.index(choice.numbers)]
        tables.append(table.assign(carrier=carrier, body=body, base=run.base))

    scores = {}
    for run.base in (0.0, 1.0):
        tune("none", OWN, f"base {run.base:g}")
        scores[run.base] = chosen["none", OWN].score
    run.base = max(scores, key=scores.get)
    for body in design.bodies:
        for carrier in design.carriers_in(body):
            tune(carrier, body)
    return Choices(run.base, chosen, areas, misfits, pd.concat(tables, ignore_index=True))


def tried(
    design: InheritDesign, carrier: str, body: str, own: Choice | None
) -> tuple[Axes, list[dict[str, float]]]:
    """Intervals and trials of a carrier in a body, given its choice in the parents' own."""
    of_carrier, of_body = design.carriers[carrier].knobs, design.bodies[body].knobs
    if body == OWN:
        return of_carrier, trials(of_carrier, design.trials)
    fixed = {k: v for k, v in (own.numbers if own else {}).items() if k not in RETUNED}
    knobs = {**of_carrier, **of_body}
    return knobs, trials(knobs, design.trials if of_body else design.body_trials, fixed)


def planned_cells(design: InheritDesign) -> list[int]:
    """Number of newborns of each cell of `choose_all`, if every carrier could enter each body."""
    counts = [len(design.dev_newborns)] * 2
    for body in design.bodies:
        for carrier in design.carriers_in(body):
            _, points = tried(design, carrier, body, None)
            counts.append(len(points) * len(design.dev_newborns))
    return counts
