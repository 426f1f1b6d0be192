"""Train new agents with hand-chosen numbers, not tuned: a table of arms x worlds from a YAML file.

worlds: [Timid, cross, cones 0.75]
pairs: 8
arms:
2 critic - 1, c: {carrier: value, numbers: {scale: 2, shift: -1}, base: 1, less: none}
none: {carrier: none, body: 16 units}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.cli.settings import read_yaml
from runs.cli.study import Job
from runs.errors import UserError
from runs.inheritance.bodies import EXTRA_NOTE, body_label
from runs.inheritance.choices import OWN
from runs.inheritance.design import InheritDesign
from runs.inheritance.homes import Place
from runs.inheritance.run import Cell, InheritRun
from runs.names import checked_choice
from runs.report.page import Page, markdown_table, page_text

FIELDS = ("carrier", "body", "numbers", "base", "less")


class GivenArm(NamedTuple):
    """An arm of the table.

    Attributes:
        name: of the arm.
        base: constant reward, in units of 1 - gamma.
        cell: its newborns.
        less: name of the arm that it is compared with, pair by pair; empty for none.
    """

    name: str
    base: float
    cell: Cell
    less: str = ""


def read_arms(path: Path, design: InheritDesign) -> list[GivenArm]:
    """The arms of a file.

    Raises:
        UserError: for a file that cannot be read, an unknown key, carrier, body or world, a number
            that the carrier does not have or lacks, or more pairs than there are.
    """
    content = read_yaml(path, "--table ")
    expected = ("worlds", "pairs", "arms")
    if not isinstance(content, dict) or set(content) != set(expected):
        raise UserError(f"--table {path}: expected the keys {', '.join(expected)}, and no others")
    pairs = content["pairs"]
    if not isinstance(pairs, int) or not stats.FEWEST <= pairs <= design.pairs:
        raise UserError(f"--table {path}: pairs {pairs}, expected {stats.FEWEST} to {design.pairs}")
    places = [place_named(str(name), design) for name in content["worlds"]]
    newborns = [(design.dev_parents + i, place) for place in places for i in range(pairs)]
    arms = [
        given_arm(f"--table {path}, {name}", str(name), fields or {}, newborns, design)
        for name, fields in content["arms"].items()
    ]
    for arm in arms:
        others = [other.name for other in arms if other is not arm]
        if arm.less:
            checked_choice(f"--table {path}, {arm.name}: less", arm.less, others)
    return arms


def given_arm(
    where: str, name: str, fields: Mapping[str, Any], newborns: list, design: InheritDesign
) -> GivenArm:
    """One arm of a file; raises UserError, beginning with `where` it stands."""
    for field in fields:
        checked_choice(f"{where}: field", field, FIELDS)
    carrier = checked_choice(f"{where}: carrier", fields.get("carrier", "none"), design.carriers)
    body = checked_choice(f"{where}: body", fields.get("body", OWN), design.bodies)
    numbers = fields.get("numbers") or {}
    needed = {*design.carriers[carrier].knobs, *design.bodies[body].knobs}
    if set(numbers) != needed:
        raise UserError(
            f"{where}: numbers {', '.join(numbers) or 'none'}, expected those of {carrier}: "
            f"{', '.join(sorted(needed)) or 'none'}"
        )
    numbers = {key: float(value) for key, value in numbers.items()}
    cell = Cell(carrier, body, [numbers], newborns)
    return GivenArm(name, float(fields.get("base", 0)), cell, str(fields.get("less", "")))


def place_named(name: str, design: InheritDesign) -> Place:
    """The world of a name, such as Timid, cross or cones 0.75, in the suite of the parents.

    Raises:
        UserError: for an unknown one.
    """
    if name in design.suites:
        return Place(name)
    shift, _, severity = name.partition(" ")
    names = (*design.suites, *(shift.name for shift in design.suite.shifts))
    checked_choice("world", shift, names)
    try:
        return Place(design.suite.name, shift, float(severity or 1))
    except ValueError:
        raise UserError(f"world {name}: write a severity as a number, as in cones 0.75") from None


def run_table(run: InheritRun, arms: list[GivenArm]) -> pd.DataFrame:
    """Raise the newborns of all arms -> a row each."""
    tables = []
    for arm in arms:
        if reason := run.misfit(arm.cell.carrier, arm.cell.body):
            run.progress.say(f"{arm.name}: impossible, {reason}")
            continue
        run.base = arm.base
        tables.append(run.raise_cell(arm.name, arm.cell, run.home.base).assign(arm=arm.name))
    return pd.concat(tables, ignore_index=True)


def table_page(design: InheritDesign, arms: list[GivenArm], table: pd.DataFrame, job: Job) -> Page:
    """Page of areas under the learning curve, success, and paired differences, in each world."""
    worlds, rows = list(dict.fromkeys(place.name for _, place in arms[0].cell.newborns)), []
    for arm in arms:
        label = body_label(arm.name, design.bodies[arm.cell.body])
        of_arm, cells = table[table["arm"] == arm.name], [label]
        for world in worlds:
            part = of_arm[of_arm["place"] == world]
            area = stats.nan_estimate(part["area"].to_numpy(np.float64))
            success = f"{part['success'].mean():.2f}" if len(part) else "impossible"
            cells.append(f"{area.value:.3f} ±{(area.high - area.low) / 2:.3f} / {success}")
        rows.append(cells)
    note = (
        f"Area under the learning curve with half its 95 % interval / success at the end; "
        f"{len(arms[0].cell.newborns) // len(worlds)} pairs of a parent and a newborn."
    )
    name, sections = job.settings.table.stem, [markdown_table(["arm", *worlds], rows), note]
    if any(design.bodies[arm.cell.body].extra for arm in arms):
        sections.append(EXTRA_NOTE)
    if compared := [arm for arm in arms if arm.less]:
        sections += ["## Differences, pair by pair\n\n" + differences(compared, table, worlds)]
    text = page_text(f"Newborns of {name}", sections, job.command)
    return Page(f"inherit-{name}", text, tables={"": table.to_csv()})


def differences(arms: list[GivenArm], table: pd.DataFrame, worlds: list[str]) -> str:
    """Table of each arm's area less that of the arm it is compared with, in each world."""
    names = dict.fromkeys(name for arm in arms for name in (arm.name, arm.less))
    areas = table.pivot_table("area", "pair", ["arm", "place"])
    areas = areas.reindex(columns=pd.MultiIndex.from_product([names, worlds]))  # NaN if impossible
    rows = []
    for arm in arms:
        gains = areas[arm.name] - areas[arm.less]
        cells = [f"{stats.nan_estimate(gains[world].to_numpy())}" for world in worlds]
        rows.append([arm.name, arm.less, *("-" if "nan" in cell else cell for cell in cells)])
    return markdown_table(["arm", "less", *worlds], rows)
