"""Exploratory part of `runs.inherit`: worlds, bodies, severities, and parents that learned less.

Newborns have the first parents of the claims, numbers are those that were chosen, and nothing here
is corrected for the number of comparisons.
"""

import pandas as pd

from runs.inheritance.choices import OWN, Choices
from runs.inheritance.design import BESIDE, CONSTANT, MISLED, SIX, VALUE, InheritDesign
from runs.inheritance.homes import Place
from runs.inheritance.run import Cell, InheritRun, stopped_at

PAIRS = 8
SEVERITIES = (0.25, 0.5, 0.75, 1.0)
ALONG_SEVERITY = ("none", CONSTANT, VALUE)
OF_STOPPED = ("policy + critic", VALUE)


def cells(design: InheritDesign, choices: Choices | None = None) -> list[tuple[str, Cell]]:
    """(part, cell) of the exploratory newborns; without choices, as many as there can be."""
    pairs = [design.dev_parents + i for i in range(min(PAIRS, design.pairs))]
    shift = next(place for place in design.dev if place.shift != "none")
    severe = [Place(shift.suite, shift.shift, severity) for severity in SEVERITIES]
    results = []

    def add(part: str, carrier: str, body: str, places: tuple, source: str = "") -> None:
        if carrier not in design.carriers:
            return
        newborns = [(pair, place) for place in places for pair in pairs]
        numbers = {} if choices is None else choices.numbers(carrier, body)
        if numbers is not None:
            robust = part == "worlds" and design.config.optimise
            results.append((part, Cell(carrier, body, [numbers], newborns, robust, source)))

    for carrier in design.carriers:
        add("worlds", carrier, OWN, (*design.dev, *design.shown))
    for body in (name for name in design.bodies if name != OWN):
        beside = BESIDE if body in MISLED else ()
        for carrier in dict.fromkeys((*SIX, design.tested, *beside)):
            add("bodies", carrier, body, design.dev)
    for carrier in ALONG_SEVERITY:
        add("severity", carrier, OWN, tuple(severe))
    for share in design.stops:
        for carrier in OF_STOPPED:
            add("parents", carrier, OWN, design.dev, stopped_at(share))
    return results


def explore(run: InheritRun, choices: Choices) -> pd.DataFrame:
    """Raise the exploratory newborns -> a row each, with part, carrier, body and source."""
    tables = []
    for part, cell in cells(run.design, choices):
        columns = {"part": part, "carrier": cell.carrier, "body": cell.body, "source": cell.source}
        tables.append(run.raise_cell(part, cell, run.home.base).assign(**columns))
    return pd.concat(tables, ignore_index=True)
