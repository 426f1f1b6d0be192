"""Page of `runs.validity`: contrasts of a head with its baselines, tables, CSV text and figures."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.suite import Point
from runs.analysis import contrasts
from runs.analysis.contrasts import Contrast
from runs.analysis.scores import rows_as_csv
from runs.analysis.stats import nan_estimate, nan_mean
from runs.probes.baselines import SIZES
from runs.report.page import markdown_table
from runs.report.plots import new_figure, save_with_legend

FAMILY = {
    "minus_critic": "the agent's critic",
    "minus_short_critic": "a critic with the head's horizon",
    "minus_critic_residual": "the critic with progress regressed out",
    "innate": "the innate signal",
    "{head}_untrained": "the head untrained",
    "disagreement": "the disagreement of five heads",
    "fear_linear": "a linear fear",
    "fear_256_256": "a fear of 256-256",
    "{head}_offline": "the head trained offline",
    "{head}_random": "the head trained in randomised worlds",
}
"""Declared contrasts, the primary one first; those without a probed baseline are left out."""

METRICS = ("auroc", "precision", "lead", "caught", "alarms")
NOTE = (
    "Harm follows within the horizon in {home:.3f} of steps at home and in {shifted:.3f} under "
    "shift. {sizes} AUROC and average precision (AP) of harm within {horizon} steps, at every step "
    "that did not end its episode; per-seed means over the severities of a shift, then over "
    "shifts, then over seeds, t intervals at 95 %. Lead: steps from the first alarm within the "
    "horizon to the harm, 0 without one; caught: share of harms with an alarm; false alarms: share "
    "of the steps without harm within the horizon. An alarm is a step above the level that 1 such "
    "step in 200 exceeds at home. Differences are paired by seed; p values of paired t tests, "
    "Holm-adjusted over the family declared beforehand (rows with a p value), with minus the "
    "critic as the primary contrast; the rest is exploratory. All heads were trained on the same "
    "experience of one agent without pay from heads, with {steps:,} gradient steps; `_offline` "
    "heads as many on {samples:,} steps of the final policy at home, `_random` heads in randomised "
    "worlds, both newly initialised. `minus_short_critic`: minus a critic with the head's horizon, "
    "64-64, and with 16 units; `minus_critic_residual`: without its linear fit on progress at "
    "home; `disagreement`: standard deviation of five heads of 16 units."
)
CALIBRATION_NOTE = (
    "Predicted and observed: the target of `Fear`, gamma^k with harm in k steps; Brier score: harm "
    "within the horizon."
)
MEMORY_NOTE = (
    "Random labels of observations at home: the share memorised after the same number of gradient "
    "steps, and the AUROC of the predictions; beside them the AUROC of harm of the same network as "
    "a fear head, trained online and offline."
)
COLOURS = {
    "head": "#c8553d",
    "minus_critic": "#41597a",
    "minus_short_critic": "#5b9bd5",
    "minus_critic_residual": "#9dc3e6",
    "innate": "#4c9f70",
    "fear_linear": "#e8b93a",
    "fear_256_256": "#96622f",
    "disagreement": "#8a6fb0",
    "untrained": "#b9bec7",
    "random": "#e58a9b",
}


class ValidityResult(NamedTuple):
    """Readouts of all seeds at all points of a validity probe.

    Attributes:
        env: name of the environment.
        head: name of the head.
        points: P of them, home first.
        readouts: name -> [S, P]; `memory` [S, sizes, 2] and NAME/reliability [S, P, BINS, 3].
    """

    env: str
    head: str
    points: tuple[Point, ...]
    readouts: Mapping[str, np.ndarray]

    @property
    def signals(self) -> list[str]:
        """Names of all signals, the head first."""
        names = [key.removesuffix("/auroc") for key in self.readouts if key.endswith("/auroc")]
        return [self.head, *(name for name in names if name != self.head)]

    @property
    def probabilities(self) -> list[str]:
        """Names of the signals that are probabilities of harm."""
        return [name for name in self.signals if f"{name}/expected" in self.readouts]

    @property
    def shifts(self) -> list[str]:
        """Names of the shifts, in order."""
        return list(dict.fromkeys(point.shift for point in self.points[1:]))

    def at_home(self, signal: str, metric: str = "auroc") -> np.ndarray:
        """Metric of a signal in the unshifted world, [S]."""
        return self.values(signal, metric)[:, 0]

    def under_shift(self, shift: str, signal: str, metric: str = "auroc") -> np.ndarray:
        """Metric of a signal under a shift, mean over severities, [S]; NaN if undefined."""
        columns = [i for i, point in enumerate(self.points) if point.shift == shift]
        return nan_mean(self.values(signal, metric)[:, columns])

    def over_shifts(self, signal: str, metric: str = "auroc") -> np.ndarray:
        """Metric of a signal, mean over severities, then over shifts, [S]."""
        by_shift = [self.under_shift(shift, signal, metric) for shift in self.shifts]
        return nan_mean(np.stack(by_shift, 1))

    def values(self, signal: str, metric: str) -> np.ndarray:
        """Metric of a signal at every point, [S, P]; without a signal, a metric common to all."""
        return np.asarray(self.readouts[f"{signal}/{metric}" if signal else metric], float)


def family_contrasts(result: ValidityResult) -> list[Contrast]:
    """Declared contrasts in AUROC of the head with the probed baselines, mean over shifts."""
    baselines = [pattern.format(head=result.head) for pattern in FAMILY]
    probed = [name for name in baselines if name in result.signals and name != result.head]
    auroc = {name: result.over_shifts(name) for name in (result.head, *probed)}
    return contrasts.contrasts(auroc, [(result.head, name) for name in probed], paired=True)


def finding(result: ValidityResult, family: Sequence[Contrast]) -> str:
    """Two sentences: the primary contrast, and which baselines rank harm worse, better or alike."""
    primary, *others = family
    if primary.estimate is None:
        return f"{result.env}: harm was too rare for a contrast."
    seeds = np.isfinite(result.over_shifts(result.head) - result.over_shifts(primary.reference))
    verbs = "ranks harm better than", "ranks harm worse than", "does not differ significantly from"
    home, shifted = (nan_estimate(x(result.head)) for x in (result.at_home, result.over_shifts))
    home_text = f"at home {home.value:.3f}" if np.isfinite(home.value) else "no harm at home"
    p_text = "< .001" if primary.p_holm < 0.001 else f"{primary.p_holm:.3f}"
    sentences = [
        f"{result.env}, {seeds.sum()} seeds: under shift {result.head} {primary.verdict(*verbs)} "
        f"the agent's critic: AUROC {shifted:.3f} ({home_text}), {primary.estimate:+.3f} beyond "
        f"minus the critic (Holm p {p_text})."
    ]
    labels = {pattern.format(head=result.head): label for pattern, label in FAMILY.items()}
    tested = [other for other in others if other.estimate is not None]
    kinds = "Better than", "Worse than", "Not significant:"
    for kind in kinds:
        rows = [row for row in tested if row.verdict(*kinds) == kind]
        items = [f"{labels[row.reference]} {row.estimate:+.3f}" for row in rows]
        sentences += [f"{kind} {'; '.join(items)}."] if items else []
    return " ".join(sentences)


# --- tables ---------------------------------------------------------------------------------------


def sections(
    result: ValidityResult, name: str, sizes: str, horizon: int, steps: int, samples: int
) -> list[str]:
    """Sections of the page, in Markdown.

    Args:
        result: of the probe.
        name: of the page's files.
        sizes: sentence with the numbers of seeds, steps and episodes.
        horizon: in steps.
        steps: gradient steps of every head.
        samples: environment steps in the data set of the offline heads.
    """
    family, harmed = family_contrasts(result), result.values("", "harmed")
    home, shifted = np.nanmean(harmed[:, 0]), np.nanmean(harmed[:, 1:])
    return [
        finding(result, family),
        f"![AUROC at home and by shift]({name}.png)",
        _ranking_table(result, family),
        NOTE.format(
            home=home, shifted=shifted, sizes=sizes, horizon=horizon, steps=steps, samples=samples
        ),
        "## By shift: AUROC",
        _shift_table(result),
        f"## Calibration\n\n![Reliability]({name}-reliability.png)",
        _calibration_table(result),
        CALIBRATION_NOTE,
        f"## Memory\n\n![Memory and validity]({name}-memory.png)",
        _memory_table(result),
        MEMORY_NOTE,
    ]


def _ranking_table(result: ValidityResult, family: Sequence[Contrast]) -> str:
    """Table with one row per signal, sorted by AUROC under shift."""
    p_values = {contrast.reference: f"{contrast.p_holm:.3g}" for contrast in family}
    over_shifts = {name: result.over_shifts(name) for name in result.signals}
    means = {name: nan_estimate(auroc).value for name, auroc in over_shifts.items()}
    rows = []
    for name in sorted(result.signals, key=lambda name: -np.nan_to_num(means[name])):
        by_shift = {s: nan_estimate(result.under_shift(s, name)).value for s in result.shifts}
        worst = min(by_shift, key=lambda shift: np.nan_to_num(by_shift[shift], nan=np.inf))
        gain = f"{nan_estimate(over_shifts[result.head] - over_shifts[name]):+.3f}"
        cells = [
            f"**{name}**" if name == result.head else name,
            _mean(result.at_home(name)),
            f"{nan_estimate(over_shifts[name]):.3f}",
            f"{by_shift[worst]:.3f} {worst}",
            *(_home_and_shifted(result, name, metric) for metric in METRICS[1:]),
            "-" if name == result.head else gain,
            p_values.get(name, "-"),
        ]
        rows.append(cells)
    headings = ["signal", "AUROC at home", "AUROC over shifts", "worst shift", "AP home, shifted"]
    headings += ["lead home, shifted", "caught home, shifted", "false alarms home, shifted"]
    return markdown_table([*headings, f"{result.head} minus signal", "p (Holm)"], rows)


def _shift_table(result: ValidityResult) -> str:
    """Table of the AUROC of each signal under each shift, mean over severities."""
    signals = [name for name in result.signals if not name.endswith(("_offline", "_16", "_64_64"))]
    rows = [["none", *(_mean(result.at_home(name)) for name in signals)]]
    for shift in result.shifts:
        rows.append([shift, *(_mean(result.under_shift(shift, name)) for name in signals)])
    return markdown_table(["shift", *signals], rows)


def _calibration_table(result: ValidityResult) -> str:
    """Table of predicted and observed harm and Brier score per probability."""
    observed = [_mean(x("", "nearness")) for x in (result.at_home, result.over_shifts)]
    rows = []
    for name in result.probabilities:
        expected = (result.at_home(name, "expected"), result.over_shifts(name, "expected"))
        home, shifted = (f"{nan_estimate(x):.3f}" for x in expected)
        brier = _home_and_shifted(result, name, "brier")
        rows.append([name, home, observed[0], shifted, observed[1], brier])
    headings = ["head", "predicted at home", "observed", "predicted, shifted", "observed"]
    return markdown_table([*headings, "Brier home, shifted"], rows)


def _memory_table(result: ValidityResult) -> str:
    """Table of memorised random labels and AUROC, per head size."""
    rows = []
    for i, name in enumerate(SIZES):
        accuracy, auroc = result.readouts["memory"][:, i].T
        pairs = [_home_and_shifted(result, x, "auroc") for x in (name, f"{name}_offline")]
        rows.append([name, f"{nan_estimate(accuracy):.3f}", _mean(auroc), *pairs])
    headings = ["size", "labels memorised", "their AUROC"]
    return markdown_table([*headings, "online home, shifted", "offline home, shifted"], rows)


def _mean(seeds: np.ndarray) -> str:
    return f"{nan_estimate(seeds).value:.3f}"


def _home_and_shifted(result: ValidityResult, name: str, metric: str) -> str:
    return f"{_mean(result.at_home(name, metric))}, {_mean(result.over_shifts(name, metric))}"


def csv_text(result: ValidityResult) -> str:
    """CSV text: mean over seeds, with t interval, of each signal's metrics at every point."""
    rows = []
    for name in result.signals:
        extra = ("expected", "brier") if name in result.probabilities else ()
        for metric in METRICS + extra:
            for point, values in zip(result.points, result.values(name, metric).T, strict=True):
                mean, low, high = (f"{x:.4g}" for x in nan_estimate(values))
                row = {"signal": name, **point._asdict(), "question": metric}
                rows.append(row | {"mean": mean, "low": low, "high": high})
    return rows_as_csv(rows, header=True, columns=list(rows[0]))


# --- figures --------------------------------------------------------------------------------------


def figures(result: ValidityResult) -> dict[str, Callable[[Path], None]]:
    """Figures of the page by the suffix of their file's name."""
    draw = {"": shift_figure, "-reliability": reliability_figure, "-memory": memory_figure}
    return {suffix: partial(function, result) for suffix, function in draw.items()}


def shift_figure(result: ValidityResult, path: Path) -> None:
    """Save a figure of the AUROC of the main signals at home and under each shift."""
    places, shown = ["at home", *result.shifts], _shown_signals(result)
    figure, axes = new_figure(size=(max(0.75 * len(places) + 2, 9), 4.8))
    axis = axes[0, 0]
    for i, (name, colour) in enumerate(shown.items()):
        offset = (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
        values = [result.at_home(name), *(result.under_shift(s, name) for s in result.shifts)]
        size = 6 if name == result.head else 4
        _draw_estimates(axis, np.arange(len(places)) + offset, values, "o", colour, name, size)
    axis.axhline(0.5, color="#2b2f36", linewidth=0.8, linestyle=":")
    for x in np.arange(len(places) - 1) + 0.5:
        axis.axvline(x, color="#e4e7eb", linewidth=0.8, zorder=0)
    labels = [place.replace("|", "\n") for place in places]
    axis.set_xticks(range(len(places)), labels, rotation=35, ha="right", fontsize=8)
    axis.set_xlim(-0.5, len(places) - 0.5)
    axis.set_ylabel(f"{result.env}: AUROC of harm ahead")
    save_with_legend(figure, path)


def reliability_figure(result: ValidityResult, path: Path) -> None:
    """Save a figure of the observed by the predicted probability of harm, at home and shifted."""
    figure, axes = new_figure(1, 2, (9.0, 3.8))
    steps = result.values("", "steps")
    for axis, place, span in zip(
        axes[0], ("at home", "under shift"), (slice(1), slice(1, None)), strict=True
    ):
        axis.plot([0, 1], [0, 1], ":", color="#2b2f36", linewidth=0.8)
        for name, colour in _shown_signals(result).items():
            if name in result.probabilities:
                curves = result.values(name, "reliability")[:, span]
                predicted, observed = pooled_reliability(curves, steps[:, span])
                axis.plot(predicted, observed, "o-", color=colour, markersize=3, label=name)
        axis.set_xlabel("predicted")
        axis.set_title(f"reliability {place}", fontsize=10)
    axes[0, 0].set_ylabel("share with harm within the horizon")
    save_with_legend(figure, path)


def pooled_reliability(curves: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool curves [S, P, BINS, 3] to mean prediction and event frequency, each [BINS].

    Points are weighted by their steps [S, P], seeds equally; NaN in nearly empty bins.
    """
    share = np.nan_to_num(curves[..., 0] * (steps / steps.sum(1, keepdims=True))[..., None])
    total = share.sum((0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [(np.nan_to_num(curves[..., k]) * share).sum((0, 1)) / total for k in (1, 2)]
    return tuple(np.where(total / len(curves) > 1e-4, mean, np.nan) for mean in means)


def memory_figure(result: ValidityResult, path: Path) -> None:
    """Save a figure of each size's memorisation against its AUROC, at home and under shift."""
    figure, axes = new_figure(size=(7.6, 4.6))
    axis, memory = axes[0, 0], result.readouts["memory"]
    memorised = [nan_estimate(memory[:, i, 0]).value for i in range(len(SIZES))]
    for suffix, style in (("", "o-"), ("_offline", "s--")):
        for place, colour in (("at home", "#8a94a1"), ("under shift", "#c8553d")):
            metric = result.at_home if place == "at home" else result.over_shifts
            values = [metric(name + suffix) for name in SIZES]
            label = f"{place}, {suffix[1:] or 'online'}"
            _draw_estimates(axis, memorised, values, style, colour, label)
    for i, (name, x) in enumerate(zip(SIZES, memorised, strict=True)):
        label = name.removeprefix("fear_").replace("_", "-")
        place = (x, 0.97 - 0.06 * (i % 2))  # labels of close points alternate
        axis.annotate(label, place, xycoords=("data", "axes fraction"), ha="center", fontsize=9)
    axis.set_xlabel("memory: share of random labels memorised")
    axis.set_ylabel(f"{result.env}: AUROC of harm ahead")
    save_with_legend(figure, path)


def _shown_signals(result: ValidityResult) -> dict[str, str]:
    """Signals of the figures -> their colour, the head first."""
    return {result.head: COLOURS["head"]} | {
        name: colour
        for key, colour in COLOURS.items()
        for name in (key, f"{result.head}_{key}")
        if name in result.signals
    }


def _draw_estimates(
    axis: Any, x: Any, values: Sequence[np.ndarray], style: str, colour: str, label: str, size=6
) -> None:
    """Draw means and t intervals over seeds of values [N] of [S] at places x [N]."""
    mean, low, high = np.array([nan_estimate(seeds) for seeds in values]).T
    axis.vlines(x, low, high, color=colour, linewidth=1.2)
    axis.plot(x, mean, style, color=colour, markersize=size, label=label)
