"""Figures of a validity probe: AUROC by shift, reliability curves, memorisation against AUROC."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runs.probes.baselines import SIZES
from runs.probes.validity_contrasts import ValidityResult, estimate

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


def shift_figure(result: ValidityResult, env: str, path: Path) -> None:
    """Save a figure: AUROC at home and under each shift above, reliability curves below."""
    from matplotlib.figure import Figure

    shown = {result.head: COLOURS["head"]} | {
        name: colour
        for key, colour in COLOURS.items()
        for name in (key, f"{result.head}_{key}")
        if name in result.signals
    }
    width = max(0.75 * (len(result.shifts) + 1) + 2, 9)
    sheet = Figure(figsize=(width, 8.4), layout="constrained")
    grid = sheet.add_gridspec(2, 2, height_ratios=(1.25, 1))
    _dots(sheet.add_subplot(grid[0, :]), result, shown, env)
    fears = [name for name in shown if f"{name}/reliability" in result.readouts]
    for k, place in enumerate(("at home", "under shift")):
        _curves(sheet.add_subplot(grid[1, k]), result, {n: shown[n] for n in fears}, k, place)
    sheet.savefig(path, dpi=110)


def _dots(axis: Any, result: ValidityResult, shown: dict[str, str], env: str) -> None:
    places = ["none", *result.shifts]
    for i, (name, colour) in enumerate(shown.items()):
        offset = (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
        values = [result.at_home(name), *(result.under_shift(s, name) for s in result.shifts)]
        mean, low, high = np.array([estimate(x) for x in values]).T
        x, is_head = np.arange(len(places)) + offset, name == result.head
        axis.vlines(x, low, high, color=colour, linewidth=2.4 if is_head else 1.2)
        axis.plot(x, mean, "o", color=colour, markersize=6 if is_head else 4, label=name)
    axis.axhline(0.5, color="#2b2f36", linewidth=0.8, linestyle=":")
    for x in np.arange(len(places) - 1) + 0.5:
        axis.axvline(x, color="#e4e7eb", linewidth=0.8, zorder=0)
    labels = ["at home", *(shift.replace("|", "\n") for shift in result.shifts)]
    axis.set_xticks(range(len(places)), labels, rotation=35, ha="right", fontsize=8)
    axis.set_xlim(-0.5, len(places) - 0.5)
    axis.set_ylabel("AUROC of harm ahead")
    axis.figure.suptitle(f"{env}: AUROC of harm ahead (mean over severities)", fontsize=11)
    axis.legend(fontsize=8, ncol=5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)


def _curves(axis: Any, result: ValidityResult, shown: dict[str, str], k: int, place: str) -> None:
    axis.plot([0, 1], [0, 1], ":", color="#2b2f36", linewidth=0.8)
    for name, colour in shown.items():
        share, predicted, observed = np.moveaxis(
            result.readouts[f"{name}/reliability"][:, k], -1, 0
        )
        predicted, observed = (_mean_over_seeds(curve, share) for curve in (predicted, observed))
        axis.plot(predicted, observed, "o-", color=colour, markersize=3, linewidth=1.2, label=name)
    axis.set_xlabel("predicted", fontsize=9)
    axis.set_ylabel("share with harm within the horizon", fontsize=9)
    axis.set_title(f"reliability {place}", fontsize=10)
    axis.legend(fontsize=7, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _mean_over_seeds(curve: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mean of curves [S, BINS], weighted by share of steps; NaN in nearly empty bins."""
    weight = np.where(np.isfinite(curve), share, 0.0)
    total = weight.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (np.nan_to_num(curve) * weight).sum(0) / total
    return np.where(total / len(share) > 1e-4, mean, np.nan)


def memory_figure(result: ValidityResult, env: str, path: Path) -> None:
    """Save a figure of each size's memorisation against its AUROC, at home and under shift."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(7.6, 4.6), layout="constrained")
    axis = sheet.add_subplot()
    for suffix, style in (("", "o-"), ("_offline", "s--")):
        for place, colour in (("at home", "#8a94a1"), ("under shift", "#c8553d")):
            metric = result.at_home if place == "at home" else result.over_shifts
            estimates = [estimate(metric(name + suffix)) for name in SIZES]
            _line(axis, result, estimates, style, colour, f"{place}, {suffix[1:] or 'online'}")
    for i, name in enumerate(SIZES):
        x = estimate(result.readouts["memory"][:, i, 0]).value
        label = name.removeprefix("fear_").replace("_", "-")
        height = 0.97 - 0.06 * (i % 2)  # labels of close points alternate
        axis.annotate(
            label, (x, height), xycoords=("data", "axes fraction"), ha="center", fontsize=9
        )
    axis.set_xlabel("memory: share of random labels memorised")
    axis.set_ylabel("validity: AUROC of harm ahead")
    axis.set_title(f"{env}: AUROC of fear heads by how much they memorise", fontsize=11)
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    sheet.savefig(path, dpi=110)


def _line(
    axis: Any, result: ValidityResult, estimates: Sequence[Any], style: str, colour: str, label: str
) -> None:
    x = [estimate(result.readouts["memory"][:, i, 0]).value for i in range(len(SIZES))]
    mean, low, high = np.array(estimates).T
    axis.plot(x, mean, style, color=colour, label=label)
    axis.vlines(x, low, high, color=colour, linewidth=1.2)
