"""Page of `runs.evolve`: finding, areas by generation, claims, winners with their spread."""

import json
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.cli.study import Job
from runs.evolution.design import BYTES, CONSTANT, EVOLVED, INHERIT, RANDOM, EvolveDesign, winner
from runs.evolution.generations import EvolveRun
from runs.inheritance.choices import OWN, Choices, choices_csv
from runs.inheritance.claims import Verdict
from runs.inheritance.page import claim_sections
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_means, new_figure, save_with_legend
from runs.study_run import page_name

FIRST_PANEL = (EVOLVED, RANDOM, CONSTANT, BYTES)


def evolve_page(
    run: EvolveRun, generations: pd.DataFrame, winners: Choices, results: list[Verdict], job: Job
) -> Page:
    """The page of a finished study."""
    study, suite = run.study, run.design.suite.name
    areas = mean_areas(generations)
    sections = [
        finding(study, areas, results),
        setup(run),
        areas_table(study, areas),
        *(claim_sections(run.design, winners, results) if results else ()),
        "## Winners\n\n" + numbers_table(study, winners),
        formulas(study, winners),
    ]
    title = f"Evolution in {suite}: what does selection make of inheritance?"
    text = page_text(title, sections, job.command)
    figures = {"": partial(draw_areas, study, areas)}
    tables = {"": generations_csv(generations), "-winners": choices_csv(winners)}
    return Page(page_name("evolve", suite), text, figures, tables=tables)


# --- areas ----------------------------------------------------------------------------------------


def mean_areas(generations: pd.DataFrame) -> pd.DataFrame:
    """Mean area of the newborns of a favourite: rows (arm, evolution), a column a generation."""
    table = generations.assign(area=[np.nan_to_num(areas).mean() for areas in generations["areas"]])
    return table.pivot(index=["arm", "evolution"], columns="generation", values="area")


def last_less(areas: pd.DataFrame, arm: str, reference: str) -> stats.Estimate:
    """Area after the last generation of an arm less that of another, by pairs of evolutions."""
    last = areas.iloc[:, -1]
    return stats.nan_estimate(last.loc[arm].to_numpy() - last.loc[reference].to_numpy())


def generations_csv(generations: pd.DataFrame) -> str:
    """A row a newborn of a favourite: arm, evolution, generation, its index, area, numbers."""
    table = generations.assign(genome=generations["genome"].map(json.dumps))
    table = table.explode("areas").rename(columns={"areas": "area"})
    keys = ["arm", "evolution", "generation"]
    return table.assign(newborn=table.groupby(keys).cumcount()).to_csv(index=False)


# --- text -----------------------------------------------------------------------------------------


def finding(study: EvolveDesign, areas: pd.DataFrame, results: list[Verdict]) -> str:
    """The finding in one sentence, whichever way it fell, and what would refute it."""
    parts = []
    for reference in (RANDOM, CONSTANT):
        if reference in study.arms:
            less = last_less(areas, EVOLVED, reference)
            verb = (
                "is above"
                if less.low > 0
                else "is below"
                if less.high < 0
                else "is not shown above"
            )
            parts.append(f"{verb} the {reference} of the same budget ({less})")
    last = stats.nan_estimate(areas.iloc[:, -1].loc[EVOLVED].to_numpy())
    held = [v.claim.reference.name for v in results if v.holds]
    sealed = f"in sealed families it is above {', '.join(held) or 'none of the others'}"
    return (
        f"Finding: after {study.generations} generations of {study.population} the evolved "
        f"genome has an area of {last} and {' and '.join(parts) or 'has no rival'}; {sealed}."
        f"\n\nWhat would refute that selection makes something of inheritance: no gain over the "
        f"constant potential or over the random search, here or in sealed families."
    )


def setup(run: EvolveRun) -> str:
    """How it was measured, in a paragraph."""
    study, design = run.study, run.design
    success = [
        f"{'passed on' if passed else 'relearned'} {values[0]:.2f} to {values[-1]:.2f}"
        for passed in (True, False)
        if (values := [x for (key, _), x in run.success.items() if key == passed])
    ]
    return (
        f"{design.parents} parents learn at home, anew in each of {study.generations + 1} "
        f"generations; their success there, from the first to the last: {', '.join(success)}. "
        f"Heads that are passed on (Lamarck) go on learning beside a new policy; genomes change by "
        f"selection alone (Darwin). Each of {study.evolutions} evolutions of an arm has "
        f"{study.family} parents of its own; a member has a newborn of each, in "
        f"{', '.join(place.name for place in study.places)} in turn, whose life ends after "
        f"{run.chunks} of {design.newborn_config.chunks} parts. Fitness is the mean area under "
        f"their learning curves. The favourite of a search (the mean of an evolution strategy, "
        f"the fittest of a random search) is checked on newborns that no search is told of and "
        f"all arms share. Intervals are over evolutions."
    )


def areas_table(study: EvolveDesign, areas: pd.DataFrame) -> str:
    """Area of the favourite before the first and after the last generation, by arm."""
    rows = []
    for arm in study.arms:
        first, last = (stats.nan_estimate(areas.loc[arm].to_numpy()[:, i]) for i in (0, -1))
        less = "-" if arm == EVOLVED else f"{last_less(areas, EVOLVED, arm)}"
        rows.append([arm, str(len(study.free(arm))), f"{first}", f"{last}", less])
    headings = ["arm", "numbers", "at the start", "at the end", "evolved less it"]
    return markdown_table(headings, rows)


def numbers_table(study: EvolveDesign, winners: Choices) -> str:
    """Numbers of the winners of each arm of feelings: mean and range over evolutions."""
    names, rows = list(study.alphabets["feelings"].knobs), []
    for arm in (name for name, x in study.arms.items() if x.alphabet == "feelings"):
        genomes = [winners.chosen[winner(arm, i), OWN].numbers for i in range(study.evolutions)]
        rows.append([arm, *(spread([x[name] for x in genomes]) for name in names)])
    if study.given is not None:
        rows.append([INHERIT, *(f"{study.given[name]:.3g}" for name in names)])
    note = "Mean over evolutions, and the least and the largest."
    return f"{markdown_table(['arm', *names], rows)}\n\n{note}"


def spread(numbers: list[float]) -> str:
    """Mean, least and largest number; one number if they are equal."""
    low, high = min(numbers), max(numbers)
    text = f"{np.mean(numbers):.3g}"
    return text if low == high else f"{text} ({low:.3g} to {high:.3g})"


def formulas(study: EvolveDesign, winners: Choices) -> str:
    """The evolved winners, and the first of the forty bytes, as formulas in blocks of code."""
    parts = []
    for arm in (name for name in (EVOLVED, BYTES) if name in study.arms):
        carrier: Any = study.alphabets[study.arms[arm].alphabet]
        for i in range(1 if arm == BYTES else study.evolutions):
            name = winner(arm, i)
            text = carrier.formula(winners.chosen[name, OWN].numbers, study.senses)
            parts.append(f"{name}:\n\n{textwrap.indent(text, '    ')}")
    notes = {"fear": "-P(harm within ten steps)", "innate": "-looming (Lee, 1976)"}
    known = study.alphabets["feelings"].knobs
    legend = ", ".join(f"`{name}` is {note}" for name, note in notes.items() if name in known)
    note = f"F(phi) is the potential's reward; {legend}. The other winners: `-winners.csv`."
    return "\n\n".join(["## Formulas", *parts, note])


# --- figure ---------------------------------------------------------------------------------------


def draw_areas(study: EvolveDesign, areas: pd.DataFrame, path: Path) -> None:
    """Areas of favourites by generation with intervals over evolutions: main and other arms."""
    figure, axes = new_figure(1, 2, (9.5, 4.2), sharey=True)
    others = [arm for arm in study.arms if arm not in FIRST_PANEL]
    for axis, arms in zip(axes[0], (FIRST_PANEL, (EVOLVED, *others)), strict=True):
        for arm in (name for name in arms if name in study.arms):
            color = f"C{list(study.arms).index(arm)}"
            scores, style = areas.loc[arm].to_numpy(), {"marker": "o", "markersize": 3}
            draw_means(axis, areas.columns, scores, arm, color, **style)
        axis.set(xlabel="generation", xticks=list(areas.columns))
    axes[0, 0].set(ylabel="area under newborns' learning curves", title="alphabets and baselines")
    axes[0, 1].set(title="variants and controls")
    save_with_legend(figure, path, columns=4)
