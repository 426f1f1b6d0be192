"""Tune in development worlds: the base reward, and the numbers of each carrier in each body."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from runs.errors import UserError
from runs.inheritance.design import InheritDesign
from runs.inheritance.run import Cell, InheritRun
from runs.inheritance.tuning import Choice, best_trials, choose, stages, trials
from runs.scale.grid import Axes

OWN = "own"
RETUNED = ("scale", "hope", "shift", "k", "end")  # numbers that are chosen again in each body
Key = tuple[str, str]  # carrier, body


class Choices(NamedTuple):
    """What was chosen in development.

    Attributes:
        base: constant reward of every newborn, in units of 1 - gamma: 0 or 1.
        chosen: (carrier, body) -> numbers and score.
        areas: (carrier, body) -> areas under the learning curves [newborns] of the chosen trial.
        misfits: (carrier, body) -> why the carrier cannot enter the body.
    """

    base: float
    chosen: Mapping[Key, Choice]
    areas: Mapping[Key, np.ndarray]
    misfits: Mapping[Key, str]

    def numbers(self, carrier: str, body: str) -> dict[str, float] | None:
        """Numbers of a carrier in a body; None if it cannot enter it."""
        choice = self.chosen.get((carrier, body))
        return None if choice is None else choice.numbers

    def best(self, body: str, carriers: Iterable[str]) -> str:
        """Carrier of the highest score in a body, of those that can enter it."""
        able = [name for name in carriers if (name, body) in self.chosen]
        return max(able, key=lambda name: self.chosen[name, body].score)


def choose_base(run: InheritRun) -> Choices:
    """Choose the base reward: that with which a newborn that inherits nothing learns best, 0 or 1.

    Nothing else is chosen yet.
    """
    scores = {}
    for run.base in (0.0, 1.0):
        scores[run.base] = tune(run, "none", OWN, None, f"base {run.base:g}")[0].score
    return Choices(max(scores, key=scores.get), {}, {}, {})


def choose_numbers(run: InheritRun, bodies: Iterable[str], before: Choices) -> Choices:
    """Choose the numbers of every carrier in some bodies, beside what was chosen before.

    In another body than the parents' own `RETUNED` and the body's own numbers are chosen again; all
    others stay as they were chosen there. A carrier gets as many trials as any other. What was
    chosen before is kept.
    """
    design, run.base = run.design, before.base
    chosen, areas, misfits = dict(before.chosen), dict(before.areas), dict(before.misfits)
    for body in bodies:
        for carrier in design.carriers_in(body):
            if reason := run.misfit(carrier, body):
                misfits[carrier, body] = reason
                continue
            if (carrier, body) in chosen:
                continue
            own = chosen.get((carrier, OWN))
            chosen[carrier, body], areas[carrier, body] = tune(run, carrier, body, own)
    return Choices(run.base, chosen, areas, misfits)


def tune(
    run: InheritRun, carrier: str, body: str, own: Choice | None, step: str = "chosen"
) -> tuple[Choice, np.ndarray]:
    """Choose the numbers of a carrier in a body -> (choice, its areas [newborns]).

    Args:
        run: the study.
        carrier: its name.
        body: its name.
        own: what was chosen for the carrier in the parents' own body.
        step: of the study, for the names of parts.
    """
    design, tables = run.design, []
    knobs, points = tried(design, carrier, body, own)
    left = np.arange(len(points))  # trials that go on
    for i, (count, newborns) in enumerate(stages(len(points), design.dev_newborns), 1):
        if tables:
            left = left[best_trials(areas_of(tables, left), count)]
        cell = Cell(carrier, body, [points[trial] for trial in left], newborns)
        table = run.raise_cell(f"{step} {i}", cell, design.config.base)
        tables.append(table.assign(trial=left[table["trial"]]))
    areas = areas_of(tables, left)
    choice = choose([points[trial] for trial in left], areas, knobs, len(points))
    return choice, areas[best_trials(areas, 1)[0]]


def choices_csv(choices: Choices) -> str:
    """Choices as CSV, a row for each carrier and body; impossible ones have no numbers."""
    rows = [
        {"carrier": carrier, "body": body, "base": choices.base, **choice._asdict()}
        | {"numbers": json.dumps(choice.numbers), "at_edge": " ".join(choice.at_edge)}
        | {"areas": json.dumps([round(float(area), 6) for area in choices.areas[carrier, body]])}
        for (carrier, body), choice in choices.chosen.items()
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def read_choices(path: Path, design: InheritDesign) -> Choices:
    """Choices of an earlier study, from the file that `choices_csv` made.

    Raises:
        UserError: for a file that is missing, or has other columns, or numbers that are not those
            of its carrier in its body.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False)
        chosen, areas = {}, {}
        for row in table.itertuples():
            numbers = {str(k): float(v) for k, v in json.loads(row.numbers).items()}
            at_edge = tuple(row.at_edge.split())
            chosen[row.carrier, row.body] = Choice(numbers, row.score, row.tried, at_edge)
            areas[row.carrier, row.body] = np.array(json.loads(row.areas), np.float64)
        (base,) = set(table["base"])
    except OSError as error:
        raise UserError(f"--choices {path}: {str(error.strerror).lower()}") from None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        cause = " ".join(str(error).split())[:120]
        raise UserError(
            f"--choices {path} is no table of choices ({cause}): give the -choices.csv of a study"
        ) from None
    for (carrier, body), choice in chosen.items():
        if carrier in design.carriers and body in design.bodies:
            expected = {*design.carriers[carrier].knobs, *design.bodies[body].knobs}
            if set(choice.numbers) != expected:
                raise UserError(
                    f"--choices {path}: {carrier} in {body} has the numbers "
                    f"{', '.join(sorted(choice.numbers)) or 'none'}, expected "
                    f"{', '.join(sorted(expected)) or 'none'}: choose them again"
                )
    return Choices(float(base), chosen, areas, {})


def areas_of(tables: Iterable[pd.DataFrame], trials: np.ndarray) -> np.ndarray:
    """Areas [N, newborns] of some trials [N] in the tables of all stages."""
    columns = [
        table.pivot(index="trial", columns=["place", "pair"], values="area").loc[trials]
        for table in tables
    ]
    return np.concatenate(columns, 1)


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


def planned_newborns(
    design: InheritDesign, bodies: Iterable[str], known: Choices | None = None
) -> int:
    """Number of newborns of choices in some bodies, if every carrier could enter each of them.

    Those of the base are among them, and those of what is `known` are not.
    """
    chosen, count = known.chosen if known else {}, 0 if known else 2 * len(design.dev_newborns)
    for body in bodies:
        for carrier in design.carriers_in(body):
            if (carrier, body) not in chosen:
                _, points = tried(design, carrier, body, None)
                parts = stages(len(points), design.dev_newborns)
                count += sum(trials * len(newborns) for trials, newborns in parts)
    return count
