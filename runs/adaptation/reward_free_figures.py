"""Pictures of learning where nobody pays: shares of the ceiling, learning curves, wrongness."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runs.adaptation.reward_arms import CONTROLS, TESTED
from runs.adaptation.reward_free_report import Found, auroc_at_zero_gain, seed_scores
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


def share_bars(found: Found, shifts: Mapping[str, Sequence[str]], arms: Sequence[str], path: Path):
    """Share of the ceiling's gain an arm, a panel a split; every seed a dot."""
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
    for panel, (name, some) in zip(panels.flat, shifts.items(), strict=True):
        frozen, ceiling = seed_scores(found, some, "frozen"), seed_scores(found, some, "true")
        room = (ceiling - frozen).mean() or np.inf
        for y, arm in enumerate(reversed(shown)):
            share = (seed_scores(found, some, arm) - frozen) / room
            mean = stats.mean(share)
            panel.barh(y, mean.value, color=_colour(arm), alpha=0.75, height=0.7, zorder=1)
            jitter = np.linspace(-0.25, 0.25, len(share))
            panel.scatter(share, y + jitter, s=5, color="black", alpha=0.45, linewidths=0, zorder=3)
            panel.plot([mean.low, mean.high], [y, y], color="black", lw=1.3, zorder=4)
        panel.axvline(0, color="#555555", lw=0.8)
        panel.axvline(1, color=COLOURS["true"], lw=1, ls="--")
        panel.set_yticks(range(len(shown)), reversed(shown))
        panel.set_xlabel("share of the true reward's gain over the frozen agent")
        panel.set_title(f"{name}: {', '.join(some)}", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    _save(plt, sheet, path)


def learning_curves(
    found: Found, shifts: Sequence[str], arms: Sequence[str], steps: int, path: Path
):
    """Success of the episodes that end while learning, by steps; a panel a shift, bands 95 %."""
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
            share = success_by_stretch(found[shift, 1.0, arm])
            middle, seeds = np.nanmean(share, 0), share.shape[0]
            half = 1.96 * np.nanstd(share, 0, ddof=1) / np.sqrt(seeds)
            x = steps * (np.arange(len(middle)) + 0.5) / len(middle)
            colour = COLOURS.get(arm, palette[i % 10])
            style = "--" if arm == "zero" else "-"
            panel.plot(x, middle, style, color=colour, lw=1.6, label=arm)
            panel.fill_between(x, middle - half, middle + half, color=colour, alpha=0.12, lw=0)
        frozen = seed_scores(found, [shift], "frozen").mean()
        panel.axhline(frozen, color="#555555", lw=0.8, ls=":", label="frozen, by its mode")
        panel.set_title(shift, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels.flat)[len(shifts) :]:
        panel.axis("off")
    sheet.supxlabel("steps in the shifted world, task reward off", fontsize=9)
    sheet.supylabel("share of episodes that succeed", fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside upper center", ncol=5, frameon=False, fontsize=8)
    _save(plt, sheet, path)


def success_by_stretch(part: dict) -> np.ndarray:
    """The share of successes in BINS stretches of an arm's learning, [S, BINS]."""
    success, episodes = (np.array(part["curve"][name], float) for name in ("success", "episodes"))
    bins = min(BINS, success.shape[1])
    cut = [np.array_split(x, bins, axis=1) for x in (success, episodes)]
    sums = [np.stack([one.sum(1) for one in x], 1) for x in cut]
    return sums[0] / np.where(sums[1] > 0, sums[1], np.nan)


def label_noise_curve(
    levels: Sequence[dict[str, Any]], zero: np.ndarray, shifts: Sequence[str], path: Path
):
    """Gain over the frozen agent against the measured AUROC of the head that was told wrong."""
    plt = _pyplot()
    sheet, panels = plt.subplots(1, 2, figsize=(9.4, 3.9), sharey=True, layout="constrained")
    gain = np.array([level["gain"] for level in levels])
    words = {"soon": "for harm within 10 steps", "end": "at the end, where it is paid"}
    for panel, (name, what) in zip(panels, words.items(), strict=True):
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
                label=f"{level['share']:.0%} told wrong",
            )
        panel.plot(np.nanmean(auroc, 1), gain.mean(1), color="#555555", lw=1, zorder=0)
        panel.axhline(0, color="#555555", lw=0.8)
        panel.axhline(zero.mean(), color=CONTROL, lw=1, ls="--")
        panel.text(0.99, zero.mean(), "zero reward ", ha="right", va="bottom", fontsize=7,
                   transform=panel.get_yaxis_transform(), color="#6b7480")  # fmt: skip
        at = auroc_at_zero_gain(np.nan_to_num(auroc, nan=0.5), gain)
        if np.isfinite(at.value):
            panel.axvline(at.value, color=COLOURS[TESTED], lw=1, ls=":")
            panel.axvspan(at.low, at.high, color=COLOURS[TESTED], alpha=0.08, lw=0)
        panel.set_xlabel(f"AUROC away, {what}")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("gain over the frozen agent, unpaid")
    sheet.suptitle(f"learning in {', '.join(shifts)} from heads told wrong", fontsize=10)
    panels[1].legend(frameon=False, fontsize=7, loc="upper left")
    _save(plt, sheet, path)


def _colour(arm: str) -> str:
    if arm in (TESTED, "true"):
        return COLOURS[arm]
    return CONTROL if arm in CONTROLS else OTHER


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(plt: Any, sheet: Any, path: Path) -> None:
    sheet.savefig(path, dpi=110)
    plt.close(sheet)
