"""Line plots of scores by severity with intervals over seeds, a panel per shift."""

from collections.abc import Mapping

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
LEFT, RIGHT, TOP, BOTTOM = 34.0, 270.0, 30.0, 168.0  # edges of the plot area


def means_and_half_widths(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of scores [S, ...] over seeds and half widths of their 95 % t intervals, each [...].

    Half widths are 0 where there are fewer seeds than an interval needs.
    """
    from scipy import stats as distributions

    seeds = len(scores)
    means = scores.mean(0)
    if seeds < stats.FEWEST:
        return means, np.zeros_like(means)
    spread = scores.std(0, ddof=1) / np.sqrt(seeds)
    return means, distributions.t.ppf(0.975, seeds - 1) * spread


def severity_curves(
    arm_scores: Mapping[str, ArmScores], styles: Mapping[str, ArmStyle], score: str
) -> list[Markup]:
    """Panels of mean score by severity, one per shift; severity 0 is in distribution."""
    panels = {}
    for shift in scored_shifts(arm_scores):
        series = {}
        for arm, scores in arm_scores.items():
            columns = [i for i, point in enumerate(scores.points) if point.shift == shift]
            columns.sort(key=lambda i, scores=scores: scores.points[i].severity)
            levels = np.array([0.0] + [scores.points[i].severity for i in columns])
            values = np.column_stack([scores.home, scores.away[:, columns]])
            series[arm] = (levels, *means_and_half_widths(values))
        panels[shift] = series
    curves = [
        means_and_widths for series in panels.values() for means_and_widths in series.values()
    ]
    bounds = [means + sign * half_widths for _, means, half_widths in curves for sign in (-1, 1)]
    y_range = extent(bounds, score == "success")
    return [
        draw_panel(shift, series, styles, (0.0, 1.0), y_range, "severity")
        for shift, series in panels.items()
    ]


def scored_shifts(arm_scores: Mapping[str, ArmScores]) -> list[str]:
    """Names of the shifts that any arm was scored under, in their order."""
    return list(
        dict.fromkeys(point.shift for scores in arm_scores.values() for point in scores.points)
    )


def draw_panel(
    title: str,
    series: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    styles: Mapping[str, ArmStyle],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_label: str,
) -> Markup:
    """Panel with a line and a band per arm; `series` is (x, means, half widths of intervals)."""
    x, y = scale(*x_range, LEFT, RIGHT), scale(*y_range, BOTTOM, TOP)
    elements = [
        label(0, 14, clipped(title, 40), class_="title"),
        *draw_axes(x, y, x_range, y_range, x_label),
    ]
    lines = []
    for arm, (positions, means, half_widths) in series.items():
        low, high = np.clip([means - half_widths, means + half_widths], *y_range)
        description = f"{title}, {arm}: {plain(round(float(means[0]), 3))} at {plain(positions[0])}"
        description += f", {plain(round(float(means[-1]), 3))} at {plain(positions[-1])}"
        hover_area = curve(x(positions), y(means), class_="reach")
        marks = [
            band(x(positions), y(low), y(high)),
            curve(x(positions), y(means), class_="line"),
            hover_area,
        ]
        marks.append(dots(x(positions), y(means)))
        lines.append(
            (styles[arm], node("g", node("title", description), *marks, **styles[arm].style))
        )
    lines.sort(key=lambda line: line[0].kind in (0, 1))  # heads and constants are drawn last
    text = (
        f"{title}: mean over seeds by arm, "
        f"from {x_label} {plain(x_range[0])} to {plain(x_range[1])}"
    )
    elements += [line for _, line in lines]
    return picture(WIDE, HIGH, text, *elements, class_="panel")


def draw_axes(
    x, y, x_range, y_range, x_label: str, edges=(LEFT, RIGHT, TOP, BOTTOM)
) -> list[Markup]:
    """Grid lines, tick labels and the label of the x axis."""
    left, right, top, bottom = edges
    elements = []
    for value in ticks(*y_range):
        height = float(y(value))
        elements += [
            rule(left, height, right, height),
            label(left - 5, height + 3.5, plain(value), class_="end"),
        ]
    for value in ticks(*x_range):
        position = float(x(value))
        elements.append(label(position, bottom + 14, plain(value), class_="middle"))
    elements.append(label((left + right) / 2, bottom + 27, x_label, class_="middle axis"))
    return elements
