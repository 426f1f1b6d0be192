"""Type I error: how often does each test call two equal arms different?

Simulates scores of two arms with equal distributions on a grid of seeds x shifts. The scores of a
seed are correlated, since one policy is scored on every shift. At a nominal 5 %, a test should call
the arms different in 5 % of grids, and an interval should cover the truth in 95 %. Checked are the
tests and intervals of `runs.analysis.stats`, and, for comparison, the bootstrap that resamples
(seed, shift) cells within each shift as if they were independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from runs.analysis import stats
from runs.cli.settings import StudySettings, check, run_main
from runs.cli.study import Job, run_study
from runs.errors import Interrupted
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import new_figure, save_figure

T = TypeVar("T")
COMMAND = "python -m runs.type1_error"
SHARES, SEEDS, SHIFTS = (0.0, 0.3, 0.6), (5, 10, 20), (12, 30)
FAILING = 0.3  # share of failed seeds, where scores are bimodal
SHAPES = ("normal", "30 % failed")
FALSE, COVER = (0.03, 0.07), (0.93, 0.97)  # accepted rates of false positives and of coverage
RESAMPLES, FEWER = 400, 4  # draws of a resampling test, which runs on every FEWER-th grid only
HEADINGS = ("seeds' share", "seeds", "shifts", "scores over seeds", "Welch: false calls")
HEADINGS += ("exchange of seeds", "cells: false calls", "difference covers", "mean covers", "kept")


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the simulation.

    Attributes:
        grids: simulated pairs of arms for each kind of scores.
    """

    least = {"grids": (100, "a rate of 5 % needs at least 100")}
    grids: int = 4_000


class ScoreModel(NamedTuple):
    """Distribution of scores: the seeds' share of the variance, grid sizes, shape over seeds."""

    share: float
    seeds: int
    shifts: int
    shape: str


class ErrorRates(NamedTuple):
    """False positive rate of each test and coverage of each interval, in [0, 1]."""

    kind: ScoreModel
    welch: float
    exchange: float
    cells: float
    covers: float
    covers_mean: float

    @property
    def kept(self) -> bool:
        """Whether Welch and the intervals are within the accepted rates."""
        covered = all(COVER[0] <= rate <= COVER[1] for rate in (self.covers, self.covers_mean))
        return FALSE[0] <= self.welch <= FALSE[1] and covered


def study(job: Job) -> Page:
    """Simulate every kind of scores; the exit code is 1 unless all keep their level."""
    grids, kinds = job.settings.grids, list(product(SHARES, SEEDS, SHIFTS, SHAPES))
    if job.settings.smoke:
        grids, kinds = 100, kinds[:2]
    kinds = [ScoreModel(*kind) for kind in kinds]
    rates = simulate_kinds(job, kinds, partial(simulate_null, grids=grids))
    failed = not job.settings.smoke and not all(rate.kept for rate in rates)
    text = markdown(rates, grids, job.command)
    return Page("type1_error", text, {"": partial(figure, rates)}, code=int(failed))


def simulate_kinds(job: Job, kinds: Sequence[Any], simulate: Callable[..., T]) -> list[T]:
    """Results of `simulate(kind, seed=i)` for the i-th kind of scores; raises Interrupted."""
    job.progress.total, results = len(kinds), []
    for i, kind in enumerate(kinds):
        if job.stopped():
            raise Interrupted
        results.append(simulate(kind, seed=i))
        job.progress.advance("kinds of scores", i + 1)
    return results


def draw(rng: np.random.Generator, kind: ScoreModel) -> np.ndarray:
    """Draw scores [seeds, shifts] of one arm; mean 0 and variance 1 over seeds, at every shift."""
    size = (kind.seeds, 1)
    seed_part = rng.normal(size=size)
    if kind.shape != "normal":
        failed = rng.random(size) < FAILING
        seed_part = (FAILING - failed) / np.sqrt(FAILING * (1 - FAILING))
    noise = rng.normal(size=(kind.seeds, kind.shifts))
    return np.sqrt(kind.share) * seed_part + np.sqrt(1 - kind.share) * noise


def simulate_null(kind: ScoreModel, grids: int, seed: int) -> ErrorRates:
    """Compare two equal arms `grids` times -> rates."""
    rng = np.random.default_rng(seed)
    events = {name: [] for name in ErrorRates._fields[1:]}
    for i in range(grids):
        arm_a, arm_b = draw(rng, kind), draw(rng, kind)
        x, y = arm_a.mean(1), arm_b.mean(1)
        events["welch"].append(stats.p_value(x, y) < 0.05)
        events["covers"].append(covers_zero(stats.difference(x, y)))
        events["covers_mean"].append(covers_zero(stats.mean(x)))
        if i % FEWER == 0:
            events["exchange"].append(stats.permutation(x, y, draws=RESAMPLES, seed=i) < 0.05)
            events["cells"].append(not covers_zero(bootstrap_over_cells(rng, arm_a, arm_b)))
    return ErrorRates(kind, **{name: float(np.mean(values)) for name, values in events.items()})


def bootstrap_over_cells(
    rng: np.random.Generator, arm_a: np.ndarray, arm_b: np.ndarray
) -> stats.Estimate:
    """Bootstrap interval of a difference that resamples seeds independently within each shift."""
    means = []
    for cells in (arm_a, arm_b):
        seeds, shifts = cells.shape
        chosen = rng.integers(seeds, size=(RESAMPLES, seeds, shifts))
        means.append(cells[chosen, np.arange(shifts)].mean((1, 2)))
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return stats.Estimate(float(arm_a.mean() - arm_b.mean()), float(low), float(high))


def covers_zero(estimate: stats.Estimate) -> bool:
    """Whether 0, the true difference, lies in the interval."""
    return estimate.low <= 0.0 <= estimate.high


def markdown(rates: list[ErrorRates], grids: int, command: str) -> str:
    """Text of the page: finding and table."""
    table = [
        [*map(str, rate.kind), *(f"{x:.1%}" for x in rate[1:]), "yes" if rate.kept else "NO"]
        for rate in rates
    ]
    error = 100 * np.sqrt(0.05 * 0.95 / grids)
    legend = (
        f"{grids:,} pairs of identical arms a row, a quarter of them for the two resampling tests; "
        f"a rate of 5 % is known to +-{1.96 * error:.1f} points. Kept: Welch between "
        f"{FALSE[0]:.0%} and {FALSE[1]:.0%}, coverage between {COVER[0]:.0%} and {COVER[1]:.0%}."
    )
    sections = [finding(rates), markdown_table(HEADINGS, table), legend]
    return page_text("Type I error", sections, command)


def finding(rates: list[ErrorRates]) -> str:
    """One sentence: false positive rates of Welch and of the bootstrap over cells."""
    correlated = [rate for rate in rates if rate.kind.share > 0] or rates
    welch, cells = [rate.welch for rate in rates], [rate.cells for rate in correlated]
    return (
        f"At a nominal 5 %, Welch on per-seed means called equal arms different in "
        f"{min(welch):.1%} to {max(welch):.1%} of comparisons, the bootstrap over cells in "
        f"{min(cells):.1%} to {max(cells):.1%} where seeds have a share; "
        f"{sum(rate.kept for rate in rates)} of {len(rates)} kinds of scores keep their level."
    )


def figure(rates: list[ErrorRates], path: Path) -> None:
    """Draw false positive rates by the seeds' share: Welch and the bootstrap over cells."""
    sheet, axes = new_figure(1, 2, (9, 3.6), sharey=True)
    tests = {"welch": ("Welch on seeds", "#2166ac"), "cells": ("bootstrap over cells", "#b2182b")}
    for axis, shape in zip(axes[0], SHAPES, strict=True):
        for (seeds, style), name in product(zip(SEEDS, (":", "--", "-"), strict=True), tests):
            title, colour = tests[name]
            points = [
                (rate.kind.share, getattr(rate, name))
                for rate in rates
                if rate.kind[1:] == (seeds, SHIFTS[-1], shape)
            ]
            x, y = np.reshape(points, (-1, 2)).T
            axis.plot(x, y, style, color=colour, marker="o", label=f"{title}, {seeds} seeds")
        axis.axhspan(*FALSE, color="#dddddd", zorder=0)
        axis.set(title=f"scores over seeds: {shape}", xlabel="the seeds' share of the variance")
    axes[0, 0].set_ylabel("equal arms called different")
    axes[0, 0].legend(frameon=False, fontsize=8)
    save_figure(sheet, path)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
