"""How often does nothing look like something? The statistics of this laboratory, on trial.

Two arms that are one and the same are compared, again and again, with scores as they come out of a
shift grid: each seed's scores share something, since one policy is scored on every shift. At a
nominal 5 %, a test should call them different 5 times in 100, and an interval should cover the
truth 95 times. Ours are on trial; beside them stands the bootstrap that resamples (seed, shift)
cells within each shift, as if they were independent.
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
FAILING = 0.3  # of the seeds, where scores have two humps
SHAPES = ("normal", "30 % failed")
FALSE, COVER = (0.03, 0.07), (0.93, 0.97)  # what counts as keeping the promise
RESAMPLES, FEWER = 400, 4  # of a bootstrap, and how many times fewer grids it is tried on


@dataclass(frozen=True)
class Settings:
    """Settings of the trial.

    Attributes:
        grids: pairs of arms for each kind of scores.
        smoke: a run of seconds that means nothing.
        record: also write the table and the figure to runs/results/.
    """

    grids: int = 4_000
    smoke: bool = False
    record: bool = False


class ScoreModel(NamedTuple):
    """A kind of scores: the seeds' share of the variance, sizes of the grid, shape over seeds."""

    share: float
    seeds: int
    shifts: int
    shape: str


class ErrorRates(NamedTuple):
    """How often each test called nothing something, and each interval covered, in [0, 1]."""

    kind: ScoreModel
    welch: float
    exchange: float
    cells: float
    covers: float
    covers_mean: float


def main(argv: list[str]) -> int:
    """Parses, then tries; the exit code: 1 unless the headline test and intervals hold."""
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
        (folder / "null.md").write_text(text)
        figure(verdicts, folder / "null.png")
    return int(not settings.smoke and not all(map(keeps_level, verdicts)))


def draw(rng: np.random.Generator, kind: ScoreModel) -> np.ndarray:
    """Scores [seeds, shifts] of one arm; mean 0 and variance 1 over seeds, at every shift."""
    size = (kind.seeds, 1)
    own = rng.normal(size=size)
    if kind.shape != "normal":
        failed = rng.random(size) < FAILING
        own = (FAILING - failed) / np.sqrt(FAILING * (1 - FAILING))
    noise = rng.normal(size=(kind.seeds, kind.shifts))
    return np.sqrt(kind.share) * own + np.sqrt(1 - kind.share) * noise


def simulate_null(kind: ScoreModel, grids: int, seed: int) -> ErrorRates:
    """Compares nothing with nothing `grids` times."""
    rng = np.random.default_rng(seed)
    called = {name: [] for name in ("welch", "exchange", "cells", "covers", "covers_mean")}
    for i in range(grids):
        one, other = draw(rng, kind), draw(rng, kind)
        x, y = one.mean(1), other.mean(1)
        called["welch"].append(stats.p_value(x, y) < 0.05)
        called["covers"].append(_covers(stats.difference(x, y), 0.0))
        called["covers_mean"].append(_covers(stats.mean(x), 0.0))
        if i % FEWER == 0:
            called["exchange"].append(stats.permutation(x, y, draws=RESAMPLES, seed=i) < 0.05)
            called["cells"].append(not _covers(bootstrap_over_cells(rng, one, other), 0.0))
    return ErrorRates(kind, **{name: float(np.mean(each)) for name, each in called.items()})


def bootstrap_over_cells(
    rng: np.random.Generator, one: np.ndarray, other: np.ndarray
) -> stats.Estimate:
    """The bootstrap on trial: within each shift, seeds are resampled independently."""
    means = []
    for cells in (one, other):
        seeds, shifts = cells.shape
        picked = rng.integers(seeds, size=(RESAMPLES, seeds, shifts))
        means.append(cells[picked, np.arange(shifts)].mean((1, 2)))
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return stats.Estimate(float(one.mean() - other.mean()), float(low), float(high))


def keeps_level(verdict: ErrorRates) -> bool:
    """Whether the headline test and the intervals keep their promise."""
    return (
        FALSE[0] <= verdict.welch <= FALSE[1]
        and COVER[0] <= verdict.covers <= COVER[1]
        and COVER[0] <= verdict.covers_mean <= COVER[1]
    )


def _covers(estimate: stats.Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def markdown(verdicts: list[ErrorRates], grids: int, command: str) -> str:
    """The table and the finding."""
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
        f"# Nothing against nothing\n\n{finding(verdicts)}\n\n" + "\n".join(lines) + "\n\n"
        f"{grids:,} pairs of identical arms a row, a quarter of them for the two resampling tests; "
        f"a rate of 5 % is known to +-{1.96 * error:.1f} points. Kept: Welch between "
        f"{FALSE[0]:.0%} and {FALSE[1]:.0%}, coverage between {COVER[0]:.0%} and {COVER[1]:.0%}."
        f"\n\n`{command}`\n"
    )


def finding(verdicts: list[ErrorRates]) -> str:
    """One sentence, whichever way it falls."""

    def spread(pick: Callable[[ErrorRates], float], some: list[ErrorRates]) -> str:
        rates = [pick(verdict) for verdict in some]
        return f"{min(rates):.1%} to {max(rates):.1%}"

    shared = [verdict for verdict in verdicts if verdict.kind.share > 0] or verdicts
    broken = [verdict for verdict in verdicts if not keeps_level(verdict)]
    return (
        f"At a nominal 5 %, Welch on per-seed means called nothing something in "
        f"{spread(lambda v: v.welch, verdicts)} of comparisons, the bootstrap over cells in "
        f"{spread(lambda v: v.cells, shared)} wherever seeds share anything; "
        f"{len(verdicts) - len(broken)} of {len(verdicts)} kinds of scores keep the promise."
    )


def figure(verdicts: list[ErrorRates], path: Path) -> None:
    """False calls by the seeds' share, ours and the bootstrap over cells."""
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
    axes[0].set_ylabel("nothing called something")
    axes[0].legend(frameon=False, fontsize=8)
    sheet.savefig(path, dpi=110)
    pyplot.close(sheet)


def _curve(
    verdicts: list[ErrorRates], shape: str, seeds: int, name: str
) -> Iterator[tuple[float, float]]:
    """(share, rate) over shares, the grids of the most shifts."""
    for verdict in verdicts:
        kind = verdict.kind
        if (kind.shape, kind.seeds, kind.shifts) == (shape, seeds, SHIFTS[-1]):
            yield kind.share, getattr(verdict, name)


if __name__ == "__main__":
    run_main(main)
