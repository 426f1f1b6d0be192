"""Figures of a comparison as a whole: heat map, seeds as dots, home against away, contrasts."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from runs.analysis import robustness
from runs.analysis.robustness import ArmScores
from runs.analysis.stats import Estimate
from runs.report.arm_style import ArmStyle
from runs.report.severity_curves import draw_axes, means_and_halves
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

WIDE = 420.0  # of most
NARROW = 340.0  # of those with a row for each of many
TOP, STEP = 30.0, 22.0  # of their rows
DARKEST = 0.5  # of a cell's colour: ink stays readable on it
LETTER, LONGEST = 6.1, 21  # the width of one in a name, about, and how many there may be


def heat_map(counted: Mapping[str, ArmScores]) -> Markup:
    """Arms by family of shift, mean over seeds; each arm's worst family is framed."""
    families = list(dict.fromkeys(p.family for cells in counted.values() for p in cells.points))
    means = np.full((len(counted), 1 + len(families)), np.nan)
    for row, cells in enumerate(counted.values()):
        means[row, 0] = cells.home.mean()
        for column, family in enumerate(families):
            mine = [point.family == family for point in cells.points]
            means[row, 1 + column] = cells.away[:, mine].mean() if any(mine) else np.nan
    low, high = np.nanmin(means), np.nanmax(means)
    depth = scale(low, high, 0.02, DARKEST)
    left, wide, tall = label_width(counted), 28.0, 22.0
    names = [clipped(name.replace("|", " + "), 22) for name in ("in distribution", *families)]
    top, drawn = 14 + 0.87 * LETTER * max(map(len, names)), []
    for column, name in enumerate(names):
        x = left + column * wide + wide / 2 + (6 if column else 0)
        turn = f"rotate(-60 {x + 3:.1f} {top - 6:.1f})"
        drawn.append(label(x + 3, top - 6, name, transform=turn, class_="head"))
    for row, arm in enumerate(counted):
        y = top + row * tall
        worst = int(np.nanargmin(means[row, 1:])) + 1 if families else -1
        drawn.append(label(left - 8, y + 15, clipped(arm, LONGEST), class_="end name"))
        for column, value in enumerate(means[row]):
            x = left + column * wide + (6 if column else 0)
            drawn.append(_cell(x, y, wide, tall, value, depth, column == worst))
    width = left + len(names) * wide + max(LETTER * len(names[-1]) / 2, 6)
    title = f"mean score of {len(counted)} arms in each family of shifts, worst cell framed"
    size = top + len(counted) * tall + 4
    fits = f"max-width:{width * 1.4:.0f}px;min-width:{width * 0.8:.0f}px"
    return picture(width, size, title, *drawn, class_="heat", style=fits)


def seed_strips(counted: Mapping[str, ArmScores], shown: Mapping[str, ArmStyle]) -> list[Markup]:
    """Every seed as a dot, by arm, with mean and interval: at home, away, and where it is worst."""
    measures: dict[str, Callable[[ArmScores], np.ndarray]] = {
        "in distribution": lambda cells: cells.home,
        "mean over shifts": robustness.mean,
        "worst quarter of points (CVaR-25)": robustness.cvar,
    }
    found = []
    for title, measure in measures.items():
        scores = {arm: measure(cells) for arm, cells in counted.items()}
        found.append(_strip(title, scores, shown))
    return found


def home_shift_scatter(
    counted: Mapping[str, ArmScores], shown: Mapping[str, ArmStyle], score: str
) -> Markup:
    """Home against away: every seed a dot, every arm a mark, and what home predicts a line."""
    away = {arm: robustness.mean(cells) for arm, cells in counted.items()}
    across = extent([cells.home for cells in counted.values()], score == "success")
    up = extent(away.values(), score == "success")
    edges = left, right, top, bottom = 44.0, 408.0, 12.0, 290.0
    x, y = scale(*across, left, right), scale(*up, bottom, top)
    drawn = draw_axes(x, y, across, up, f"in-distribution {score}", edges)
    turn = f"rotate(-90 11 {(top + bottom) / 2:.0f})"
    words = f"mean {score} over shifts"
    drawn.append(label(11, (top + bottom) / 2, words, class_="middle axis", transform=turn))
    baselines = [counted[arm] for arm in ("none", "random") if arm in counted]
    if baselines:
        drawn += _predicted(baselines, x, y, across, up)
    marks = []
    for arm, cells in counted.items():
        look, middle = shown[arm], (cells.home.mean(), away[arm].mean())
        said = f"{arm}: {short(middle[0])} in distribution, {short(middle[1])} over shifts"
        seeds = dots(x(cells.home), y(away[arm]))
        drawn.append(node("g", node("title", said), seeds, **look.style))
        at = marker(look.kind, float(x(middle[0])), float(y(middle[1])), 5.5)
        marks.append(node("g", node("title", said), at, **look.style))
    title = "score in distribution against mean score over shifts, seeds and arms"
    return picture(WIDE, 322, title, *drawn, *marks, class_="scatter")


def forest_plot(found: Sequence[tuple[str, Estimate, str, bool]], title: str) -> Markup:
    """Differences with their intervals about zero.

    Args:
        found: of each: what it is, the estimate, a word beside it, whether it is the one that
            counts.
        title: read aloud.
    """
    ends = np.array([[one.low, one.high, 0.0] for _, one, _, _ in found])
    across = extent([ends])
    x, top, step = scale(*across, 12, WIDE - 12), 6.0, 40.0
    bottom = top + step * len(found)
    drawn = [rule(float(x(v)), top, float(x(v)), bottom, "grid") for v in ticks(*across)]
    drawn.append(rule(float(x(0)), top, float(x(0)), bottom, "zero"))
    for row, (name, one, word, counts) in enumerate(found):
        y = top + row * step
        said = f"{one:+z.3f}".replace("-", "−")
        said += f"  {word}" if word else ""
        low, middle, high = (float(x(value)) for value in (one.low, one.value, one.high))
        drawn += [
            label(12, y + 14, clipped(name, 38), class_="name halo"),
            label(WIDE - 12, y + 14, said, class_="end value halo"),
            node(
                "g",
                node("title", f"{name}: {said}"),
                rule(low, y + 27, high, y + 27, "reach"),
                rule(low, y + 23, low, y + 31, "reach"),
                rule(high, y + 23, high, y + 31, "reach"),
                marker(1 if counts else 0, middle, y + 27, 5.0),
                class_="primary" if counts else "other",
            ),
        ]
    drawn += [label(float(x(v)), bottom + 14, plain(v), class_="middle") for v in ticks(*across)]
    return picture(WIDE, bottom + 20, title, *drawn, class_="forest")


def _cell(x, y, wide, tall, value, depth, worst: bool) -> Markup:
    if not np.isfinite(value):
        return label(x + wide / 2, y + 15, "–", class_="middle")
    size = {"width": wide - 2, "height": tall - 2}
    box = node("rect", x=x + 1, y=y + 1, rx=3, fill_opacity=float(depth(value)), **size)
    frame = (
        node("rect", x=x + 1.75, y=y + 1.75, rx=3, class_="worst", **_shortened(size))
        if worst
        else None
    )
    words = label(
        x + wide / 2, y + 15, _cell_number(value), class_="middle bold" if worst else "middle"
    )
    return node("g", box, frame, words)


def _cell_number(value: float) -> str:
    """In the room of a cell: no zero before the point."""
    said = minus(f"{value:.2f}") if abs(value) < 9.95 else short(value)
    return said.replace("0.", ".", 1) if said.lstrip("−").startswith("0.") else said


def _shortened(size: dict[str, float]) -> dict[str, float]:
    return {key: value - 1.5 for key, value in size.items()}


def _strip(title: str, scores: Mapping[str, np.ndarray], shown: Mapping[str, ArmStyle]) -> Markup:
    """A row an arm: its seeds, their mean and its interval, all within the picture."""
    known = {
        arm: [float(value) for value in means_and_halves(seeds)] for arm, seeds in scores.items()
    }
    reach = [[middle - half, middle + half] for middle, half in known.values()]
    x, drawn, size = row_layout(title, list(scores), extent([*scores.values(), reach]))
    for row, (arm, seeds) in enumerate(scores.items()):
        y = TOP + STEP * (row + 0.5)
        spread = y + ((np.arange(len(seeds)) * 0.618034) % 1 - 0.5) * 0.55 * STEP
        middle, half = known[arm]
        said = f"{arm}: {middle:.3f} ±{half:.3f}, {len(seeds)} seeds"
        mean = [rule(float(x(middle - half)), y, float(x(middle + half)), y, "reach")]
        mean.append(marker(shown[arm].kind, float(x(middle)), y, 4.2))
        group = node("g", node("title", said), dots(x(seeds), spread), *mean, **shown[arm].style)
        drawn.append(group)
    return picture(NARROW, size, f"{title}: every seed by arm", *drawn, class_="strip")


def _predicted(baselines: Sequence[ArmScores], x, y, across, up) -> list[Markup]:
    """The line that `robustness.effective` measures from, as far as it is in the picture."""
    home = np.linspace(*across, 200)
    nothing = ArmScores(home, np.zeros((len(home), 1)), ())
    away = -robustness.effective_robustness(nothing, baselines)
    inside = (away >= up[0]) & (away <= up[1])
    if inside.sum() < 2:
        return []
    first, last = np.flatnonzero(inside)[[0, -1]]
    ends = [float(v) for i in (first, last) for v in (x(home[i]), y(away[i]))]
    return [rule(*ends, "predicted")]


def row_layout(title: str, names: Sequence[str], across: tuple[float, float]):
    """What a picture with a row for each name begins with -> (scale, marks, height)."""
    left, bottom = label_width(names), TOP + STEP * len(names)
    x = scale(*across, left + 6, NARROW - 8)
    drawn = [label(0, 14, title, class_="title")]
    for value in ticks(*across):
        at = float(x(value))
        drawn += [rule(at, TOP, at, bottom), label(at, bottom + 14, plain(value), class_="middle")]
    for row, name in enumerate(names):
        y = TOP + STEP * (row + 0.5) + 4
        drawn.append(label(left - 4, y, clipped(name, LONGEST), class_="end name"))
    return x, drawn, bottom + 20


def label_width(names: Iterable[str]) -> float:
    """For the names of arms, left of a figure."""
    letters = min(max(map(len, names), default=0), LONGEST)
    return max(LETTER * letters + 10, 60.0)
