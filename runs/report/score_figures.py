"""Figures of all arms: family heat map, per-seed strips, home-shift scatter and forest plot."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from runs.analysis import robustness
from runs.analysis.robustness import ArmScores
from runs.analysis.stats import Estimate
from runs.report.arm_style import ArmStyle
from runs.report.severity_curves import draw_axes, means_and_half_widths
from runs.report.svg import (
    Markup,
    clipped,
    dots,
    extent,
    label,
    marker,
    minus,
    node,
    picture,
    plain,
    rule,
    scale,
    short,
    ticks,
)

WIDE = 420.0  # width of most figures
NARROW = 340.0  # width of figures with a row per name
TOP, STEP = 30.0, 22.0  # top of the first row and height of a row
MAX_OPACITY = 0.5  # of a cell's colour, so that its text stays readable
LETTER_WIDTH, MAX_LETTERS = 6.1, 21  # of names: approximate width of a letter, largest number


def heat_map(arm_scores: Mapping[str, ArmScores]) -> Markup:
    """Heat map of mean scores, arms by family of shifts; each arm's worst family is framed."""
    families = list(
        dict.fromkeys(p.family for scores in arm_scores.values() for p in scores.points)
    )
    means = np.full((len(arm_scores), 1 + len(families)), np.nan)
    for row, scores in enumerate(arm_scores.values()):
        means[row, 0] = scores.home.mean()
        for column, family in enumerate(families):
            in_family = [point.family == family for point in scores.points]
            means[row, 1 + column] = scores.away[:, in_family].mean() if any(in_family) else np.nan
    low, high = np.nanmin(means), np.nanmax(means)
    opacity = scale(low, high, 0.02, MAX_OPACITY)
    left, cell_width, cell_height = label_width(arm_scores), 28.0, 22.0
    names = [clipped(name.replace("|", " + "), 22) for name in ("in distribution", *families)]
    top, elements = 14 + 0.87 * LETTER_WIDTH * max(map(len, names)), []
    for column, name in enumerate(names):
        x = left + column * cell_width + cell_width / 2 + (6 if column else 0)
        rotation = f"rotate(-60 {x + 3:.1f} {top - 6:.1f})"
        elements.append(label(x + 3, top - 6, name, transform=rotation, class_="head"))
    for row, arm in enumerate(arm_scores):
        y = top + row * cell_height
        worst = int(np.nanargmin(means[row, 1:])) + 1 if families else -1
        elements.append(label(left - 8, y + 15, clipped(arm, MAX_LETTERS), class_="end name"))
        for column, value in enumerate(means[row]):
            x = left + column * cell_width + (6 if column else 0)
            elements.append(_cell(x, y, cell_width, cell_height, value, opacity, column == worst))
    width = left + len(names) * cell_width + max(LETTER_WIDTH * len(names[-1]) / 2, 6)
    title = f"mean score of {len(arm_scores)} arms in each family of shifts, worst cell framed"
    height = top + len(arm_scores) * cell_height + 4
    limits = f"max-width:{width * 1.4:.0f}px;min-width:{width * 0.8:.0f}px"
    return picture(width, height, title, *elements, class_="heat", style=limits)


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
        values = {arm: measure(scores) for arm, scores in arm_scores.items()}
        strips.append(_strip(title, values, styles))
    return strips


def home_shift_scatter(
    arm_scores: Mapping[str, ArmScores], styles: Mapping[str, ArmStyle], score: str
) -> Markup:
    """Scatter of shifted against in-distribution scores by seed and arm, with baselines' fit."""
    away = {arm: robustness.mean(scores) for arm, scores in arm_scores.items()}
    x_range = extent([scores.home for scores in arm_scores.values()], score == "success")
    y_range = extent(away.values(), score == "success")
    edges = left, right, top, bottom = 44.0, 408.0, 12.0, 290.0
    x, y = scale(*x_range, left, right), scale(*y_range, bottom, top)
    elements = draw_axes(x, y, x_range, y_range, f"in-distribution {score}", edges)
    rotation = f"rotate(-90 11 {(top + bottom) / 2:.0f})"
    y_label = f"mean {score} over shifts"
    elements.append(
        label(11, (top + bottom) / 2, y_label, class_="middle axis", transform=rotation)
    )
    baselines = [arm_scores[arm] for arm in ("none", "random") if arm in arm_scores]
    if baselines:
        elements += _baseline_fit(baselines, x, y, x_range, y_range)
    marks = []
    for arm, scores in arm_scores.items():
        arm_style, means = styles[arm], (scores.home.mean(), away[arm].mean())
        description = f"{arm}: {short(means[0])} in distribution, {short(means[1])} over shifts"
        seeds = dots(x(scores.home), y(away[arm]))
        elements.append(node("g", node("title", description), seeds, **arm_style.style))
        mark = marker(arm_style.kind, float(x(means[0])), float(y(means[1])), 5.5)
        marks.append(node("g", node("title", description), mark, **arm_style.style))
    title = "score in distribution against mean score over shifts, seeds and arms"
    return picture(WIDE, 322, title, *elements, *marks, class_="scatter")


def forest_plot(rows: Sequence[tuple[str, Estimate, str, bool]], title: str) -> Markup:
    """Forest plot of differences with their intervals.

    Args:
        rows: name, estimate, text after it, and whether it is the primary contrast, of each row.
        title: accessible title of the figure.
    """
    bounds = np.array([[estimate.low, estimate.high, 0.0] for _, estimate, _, _ in rows])
    x_range = extent([bounds])
    x, top, step = scale(*x_range, 12, WIDE - 12), 6.0, 40.0
    bottom = top + step * len(rows)
    elements = [rule(float(x(v)), top, float(x(v)), bottom, "grid") for v in ticks(*x_range)]
    elements.append(rule(float(x(0)), top, float(x(0)), bottom, "zero"))
    for row, (name, estimate, suffix, primary) in enumerate(rows):
        y = top + row * step
        text = f"{estimate:+z.3f}".replace("-", "−")
        text += f"  {suffix}" if suffix else ""
        low, mean, high = (
            float(x(value)) for value in (estimate.low, estimate.value, estimate.high)
        )
        elements += [
            label(12, y + 14, clipped(name, 38), class_="name halo"),
            label(WIDE - 12, y + 14, text, class_="end value halo"),
            node(
                "g",
                node("title", f"{name}: {text}"),
                rule(low, y + 27, high, y + 27, "reach"),
                rule(low, y + 23, low, y + 31, "reach"),
                rule(high, y + 23, high, y + 31, "reach"),
                marker(1 if primary else 0, mean, y + 27, 5.0),
                class_="primary" if primary else "other",
            ),
        ]
    elements += [
        label(float(x(v)), bottom + 14, plain(v), class_="middle") for v in ticks(*x_range)
    ]
    return picture(WIDE, bottom + 20, title, *elements, class_="forest")


def _cell(x, y, width, height, value, opacity, worst: bool) -> Markup:
    if not np.isfinite(value):
        return label(x + width / 2, y + 15, "–", class_="middle")
    size = {"width": width - 2, "height": height - 2}
    box = node("rect", x=x + 1, y=y + 1, rx=3, fill_opacity=float(opacity(value)), **size)
    frame = (
        node("rect", x=x + 1.75, y=y + 1.75, rx=3, class_="worst", **_shrunk(size))
        if worst
        else None
    )
    text = label(
        x + width / 2, y + 15, _cell_number(value), class_="middle bold" if worst else "middle"
    )
    return node("g", box, frame, text)


def _cell_number(value: float) -> str:
    """Formats a score for a cell, without a zero before the decimal point."""
    text = minus(f"{value:.2f}") if abs(value) < 9.95 else short(value)
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def _shrunk(size: dict[str, float]) -> dict[str, float]:
    return {key: value - 1.5 for key, value in size.items()}


def _strip(title: str, scores: Mapping[str, np.ndarray], styles: Mapping[str, ArmStyle]) -> Markup:
    """Strip plot with a row per arm: its seeds, their mean and its interval."""
    intervals = {
        arm: [float(value) for value in means_and_half_widths(seeds)]
        for arm, seeds in scores.items()
    }
    ends = [[mean - half_width, mean + half_width] for mean, half_width in intervals.values()]
    x, elements, size = row_layout(title, list(scores), extent([*scores.values(), ends]))
    for row, (arm, seeds) in enumerate(scores.items()):
        y = TOP + STEP * (row + 0.5)
        spread = y + ((np.arange(len(seeds)) * 0.618034) % 1 - 0.5) * 0.55 * STEP
        mean, half_width = intervals[arm]
        description = f"{arm}: {mean:.3f} ±{half_width:.3f}, {len(seeds)} seeds"
        interval = [rule(float(x(mean - half_width)), y, float(x(mean + half_width)), y, "reach")]
        interval.append(marker(styles[arm].kind, float(x(mean)), y, 4.2))
        group = node(
            "g", node("title", description), dots(x(seeds), spread), *interval, **styles[arm].style
        )
        elements.append(group)
    return picture(NARROW, size, f"{title}: every seed by arm", *elements, class_="strip")


def _baseline_fit(baselines: Sequence[ArmScores], x, y, x_range, y_range) -> list[Markup]:
    """Prediction of `robustness.effective_robustness` as a line, as far as it is in the figure."""
    home = np.linspace(*x_range, 200)
    zero_scores = ArmScores(home, np.zeros((len(home), 1)), ())
    predicted = -robustness.effective_robustness(zero_scores, baselines)
    inside = (predicted >= y_range[0]) & (predicted <= y_range[1])
    if inside.sum() < 2:
        return []
    first, last = np.flatnonzero(inside)[[0, -1]]
    ends = [float(v) for i in (first, last) for v in (x(home[i]), y(predicted[i]))]
    return [rule(*ends, "predicted")]


def row_layout(title: str, names: Sequence[str], x_range: tuple[float, float]):
    """Axes of a figure with a row per name -> (x scale, elements, height)."""
    left, bottom = label_width(names), TOP + STEP * len(names)
    x = scale(*x_range, left + 6, NARROW - 8)
    elements = [label(0, 14, title, class_="title")]
    for value in ticks(*x_range):
        position = float(x(value))
        elements += [
            rule(position, TOP, position, bottom),
            label(position, bottom + 14, plain(value), class_="middle"),
        ]
    for row, name in enumerate(names):
        y = TOP + STEP * (row + 0.5) + 4
        elements.append(label(left - 4, y, clipped(name, MAX_LETTERS), class_="end name"))
    return x, elements, bottom + 20


def label_width(names: Iterable[str]) -> float:
    """Width of the column of names left of a figure."""
    letters = min(max(map(len, names), default=0), MAX_LETTERS)
    return max(LETTER_WIDTH * letters + 10, 60.0)
