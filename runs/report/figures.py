"""Figures of the HTML report: scores by severity, family, seed and arm; contrasts; signals."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from runs.analysis import robustness
from runs.analysis.robustness import ArmScores
from runs.analysis.stats import Estimate, mean_and_bounds
from runs.report import plots
from runs.report.arm_style import COLOURS, KINDS, ArmStyle
from runs.report.svg import INK, QUIET, STYLE, clipped, short, svg_text

ACCENT, PAPER = COLOURS["accent"], COLOURS["paper"]
WIDE, NARROW = 420.0, 340.0  # widths of pictures, in units of 1/72 inch
TOP, STEP = 26.0, 22.0  # top of the first row, and height of a row
MAX_LETTERS = 21  # of a name
DOTS = {"markersize": 4.4, "markeredgewidth": 0, "alpha": 0.42, "clip_on": False}
MEASURES = {
    "auroc": ("danger: AUROC for harm soon", 0.5),
    "return": ("return to go: rank correlation", 0.0),
    "rarity": ("rarity: rank correlation", 0.0),
}
"""Measure of validity -> (title, chance level)."""
Curve = tuple[np.ndarray, np.ndarray]  # severities [N]; means and bounds of intervals [3, N]


# --- scores by severity ---------------------------------------------------------------------------


def severity_curves(arm_scores: Mapping[str, ArmScores]) -> dict[str, dict[str, Curve]]:
    """Shift -> arm -> mean score over seeds by severity; severity 0 is in distribution."""
    curves: dict[str, dict[str, Curve]] = {}
    for arm, (home, away, points) in arm_scores.items():
        bounds = mean_and_bounds(np.column_stack([home, away]))
        severities = np.array([0.0, *(point.severity for point in points)])
        for shift in dict.fromkeys(point.shift for point in points):
            columns = [i for i, point in enumerate(points, 1) if point.shift == shift]
            columns = [0, *sorted(columns, key=severities.__getitem__)]
            curves.setdefault(shift, {})[arm] = severities[columns], bounds[:, columns]
    return curves


def draw_curves(axis: Any, curves: Mapping[str, Curve], styles: Mapping[str, ArmStyle]) -> None:
    """Draw a line and a band for each arm, heads and those with a constant above the others."""
    for arm, (x, (mean, low, high)) in curves.items():
        style, kind = styles[arm], styles[arm].kind
        options = {"color": style.colour, "gid": style.classes, "zorder": 2 + (kind in KINDS[:2])}
        if kind.band:
            axis.fill_between(x, low, high, alpha=kind.band, linewidth=0, **options)
        dots = {"marker": "o", "markersize": 3, "markeredgewidth": 0} if kind.band else {}
        line = {"linestyle": kind.dashes, "linewidth": kind.width, "clip_on": False, "label": arm}
        axis.plot(x, mean, **line, **dots, **options)


@matplotlib.rc_context(STYLE)
def severity_panels(
    curves: Mapping[str, Mapping[str, Curve]], styles: Mapping[str, ArmStyle], share: bool
) -> list[Markup]:
    """Panel of each shift; `share`: scores are shares, from 0 to 1."""
    bounds = [bounds for panel in curves.values() for _, bounds in panel.values()]
    y_range, panels = extent(bounds, share), []
    for shift, panel in curves.items():
        figure, axis = _new_picture(280, 196, (34, 270), (30, 168), clipped(shift, 40))
        draw_curves(axis, panel, styles)
        tips = {}
        for arm, (x, (mean, *_)) in panel.items():
            ends = f"{short(mean[0], 3)} at {x[0]:g}, {short(mean[-1], 3)} at {x[-1]:g}"
            tips[styles[arm].classes] = f"{shift}, {arm}: {ends}"
            axis.plot(x, mean, alpha=0, linewidth=9, gid=styles[arm].classes)  # to point at
        axis.set(xlim=(0, 1), ylim=y_range, xlabel="severity")
        axis.grid(axis="y")
        title = f"{shift}: mean over seeds by arm, from severity 0 to 1"
        panels.append(svg_text(figure, title, tips, class_="panel"))
    return panels


def severity_figure(
    curves: Mapping[str, Mapping[str, Curve]],
    styles: Mapping[str, ArmStyle],
    score: str,
    path: Path,
) -> None:
    """Save the severity curves as PNG, one panel per shift; bands are t intervals over seeds."""
    rows = -(-len(styles) // 5)
    figure, panels = plots.new_panels(len(curves), 5, (2.6, 2.2), 0.35 * rows)
    for axis, (shift, panel) in zip(panels, curves.items(), strict=True):
        draw_curves(axis, panel, styles)
        axis.set_title(shift, fontsize=10, parse_math=False)
    plots.save_with_legend(figure, path, "severity", score)


# --- scores by family, seed and arm ---------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def heat_map(arm_scores: Mapping[str, ArmScores]) -> Markup:
    """Heat map of mean scores, arms by family of shifts; each arm's worst family is framed."""
    means = pd.DataFrame(
        {
            arm: {"in distribution": scores.home.mean()}
            | {
                family: scores.away[:, [point.family == family for point in scores.points]].mean()
                for family in dict.fromkeys(point.family for point in scores.points)
            }
            for arm, scores in arm_scores.items()
        }
    ).T
    names = [clipped(name.replace("|", " + "), 22) for name in means]
    left, top = 6.1 * min(max(map(len, means.index)), MAX_LETTERS) + 10, 5.6 * max(map(len, names))
    right, bottom = left + 28 * len(names) + 6, top + 16 + 22 * len(means)
    full = right + max(3.4 * len(names[-1]), 6)
    figure, axis = _new_picture(full, bottom + 4, (left, right), (top + 16, bottom))
    x = np.arange(len(names)) + 0.2 * (np.arange(len(names)) > 0)
    opacity = np.interp(means, [means.min(axis=None), means.max(axis=None)], [0.02, 0.5])
    worst = np.nanargmin(means.iloc[:, 1:], axis=1) + 1
    for (row, column), value in np.ndenumerate(means.to_numpy()):
        framed = column == worst[row]
        half, width, gid = (0.43, 2, "worst") if framed else (0.46, 0, "cell")
        fill = (ACCENT, np.nan_to_num(opacity[row, column]))
        options = {"facecolor": fill, "edgecolor": ACCENT, "linewidth": width, "gid": gid}
        corner = (x[column] - half, row - half)
        axis.add_patch(Rectangle(corner, 2 * half, 2 * half, **options))
        text = re.sub(r"^(−?)0\.", r"\1.", short(value))  # without a zero before the point
        weight = "bold" if framed else "normal"
        axis.text(x[column], row, text, ha="center", va="center", weight=weight)
    axis.set(xlim=(-0.5, x[-1] + 0.5), ylim=(len(means) - 0.5, -0.5))
    axis.xaxis.tick_top()
    axis.set_xticks(x, names, rotation=60, ha="left", rotation_mode="anchor", color=INK)
    axis.set_yticks(
        range(len(means)), [clipped(arm, MAX_LETTERS) for arm in means.index], color=INK
    )
    title = f"mean score of {len(means)} arms in each family of shifts, worst cell framed"
    limits = f"max-width:{full * 1.4:.0f}px;min-width:{full * 0.8:.0f}px"
    return svg_text(figure, title, class_="heat", style=limits)


@matplotlib.rc_context(STYLE)
def seed_strips(
    arm_scores: Mapping[str, ArmScores], styles: Mapping[str, ArmStyle]
) -> list[Markup]:
    """Per-seed scores by arm with means and intervals: in distribution, shifted and CVaR-25."""
    measures: dict[str, Callable[[ArmScores], np.ndarray]] = {
        "in distribution": lambda scores: scores.home,
        "mean over shifts": robustness.mean,
        "worst quarter of points (CVaR-25)": robustness.cvar,
    }
    strips = []
    for title, measure in measures.items():
        seeds = {arm: measure(scores) for arm, scores in arm_scores.items()}
        bounds = {arm: mean_and_bounds(values) for arm, values in seeds.items()}
        x_range = extent([*seeds.values(), *bounds.values()])
        (figure, axis), tips = _new_rows(title, list(seeds), x_range), {}
        for row, (arm, values) in enumerate(seeds.items()):
            mean, low, high = bounds[arm]
            tips[f"arm{row}"] = f"{arm}: {mean:.3f} ±{high - mean:.3f}, {len(values)} seeds"
            y = row + ((np.arange(len(values)) * 0.618034) % 1 - 0.5) * 0.55
            options = {"color": styles[arm].colour, "gid": f"arm{row}"}
            axis.plot(values, y, "o", **DOTS, **options)
            axis.plot([low, high], [row, row], linewidth=2, solid_capstyle="butt", **options)
            _draw_mark(axis, mean, row, styles[arm], 8.4, f"arm{row}")
        strips.append(svg_text(figure, f"{title}: every seed by arm", tips, class_="strip"))
    return strips


@matplotlib.rc_context(STYLE)
def home_shift_scatter(
    arm_scores: Mapping[str, ArmScores], styles: Mapping[str, ArmStyle], score: str
) -> Markup:
    """Scatter of shifted against in-distribution scores by seed and arm, with baselines' fit."""
    away = {arm: robustness.mean(scores) for arm, scores in arm_scores.items()}
    figure, axis = _new_picture(WIDE, 322, (44, 408), (12, 290))
    x_range = extent([scores.home for scores in arm_scores.values()], score == "success")
    y_range = extent(away.values(), score == "success")
    baselines = [arm_scores[arm] for arm in robustness.BASELINES if arm in arm_scores]
    if baselines:
        home = np.linspace(*x_range, 2)
        zero = ArmScores(home, np.zeros((2, 1)), ())
        predicted = -robustness.effective_robustness(zero, baselines)
        axis.plot(home, predicted, "--", color=ACCENT, linewidth=1.8, gid="predicted")
    tips = {}
    for i, (arm, scores) in enumerate(arm_scores.items()):
        x, y = scores.home.mean(), away[arm].mean()
        tip = f"{arm}: {short(x)} in distribution, {short(y)} over shifts"
        tips |= {f"seeds{i}": tip, f"arm{i}": tip}
        options = {"color": styles[arm].colour, "gid": f"seeds{i}"}
        axis.plot(scores.home, away[arm], "o", **DOTS, **options)
        _draw_mark(axis, x, y, styles[arm], 11, f"arm{i}", zorder=3)
    labels = {"xlabel": f"in-distribution {score}", "ylabel": f"mean {score} over shifts"}
    axis.set(xlim=x_range, ylim=y_range, **labels)
    axis.grid(axis="y")
    title = "score in distribution against mean score over shifts, seeds and arms"
    return svg_text(figure, title, tips, class_="scatter")


@matplotlib.rc_context(STYLE)
def forest_plot(differences: Mapping[str, Estimate], title: str) -> Markup:
    """Forest plot of named differences with their intervals; the first one stands out."""
    height = 40.0 * len(differences)
    figure, axis = _new_picture(WIDE, height + 26, (12, WIDE - 12), (6, height + 6))
    axis.axvline(0, color=QUIET, linewidth=1, dashes=(2, 3))
    tips = {}
    for row, (name, estimate) in enumerate(differences.items()):
        text = f"{estimate:+z.3f}".replace("-", "−")
        colour, width = (QUIET, 1.8) if row else (ACCENT, 2.6)
        options = {"color": colour, "gid": f"row{row}", "zorder": 3}
        place = {"transform": axis.get_yaxis_transform(), "va": "center", "gid": "halo"}
        axis.text(0, row - 0.22, clipped(name, 38), **place)
        axis.text(1, row - 0.22, text, ha="right", weight="bold", **place)
        axis.plot([estimate.low, estimate.high], [row + 0.18] * 2, "|-", linewidth=width, **options)
        axis.plot(estimate.value, row + 0.18, "o" if row else "D", markersize=9, **options)
        tips[f"row{row}"] = f"{name}: {text}"
    axis.set(ylim=(len(differences) - 0.5, -0.5), yticks=[])
    axis.set_xlim(extent([np.array([*differences.values()]), np.zeros(1)]))
    axis.grid(axis="x")
    return svg_text(figure, title, tips, class_="forest")


@matplotlib.rc_context(STYLE)
def swatch(style: ArmStyle, name: str) -> Markup:
    """Line and marker of an arm, for a legend; `name` is unique in the page."""
    figure, axis = _new_picture(28, 14, (1, 27), (0, 14))
    line = {"linestyle": style.kind.dashes, "linewidth": max(style.kind.width, 1.5)}
    axis.plot([0, 1], [0, 0], color=style.colour, **line)
    _draw_mark(axis, 0.5, 0, style, 7)
    axis.set(xlim=(0, 1), ylim=(-1, 1), xticks=[], yticks=[])
    return svg_text(figure, name, class_="swatch")


# --- signals --------------------------------------------------------------------------------------


def validity_figures(readouts: Sequence[Mapping]) -> list[Markup]:
    """Validity of each signal in distribution and under shift, a panel per measure in the rows.

    Args:
        readouts: each with `signal`, `shift` ("none": in distribution), `seed` and any of MEASURES.
    """
    table = pd.DataFrame(list(readouts))
    known = [name for name in MEASURES if name in table and table[name].notna().any()]
    return [_validity_panel(table.dropna(subset=[name]), name) for name in known]


@matplotlib.rc_context(STYLE)
def _validity_panel(table: pd.DataFrame, measure: str) -> Markup:
    """Row per signal: ring in distribution, disc and interval over shifts, tick at worst shift."""
    title, chance = MEASURES[measure]
    shifted = table[table["shift"] != "none"]
    home = table[table["shift"] == "none"].groupby("signal")[measure].mean()
    seeds = shifted.groupby(["signal", "seed"])[measure].mean()
    by_shift = shifted.groupby(["signal", "shift"])[measure].mean()
    names = list(dict.fromkeys(table["signal"]))
    x_range = extent([home, seeds, by_shift.groupby("signal").min(), [chance]])
    figure, axis = _new_rows(title, names, x_range)
    axis.axvline(chance, color=QUIET, linewidth=1, dashes=(2, 3))
    tips = {}
    for row, name in enumerate(names):
        options = {"color": ACCENT, "gid": f"signal{row}"}
        inside, tip = home.get(name, np.nan), ""
        if name in by_shift:
            mean, low, high = mean_and_bounds(seeds[name].to_numpy())
            worst, lowest = by_shift[name].idxmin(), by_shift[name].min()
            tip = f" ±{short(high - mean)} over shifts, worst {short(lowest)} under {worst}"
            axis.plot([inside, mean], [row, row], linewidth=1.2, alpha=0.5, **options)
            axis.plot(lowest, row, "|", markersize=10, markeredgewidth=2, **options)
            axis.plot([low, high], [row, row], linewidth=2, solid_capstyle="butt", **options)
            axis.plot(mean, row, "o", markersize=9, markeredgecolor=PAPER, **options)
            tip = f", {short(mean)}{tip}"
        axis.plot(inside, row, "o", markersize=8, markerfacecolor=PAPER, mew=1.8, **options)
        tips[f"signal{row}"] = f"{name}: {short(inside)} in distribution{tip}"
    return svg_text(figure, f"{title}, by signal", tips, class_="strip")


@matplotlib.rc_context(STYLE)
def signal_curve(
    values: np.ndarray, y_range: tuple[float, float], colour: str, blunder: int | None, title: str
) -> Markup:
    """Curve of a signal [T] over an episode, without text, so that it can be stretched."""
    figure, axis = _new_picture(1000, 60, (0, 1000), (0, 60))
    steps = np.arange(len(values))
    if y_range[0] < 0 < y_range[1]:
        axis.axhline(0, color=QUIET, linewidth=1, dashes=(2, 3))
    if np.isfinite(values).all():
        axis.fill_between(steps, y_range[0], values, color=colour, alpha=0.09, linewidth=0)
    axis.plot(steps, values, color=colour, linewidth=1.7)
    if blunder is not None:
        axis.axvline(blunder, color=ACCENT, linewidth=2, gid="moment")
    axis.set(xlim=(0, max(len(values) - 1, 1)), ylim=y_range, xticks=[], yticks=[])
    return svg_text(figure, title, preserveAspectRatio="none")


# --- parts of figures -----------------------------------------------------------------------------


def extent(values: Iterable[Any], share: bool = False) -> tuple[float, float]:
    """Range of the finite values of arrays, with a margin; a share stays within [0, 1]."""
    flat = np.concatenate([np.zeros(0), *(np.ravel(np.asarray(x, float)) for x in values)])
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    margin = 0.06 * (high - low) or 0.05 * max(abs(high), 0.1)
    if share:
        return max(low - margin, 0.0), min(high + margin, 1.0)
    return low - margin, high + margin


def _new_picture(
    width: float, height: float, x: tuple[float, float], y: tuple[float, float], title: str = ""
) -> tuple[Any, Any]:
    """Figure of `width` x `height` units and its axes, whose edges are x and, from the top, y."""
    figure = Figure(figsize=(width / 72, height / 72))
    place = (x[0] / width, 1 - y[1] / height, (x[1] - x[0]) / width, (y[1] - y[0]) / height)
    axis = figure.add_axes(place)
    for side, count in ((axis.xaxis, 4), (axis.yaxis, 5)):
        side.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
        side.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    figure.text(0, 1 - 14 / height, title, size=13, weight="bold")
    return figure, axis


def _new_rows(title: str, names: Sequence[str], x_range: tuple[float, float]) -> tuple[Any, Any]:
    """Figure with a row for each name, and its axes; row i is at y = i."""
    left = max(6.1 * min(max(map(len, names)), MAX_LETTERS) + 10, 60.0)
    bottom = TOP + STEP * len(names)
    figure, axis = _new_picture(NARROW, bottom + 20, (left, NARROW - 8), (TOP, bottom), title)
    axis.set(xlim=x_range, ylim=(len(names) - 0.5, -0.5))
    axis.set_yticks(range(len(names)), [clipped(name, MAX_LETTERS) for name in names], color=INK)
    axis.grid(axis="x")
    return figure, axis


def _draw_mark(
    axis: Any, x: float, y: float, style: ArmStyle, size: float, gid: str = "", zorder: float = 2
) -> None:
    """Draw the marker of an arm: filled in its colour, or hollow."""
    face, edge = (PAPER, style.colour) if style.kind.hollow else (style.colour, PAPER)
    options = {"markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": 1.3}
    options |= {"markersize": size * (0.9 if style.kind.marker in "Ds" else 1), "gid": gid or None}
    axis.plot(x, y, style.kind.marker, zorder=zorder, clip_on=False, **options)
