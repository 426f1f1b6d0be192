"""Selection bias: how much gain by luck does tuning on public shifts give, and sealing remove?

A simulated researcher tries variants without any effect, and keeps the best by the public score.
Scores are drawn as in `runs.type1_error`: a share of their variance belongs to the seed, a share to
the drawn worlds, which favour some variants by chance. The winner is then scored in four ways: in
the same public worlds or in sealed ones, with the training runs that it was chosen by or with new
ones. Nothing is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runs.analysis import stats
from runs.cli.settings import StudySettings, check, run_main
from runs.cli.study import Job, run_study
from runs.prereg.ledger import Looks, looks_text
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import new_figure, save_figure
from runs.type1_error import simulate_kinds

COMMAND = "python -m runs.selection_bias"
VARIANTS, SEEDS, SHIFTS = 20, 20, 12
MEASURES = ("public, as tuned", "public, new runs", "sealed, same runs", "sealed, new runs")
LESS = "public, less the optimism"
KIND = ("seeds' share", "worlds' share", "control")
COLOURS = ("#b2182b", "#ef8a62", "#67a9cf", "#2166ac")


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the simulation.

    Attributes:
        researchers: number of simulated researchers for each kind of scores.
    """

    least = {"researchers": (100, "a rate of 5 % needs at least 100")}
    researchers: int = 2_000


class ScoreVariance(NamedTuple):
    """Variance shares of seeds and of drawn worlds; whether each variant has its own control."""

    seeds: float
    worlds: float
    own_control: bool = False


class TuningOutcome(NamedTuple):
    """Results of the simulated researchers for one kind of scores.

    Attributes:
        kind: of scores.
        gain: [4, V] mean gain of the best of 1 ... V variants, in standard errors.
        rates: [5] share of researchers whose best of V tests better than control (Welch, p < .05),
            by MEASURES, and in public after subtracting the expected optimism of the best of V.
        first: [4] estimates of the first researcher.
    """

    kind: ScoreVariance
    gain: np.ndarray
    rates: np.ndarray
    first: tuple[stats.Estimate, ...]


HEADLINE = ScoreVariance(0.3, 0.2)  # of the finding and the figure
KINDS = (
    ScoreVariance(0.3, 0.0, own_control=True),
    *(ScoreVariance(seeds, worlds) for worlds in (0.0, 0.1, 0.2) for seeds in (0.0, 0.3, 0.6)),
)


def study(job: Job) -> Page:
    """Simulate the researchers for every kind of scores."""
    count, kinds = job.settings.researchers, KINDS
    if job.settings.smoke:
        count, kinds = 100, (HEADLINE,)
    outcomes = simulate_kinds(job, kinds, partial(simulate_tuning, researchers=count))
    headline = next(outcome for outcome in outcomes if outcome.kind == HEADLINE)
    text = markdown(outcomes, headline, count, job.command)
    return Page("selection_bias", text, {"": partial(figure, headline)})


# --- simulation -------------------------------------------------------------------------------


def simulate_tuning(kind: ScoreVariance, researchers: int, seed: int) -> TuningOutcome:
    """Simulate tuning on public worlds, and score the chosen variants in all four ways."""
    rng = np.random.default_rng(seed)
    controls = VARIANTS if kind.own_control else 1
    arms = draw_public_and_sealed(rng, kind, (researchers, VARIANTS))
    others = draw_public_and_sealed(rng, kind, (researchers, controls))
    gains = [_in_errors(arm, other) for arm, other in zip(arms, others, strict=True)]  # [N, V]
    public = arms[0].mean(-1) - others[0].mean(-1)
    best = np.array([public[:, : k + 1].argmax(1) for k in range(VARIANTS)]).T  # [N, V]
    gain = np.array([np.take_along_axis(z, best, 1).mean(0) for z in gains])
    rows, chosen = np.arange(researchers), best[:, -1]
    control = chosen if kind.own_control else np.zeros_like(rows)
    pairs = [
        list(zip(arm[rows, chosen], other[rows, control], strict=True))
        for arm, other in zip(arms, others, strict=True)
    ]
    called = [np.mean([_is_called_better(x, y) for x, y in measure]) for measure in pairs]
    critical = np.array([_critical(x, y) for x, y in pairs[0]])
    deflated = (gains[0][rows, chosen] - stats.optimism(VARIANTS) > critical).mean()
    first = tuple(stats.difference(*measure[0]) for measure in pairs)
    return TuningOutcome(kind, gain, np.array([*called, deflated]), first)


def draw_public_and_sealed(
    rng: np.random.Generator, kind: ScoreVariance, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw per-seed means over SHIFTS shifts, in the order of MEASURES, each [*size, SEEDS].

    The part of a training run is the same wherever that run is scored, the part of the drawn worlds
    is the same for all runs of an arm, the rest is drawn anew each time. A single score has mean 0
    and variance 1.
    """
    runs = np.sqrt(kind.seeds) * rng.normal(size=(2, *size, SEEDS))
    worlds = np.sqrt(kind.worlds / SHIFTS) * rng.normal(size=(2, *size, 1))
    rest = np.sqrt((1 - kind.seeds - kind.worlds) / SHIFTS)
    public, sealed = worlds
    tuned, new = runs
    return tuple(
        run + world + rest * rng.normal(size=run.shape)
        for world in (public, sealed)
        for run in (tuned, new)
    )


def _in_errors(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Difference of per-seed means [..., S] in standard errors, as Welch's test takes it."""
    return (x.mean(-1) - y.mean(-1)) / stats.difference_error(x, y)


def _is_called_better(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether Welch's test calls scores x [S] better than y [S]."""
    return x.mean() > y.mean() and stats.p_value(x, y) < 0.05


def _critical(x: np.ndarray, y: np.ndarray) -> float:
    """Half the width of Welch's interval, in standard errors."""
    estimate = stats.difference(x, y)
    return (estimate.high - estimate.value) / stats.difference_error(x, y)


# --- report -----------------------------------------------------------------------------------


def markdown(
    outcomes: Sequence[TuningOutcome], headline: TuningOutcome, researchers: int, command: str
) -> str:
    """Text of the page: finding, tables, and the report of one researcher."""
    gains, rates = [], []
    for outcome in outcomes:
        seeds, worlds, own_control = outcome.kind
        kind = [f"{seeds:.1f}", f"{worlds:.1f}", "one a variant" if own_control else "one for all"]
        gains.append([*kind, *(f"{gain:+.2f}" for gain in outcome.gain[:, -1])])
        rates.append([*kind, *(f"{rate:.1%}" for rate in outcome.rates)])
    error = 100 * 1.96 * np.sqrt(0.025 * 0.975 / researchers)
    first = zip(MEASURES, headline.first, strict=True)
    report = [f"{name}: {estimate:+.3f}" for name, estimate in first]
    report.append(looks_text(Looks(dev=VARIANTS, sealed=1)))
    sections = [
        finding(headline),
        f"## Gain of the best of {VARIANTS}, in standard errors",
        markdown_table((*KIND, *MEASURES), gains),
        f"{researchers:,} simulated researchers a row, each with {VARIANTS} variants that do "
        f"nothing, {SEEDS} seeds, {SHIFTS} shifts. In standard errors of the difference to the "
        f"control, mean over researchers. Where each variant has a control of its own and worlds "
        f"have no share, the public gain is the optimism that the report states, "
        f"{stats.optimism(VARIANTS):.1f}; a control that all share lowers it, worlds raise it.",
        "## Called better",
        markdown_table((*KIND, *MEASURES, LESS), rates),
        f"Welch, p < .05, and above: share of researchers. By luck alone it is 2.5 %, here known "
        f"to +-{error:.1f} points. `{LESS}` takes the optimism off the public gain.",
        f"Report of the first researcher of the row in the figure: {'; '.join(report)}.",
    ]
    return page_text("Selection bias", sections, command)


def finding(outcome: TuningOutcome) -> str:
    """Sentences: gain by tuning, and what is left with new runs, sealed worlds, or both."""
    tuned, again, same, new = outcome.gain[:, -1]
    return (
        f"The best of {VARIANTS} variants that do nothing gains {tuned:.2f} standard errors in "
        f"public and is called better by {outcome.rates[0]:.0%} of researchers. With new training "
        f"runs in the same public worlds {again:+.2f} is left, with the same runs in sealed worlds "
        f"{same:+.2f}, with new runs in sealed worlds {new:+.2f} ({outcome.rates[3]:.1%} called "
        f"better). (Seeds {outcome.kind.seeds:.0%} of the variance, worlds "
        f"{outcome.kind.worlds:.0%}.) "
        "Sealed worlds take away the luck of the worlds, and that only: the luck of the runs goes "
        "only if the runs are new as well. Where worlds have a share, even a clean test calls a "
        "variant better too often, since an interval over seeds does not include the variance of "
        "worlds that all seeds share: score in many draws."
    )


def figure(outcome: TuningOutcome, path: Path) -> None:
    """Draw the gain by number of variants tried, and how often the best is called better."""
    sheet, [[left, right]] = new_figure(1, 2, (9, 3.6))
    tried = np.arange(1, VARIANTS + 1)
    for name, gain, colour in zip(MEASURES, outcome.gain, COLOURS, strict=True):
        left.plot(tried, gain, color=colour, label=name)
    luck = [stats.optimism(int(k)) for k in tried]
    left.plot(tried, luck, ":", color="#555555", label="optimism, as reported")
    left.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    left.set(xlabel="variants tried, all of them null", ylabel="gain of the best, standard errors")
    left.set_xticks([1, 5, 10, 15, 20])
    left.set_ylim(top=1.5 * max(outcome.gain[0, -1], luck[-1]))  # room for the legend
    left.legend(frameon=False, fontsize=8, loc="upper left")
    rates = 100 * outcome.rates
    bars = right.barh((*MEASURES, LESS), rates, color=(*COLOURS, "#999999"))
    right.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=8)
    right.axvline(2.5, color="#555555", linestyle=":", linewidth=1)
    right.annotate("luck alone", (2.5, -0.47), (4, 0), textcoords="offset points", fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="called better, % of researchers", xlim=(0, max(rates) * 1.2 + 2))
    save_figure(sheet, path)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
