"""Figures of an examination: AUROC by shift with reliability curves, and memory by validity."""

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


def shift_figure(told: ValidityResult, env: str, path: Path) -> None:
    """Above: AUROC at home and under each shift. Below: reliability at home and elsewhere."""
    from matplotlib.figure import Figure

    shown = {told.head: COLOURS["head"]} | {
        name: colour
        for key, colour in COLOURS.items()
        for name in (key, f"{told.head}_{key}")
        if name in told.signals
    }
    wide = max(0.75 * (len(told.shifts) + 1) + 2, 9)
    sheet = Figure(figsize=(wide, 8.4), layout="constrained")
    grid = sheet.add_gridspec(2, 2, height_ratios=(1.25, 1))
    _dots(sheet.add_subplot(grid[0, :]), told, shown, env)
    fears = [name for name in shown if f"{name}/reliability" in told.told]
    for k, where in enumerate(("at home", "under shift")):
        _curves(sheet.add_subplot(grid[1, k]), told, {n: shown[n] for n in fears}, k, where)
    sheet.savefig(path, dpi=110)


def _dots(axis: Any, told: ValidityResult, shown: dict[str, str], env: str) -> None:
    places = ["none", *told.shifts]
    for i, (name, colour) in enumerate(shown.items()):
        beside = (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
        each = [told.at_home(name), *(told.under(shift, name) for shift in told.shifts)]
        middle, low, high = np.array([estimate(x) for x in each]).T
        x, big = np.arange(len(places)) + beside, name == told.head
        axis.vlines(x, low, high, color=colour, linewidth=2.4 if big else 1.2)
        axis.plot(x, middle, "o", color=colour, markersize=6 if big else 4, label=name)
    axis.axhline(0.5, color="#2b2f36", linewidth=0.8, linestyle=":")
    for x in np.arange(len(places) - 1) + 0.5:
        axis.axvline(x, color="#e4e7eb", linewidth=0.8, zorder=0)
    labels = ["at home", *(shift.replace("|", "\n") for shift in told.shifts)]
    axis.set_xticks(range(len(places)), labels, rotation=35, ha="right", fontsize=8)
    axis.set_xlim(-0.5, len(places) - 0.5)
    axis.set_ylabel("AUROC of harm to come")
    axis.figure.suptitle(f"{env}: who knows that harm is near (mean over severities)", fontsize=11)
    axis.legend(fontsize=8, ncol=5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)


def _curves(axis: Any, told: ValidityResult, shown: dict[str, str], k: int, where: str) -> None:
    axis.plot([0, 1], [0, 1], ":", color="#2b2f36", linewidth=0.8)
    for name, colour in shown.items():
        share, said, seen = np.moveaxis(told.told[f"{name}/reliability"][:, k], -1, 0)
        said, seen = (_mean_over_seeds(curve, share) for curve in (said, seen))
        axis.plot(said, seen, "o-", color=colour, markersize=3, linewidth=1.2, label=name)
    axis.set_xlabel("said", fontsize=9)
    axis.set_ylabel("share with harm within the horizon", fontsize=9)
    axis.set_title(f"reliability {where}", fontsize=10)
    axis.legend(fontsize=7, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _mean_over_seeds(curve: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The mean of curves [S, BINS], each by its share of steps; nearly empty bins left out."""
    weight = np.where(np.isfinite(curve), share, 0.0)
    total = weight.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (np.nan_to_num(curve) * weight).sum(0) / total
    return np.where(total / len(share) > 1e-4, mean, np.nan)


def memory_figure(told: ValidityResult, env: str, path: Path) -> None:
    """What each size memorises against its validity, at home and under shift."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(7.6, 4.6), layout="constrained")
    axis = sheet.add_subplot()
    for how, style in (("", "o-"), ("_offline", "s--")):
        for place, colour in (("at home", "#8a94a1"), ("under shift", "#c8553d")):
            read = told.at_home if place == "at home" else told.away
            valid = [estimate(read(name + how)) for name in SIZES]
            _line(axis, told, valid, style, colour, f"{place}, {how[1:] or 'beside the agent'}")
    for i, name in enumerate(SIZES):
        x = estimate(told.told["memory"][:, i, 0]).value
        label = name.removeprefix("fear_").replace("_", "-")
        height = 0.97 - 0.06 * (i % 2)  # they may stand side by side
        axis.annotate(
            label, (x, height), xycoords=("data", "axes fraction"), ha="center", fontsize=9
        )
    axis.set_xlabel("memory: share of random labels learned by heart")
    axis.set_ylabel("validity: AUROC of harm to come")
    axis.set_title(f"{env}: is a head that cannot memorise the one that stays true?", fontsize=11)
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    sheet.savefig(path, dpi=110)


def _line(
    axis: Any, told: ValidityResult, valid: Sequence[Any], style: str, colour: str, label: str
) -> None:
    x = [estimate(told.told["memory"][:, i, 0]).value for i in range(len(SIZES))]
    middle, low, high = np.array(valid).T
    axis.plot(x, middle, style, color=colour, label=label)
    axis.vlines(x, low, high, color=colour, linewidth=1.2)
