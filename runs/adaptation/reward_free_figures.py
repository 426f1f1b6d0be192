"""Figures of the reward-free study: shares of the ceiling, learning curves, label noise."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runs.adaptation.reward_arms import CONTROLS, TESTED
from runs.adaptation.reward_free_report import Parts, auroc_at_zero_gain, seed_scores
from runs.analysis import stats

COLOURS = {
    TESTED: "#c8553d",
    "true": "#2f7d4f",
    "zero": "#8b929c",
    "sham": "#5f87b0",
    "critic": "#d79b2f",
    "reward_model": "#7b5ea7",
}
CONTROL, OTHER, BINS = "#9aa3ae", "#4a7fb5", 5


def share_bars(parts: Parts, shifts: Mapping[str, Sequence[str]], arms: Sequence[str], path: Path):
    """Plot each arm's share of the ceiling's gain, a panel a split, a dot a seed."""
    plt = _pyplot()
    shown = [arm for arm in arms if arm not in ("frozen", "true")]
    sheet, panels = plt.subplots(
        1,
        len(shifts),
        figsize=(5.2 * len(shifts), 0.34 * len(shown) + 1.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, (name, names) in zip(panels.flat, shifts.items(), strict=True):
        frozen, ceiling = seed_scores(parts, names, "frozen"), seed_scores(parts, names, "true")
        ceiling_gain = (ceiling - frozen).mean() or np.inf
        for y, arm in enumerate(reversed(shown)):
            share = (seed_scores(parts, names, arm) - frozen) / ceiling_gain
            mean = stats.mean(share)
            panel.barh(y, mean.value, color=_colour(arm), alpha=0.75, height=0.7, zorder=1)
            jitter = np.linspace(-0.25, 0.25, len(share))
            panel.scatter(share, y + jitter, s=5, color="black", alpha=0.45, linewidths=0, zorder=3)
            panel.plot([mean.low, mean.high], [y, y], color="black", lw=1.3, zorder=4)
        panel.axvline(0, color="#555555", lw=0.8)
        panel.axvline(1, color=COLOURS["true"], lw=1, ls="--")
        panel.set_yticks(range(len(shown)), reversed(shown))
        panel.set_xlabel("share of the true reward's gain over the frozen agent")
        panel.set_title(f"{name}: {', '.join(names)}", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    _save_figure(plt, sheet, path)


def learning_curves(
    parts: Parts, shifts: Sequence[str], arms: Sequence[str], steps: int, path: Path
):
    """Plot success of training episodes by steps, a panel a shift, with 95 % bands."""
    plt = _pyplot()
    across = min(3, len(shifts))
    down = -(-len(shifts) // across)
    sheet, panels = plt.subplots(
        *(down, across),
        figsize=(3.9 * across, 2.9 * down + 0.5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    palette = _pyplot().get_cmap("tab10").colors
    for panel, shift in zip(panels.flat, shifts, strict=False):
        for i, arm in enumerate(arms):
            share = success_by_stretch(parts[shift, 1.0, arm])
            middle, seeds = np.nanmean(share, 0), share.shape[0]
            half = 1.96 * np.nanstd(share, 0, ddof=1) / np.sqrt(seeds)
            x = steps * (np.arange(len(middle)) + 0.5) / len(middle)
            colour = COLOURS.get(arm, palette[i % 10])
            style = "--" if arm == "zero" else "-"
            panel.plot(x, middle, style, color=colour, lw=1.6, label=arm)
            panel.fill_between(x, middle - half, middle + half, color=colour, alpha=0.12, lw=0)
        frozen = seed_scores(parts, [shift], "frozen").mean()
        panel.axhline(frozen, color="#555555", lw=0.8, ls=":", label="frozen, greedy")
        panel.set_title(shift, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels.flat)[len(shifts) :]:
        panel.axis("off")
    sheet.supxlabel("steps in the shifted world, task reward off", fontsize=9)
    sheet.supylabel("share of episodes that succeed", fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside upper center", ncol=5, frameon=False, fontsize=8)
    _save_figure(plt, sheet, path)


def success_by_stretch(part: dict) -> np.ndarray:
    """Share of successes [S, BINS] in BINS equal stretches of an arm's training."""
    success, episodes = (np.array(part["curve"][name], float) for name in ("success", "episodes"))
    bins = min(BINS, success.shape[1])
    stretches = [np.array_split(x, bins, axis=1) for x in (success, episodes)]
    sums = [np.stack([stretch.sum(1) for stretch in x], 1) for x in stretches]
    return sums[0] / np.where(sums[1] > 0, sums[1], np.nan)


def label_noise_curve(
    levels: Sequence[dict[str, Any]], zero: np.ndarray, shifts: Sequence[str], path: Path
):
    """Plot gain over the frozen agent against the AUROC of heads with label noise."""
    plt = _pyplot()
    sheet, panels = plt.subplots(1, 2, figsize=(9.4, 3.9), sharey=True, layout="constrained")
    gain = np.array([level["gain"] for level in levels])
    labels = {"soon": "for harm within 10 steps", "end": "at the end, where it is the reward"}
    for panel, (name, label) in zip(panels, labels.items(), strict=True):
        auroc = np.array([level[name] for level in levels])
        for level, x, y in zip(levels, auroc, gain, strict=True):
            colour = plt.get_cmap("viridis_r")(0.1 + 0.8 * level["share"] / 0.5)
            panel.scatter(x, y, s=9, color=colour, alpha=0.5, linewidths=0)
            mean = stats.mean(y)
            panel.errorbar(
                np.nanmean(x),
                mean.value,
                [[mean.value - mean.low], [mean.high - mean.value]],
                fmt="o",
                color=colour,
                ms=6,
                capsize=2,
                label=f"{level['share']:.0%} flipped",
            )
        panel.plot(np.nanmean(auroc, 1), gain.mean(1), color="#555555", lw=1, zorder=0)
        panel.axhline(0, color="#555555", lw=0.8)
        panel.axhline(zero.mean(), color=CONTROL, lw=1, ls="--")
        panel.text(0.99, zero.mean(), "zero reward ", ha="right", va="bottom", fontsize=7,
                   transform=panel.get_yaxis_transform(), color="#6b7480")  # fmt: skip
        zero_gain = auroc_at_zero_gain(np.nan_to_num(auroc, nan=0.5), gain)
        if np.isfinite(zero_gain.value):
            panel.axvline(zero_gain.value, color=COLOURS[TESTED], lw=1, ls=":")
            panel.axvspan(zero_gain.low, zero_gain.high, color=COLOURS[TESTED], alpha=0.08, lw=0)
        panel.set_xlabel(f"AUROC away, {label}")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("gain over the frozen agent, without reward")
    sheet.suptitle(f"training in {', '.join(shifts)} on heads with label noise", fontsize=10)
    panels[1].legend(frameon=False, fontsize=7, loc="upper left")
    _save_figure(plt, sheet, path)


def _colour(arm: str) -> str:
    if arm in (TESTED, "true"):
        return COLOURS[arm]
    return CONTROL if arm in CONTROLS else OTHER


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save_figure(plt: Any, sheet: Any, path: Path) -> None:
    sheet.savefig(path, dpi=110)
    plt.close(sheet)
