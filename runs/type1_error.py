"""Type I error: how often does each test call two equal arms different?

Simulates scores of two arms with equal distributions on a grid of seeds x shifts. The scores of a
seed are correlated, since one policy is scored on every shift. At a nominal 5 %, a test should call
the arms different in 5 % of grids, and an interval should cover the truth in 95 %. Checked are the
tests and intervals of `runs.analysis.stats`, and, for comparison, the bootstrap that resamples
(seed, shift) cells within each shift as if they were independent.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runs.analysis import stats
from runs.cli.settings import check_recordable, parse_settings, run_main, shell_command
from runs.errors import UserError

COMMAND = "python -m runs.type1_error"
SHARES, SEEDS, SHIFTS = (0.0, 0.3, 0.6), (5, 10, 20), (12, 30)
FAILING = 0.3  # share of failed seeds, where scores are bimodal
SHAPES = ("normal", "30 % failed")
FALSE, COVER = (0.03, 0.07), (0.93, 0.97)  # accepted rates of false positives and of coverage
RESAMPLES, FEWER = 400, 4  # draws of a resampling test, which runs on every FEWER-th grid only


@dataclass(frozen=True)
class Settings:
    """Settings of the simulation.

    Attributes:
        grids: simulated pairs of arms for each kind of scores.
        smoke: a run of seconds to test the code; its numbers mean nothing.
        record: also write the table and the figure to runs/results/.
    """

    grids: int = 4_000
    smoke: bool = False
    record: bool = False


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


def main(argv: list[str]) -> int:
    """Run the simulation -> exit code, 1 unless Welch and the intervals hold their level."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if settings.grids < 100:
        raise UserError(f"--grids {settings.grids}: a rate of 5 % needs at least 100")
    check_recordable(settings)
    grids, kinds = settings.grids, list(product(SHARES, SEEDS, SHIFTS, SHAPES))
    if settings.smoke:
        grids, kinds = 100, kinds[:2]
    verdicts = []
    for i, kind in enumerate(kinds):
        verdicts.append(simulate_null(ScoreModel(*kind), grids, seed=i))
        print(f"{i + 1}/{len(kinds)}  {verdicts[-1]}", file=sys.stderr, flush=True)
    command = shell_command(COMMAND, argv)
    text = markdown(verdicts, grids, command)
    print(text)
    if settings.record:
        folder = Path("runs/results")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "type1_error.md").write_text(text)
        figure(verdicts, folder / "type1_error.png")
    return int(not settings.smoke and not all(map(keeps_level, verdicts)))


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
    events = {name: [] for name in ("welch", "exchange", "cells", "covers", "covers_mean")}
    for i in range(grids):
        arm_a, arm_b = draw(rng, kind), draw(rng, kind)
        x, y = arm_a.mean(1), arm_b.mean(1)
        events["welch"].append(stats.p_value(x, y) < 0.05)
        events["covers"].append(_covers(stats.difference(x, y), 0.0))
        events["covers_mean"].append(_covers(stats.mean(x), 0.0))
        if i % FEWER == 0:
            events["exchange"].append(stats.permutation(x, y, draws=RESAMPLES, seed=i) < 0.05)
            events["cells"].append(not _covers(bootstrap_over_cells(rng, arm_a, arm_b), 0.0))
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


def keeps_level(verdict: ErrorRates) -> bool:
    """Whether Welch and the intervals are within the accepted rates."""
    return (
        FALSE[0] <= verdict.welch <= FALSE[1]
        and COVER[0] <= verdict.covers <= COVER[1]
        and COVER[0] <= verdict.covers_mean <= COVER[1]
    )


def _covers(estimate: stats.Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def markdown(verdicts: list[ErrorRates], grids: int, command: str) -> str:
    """Markdown report: finding and table."""
    head = (
        "seeds' share | seeds | shifts | scores over seeds | Welch: false calls | exchange of "
        "seeds | cells: false calls | difference covers | mean covers | kept"
    )
    lines = [head, " | ".join(["---"] * 10)]
    for verdict in verdicts:
        kind, *rates = verdict
        texts = [f"{kind.share:.1f}", str(kind.seeds), str(kind.shifts), kind.shape]
        texts += [f"{rate:.1%}" for rate in rates] + ["yes" if keeps_level(verdict) else "NO"]
        lines.append(" | ".join(texts))
    error = 100 * np.sqrt(0.05 * 0.95 / grids)
    return (
        f"# Type I error\n\n{finding(verdicts)}\n\n" + "\n".join(lines) + "\n\n"
        f"{grids:,} pairs of identical arms a row, a quarter of them for the two resampling tests; "
        f"a rate of 5 % is known to +-{1.96 * error:.1f} points. Kept: Welch between "
        f"{FALSE[0]:.0%} and {FALSE[1]:.0%}, coverage between {COVER[0]:.0%} and {COVER[1]:.0%}."
        f"\n\n`{command}`\n"
    )


def finding(verdicts: list[ErrorRates]) -> str:
    """One sentence: false positive rates of Welch and of the bootstrap over cells."""

    def spread(pick: Callable[[ErrorRates], float], selected: list[ErrorRates]) -> str:
        rates = [pick(verdict) for verdict in selected]
        return f"{min(rates):.1%} to {max(rates):.1%}"

    correlated = [verdict for verdict in verdicts if verdict.kind.share > 0] or verdicts
    failing = [verdict for verdict in verdicts if not keeps_level(verdict)]
    return (
        f"At a nominal 5 %, Welch on per-seed means called equal arms different in "
        f"{spread(lambda v: v.welch, verdicts)} of comparisons, the bootstrap over cells in "
        f"{spread(lambda v: v.cells, correlated)} where seeds have a share; "
        f"{len(verdicts) - len(failing)} of {len(verdicts)} kinds of scores keep their level."
    )


def figure(verdicts: list[ErrorRates], path: Path) -> None:
    """Draw false positive rates by the seeds' share: Welch and the bootstrap over cells."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sheet, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, constrained_layout=True)
    for axis, shape in zip(axes, SHAPES, strict=True):
        for seeds, style in zip(SEEDS, (":", "--", "-"), strict=True):
            for name, colour in (("welch", "#2166ac"), ("cells", "#b2182b")):
                points = list(_curve(verdicts, shape, seeds, name))
                title = "Welch on seeds" if name == "welch" else "bootstrap over cells"
                label = f"{title}, {seeds} seeds"
                axis.plot(*zip(*points, strict=True), style, color=colour, marker="o", label=label)
        axis.axhspan(*FALSE, color="#dddddd", zorder=0)
        axis.set(title=f"scores over seeds: {shape}", xlabel="the seeds' share of the variance")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("equal arms called different")
    axes[0].legend(frameon=False, fontsize=8)
    sheet.savefig(path, dpi=110)
    pyplot.close(sheet)


def _curve(
    verdicts: list[ErrorRates], shape: str, seeds: int, name: str
) -> Iterator[tuple[float, float]]:
    """Yield (share, rate) over shares, for the largest number of shifts."""
    for verdict in verdicts:
        kind = verdict.kind
        if (kind.shape, kind.seeds, kind.shifts) == (shape, seeds, SHIFTS[-1]):
            yield kind.share, getattr(verdict, name)


if __name__ == "__main__":
    run_main(main)
