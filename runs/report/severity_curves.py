"""Curves over something: scores over severity, a small panel a shift, and recovery over steps."""

from collections.abc import Mapping, Sequence

import numpy as np

from runs.analysis import stats
from runs.analysis.robustness import ArmScores
from runs.report.arm_style import ArmStyle
from runs.report.svg import (
    Markup,
    band,
    clipped,
    curve,
    dots,
    extent,
    label,
    node,
    picture,
    plain,
    rule,
    scale,
    ticks,
)

WIDE, HIGH = 280.0, 196.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 270.0, 30.0, 168.0  # where the axes are


def means_and_halves(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of scores [S, ...] over seeds and halves of their t intervals, each [...].

    Halves are 0 where there are fewer seeds than an interval needs.
    """
    from scipy import stats as distributions

    seeds = len(scores)
    middle = scores.mean(0)
    if seeds < stats.FEWEST:
        return middle, np.zeros_like(middle)
    spread = scores.std(0, ddof=1) / np.sqrt(seeds)
    return middle, distributions.t.ppf(0.975, seeds - 1) * spread


def severity_curves(
    counted: Mapping[str, ArmScores], shown: Mapping[str, ArmStyle], score: str
) -> list[Markup]:
    """One panel a shift: every arm's mean with its band, from in distribution at 0 on."""
    panels = {}
    for shift in scored_shifts(counted):
        series = {}
        for arm, cells in counted.items():
            mine = [i for i, point in enumerate(cells.points) if point.shift == shift]
            mine.sort(key=lambda i, cells=cells: cells.points[i].severity)
            levels = np.array([0.0] + [cells.points[i].severity for i in mine])
            scores = np.column_stack([cells.home, cells.away[:, mine]])
            series[arm] = (levels, *means_and_halves(scores))
        panels[shift] = series
    curves = [curve for series in panels.values() for curve in series.values()]
    ends = [middle + sign * half for _, middle, half in curves for sign in (-1, 1)]
    up = extent(ends, score == "success")
    return [
        draw_panel(shift, series, shown, (0.0, 1.0), up, "severity")
        for shift, series in panels.items()
    ]


def scored_shifts(counted: Mapping[str, ArmScores]) -> list[str]:
    """The shifts that any arm was scored under, in their order."""
    return list(dict.fromkeys(point.shift for cells in counted.values() for point in cells.points))


def recovery_curves(rows: Sequence[Mapping], shown: Mapping[str, ArmStyle]) -> list[Markup]:
    """Score over steps since a shift that lasts, one panel a shift.

    Args:
        rows: each with `arm`, `seed`, `step`, `score`, and `shift` where there are several.
        shown: how these arms look.
    """
    panels = []
    span = extent([np.array([row["score"] for row in rows])])
    steps = sorted({float(row["step"]) for row in rows})
    for shift in dict.fromkeys(row.get("shift", "after the shift") for row in rows):
        here = [row for row in rows if row.get("shift", shift) == shift]
        series = {}
        for arm in dict.fromkeys(row["arm"] for row in here):
            mine = [row for row in here if row["arm"] == arm]
            at = sorted({float(row["step"]) for row in mine})
            seeds = [[row["score"] for row in mine if row["step"] == step] for step in at]
            both = [means_and_halves(np.array(scores, float)) for scores in seeds]
            series[arm] = (np.array(at), *np.array(both, float).T)
        panels.append(draw_panel(shift, series, shown, (steps[0], steps[-1]), span, "steps"))
    return panels


def draw_panel(
    title: str,
    series: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    shown: Mapping[str, ArmStyle],
    across: tuple[float, float],
    up: tuple[float, float],
    below: str,
) -> Markup:
    """A small panel: for each arm x, the mean at x, and half the interval there."""
    x, y = scale(*across, LEFT, RIGHT), scale(*up, BOTTOM, TOP)
    inside = [label(0, 14, clipped(title, 40), class_="title"), *draw_axes(x, y, across, up, below)]
    lines = []
    for arm, (at, middle, half) in series.items():
        low, high = np.clip([middle - half, middle + half], *up)
        ends = f"{title}, {arm}: {plain(round(float(middle[0]), 3))} at {plain(at[0])}"
        ends += f", {plain(round(float(middle[-1]), 3))} at {plain(at[-1])}"
        wide = curve(x(at), y(middle), class_="reach")
        drawn = [band(x(at), y(low), y(high)), curve(x(at), y(middle), class_="line"), wide]
        drawn.append(dots(x(at), y(middle)))
        lines.append((shown[arm], node("g", node("title", ends), *drawn, **shown[arm].style)))
    lines.sort(key=lambda line: line[0].kind in (0, 1))  # what matters is drawn last
    said = f"{title}: mean over seeds by arm, from {below} {plain(across[0])} to {plain(across[1])}"
    inside += [line for _, line in lines]
    return picture(WIDE, HIGH, said, *inside, class_="panel")


def draw_axes(x, y, across, up, below: str, edges=(LEFT, RIGHT, TOP, BOTTOM)) -> list[Markup]:
    """Grid lines with their numbers, and what is told below; `across` is None for no numbers."""
    left, right, top, bottom = edges
    drawn = []
    for value in ticks(*up):
        at = float(y(value))
        drawn += [rule(left, at, right, at), label(left - 5, at + 3.5, plain(value), class_="end")]
    for value in ticks(*across) if across else ():
        where = float(x(value))
        drawn.append(label(where, bottom + 14, plain(value), class_="middle"))
    drawn.append(label((left + right) / 2, bottom + 27, below, class_="middle axis"))
    return drawn
