"""Figures of the signals: along an episode, by how well they predict, and by size of the head."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.report import score_figures
from runs.report.arm_style import ArmStyle
from runs.report.score_figures import NARROW, STEP, TOP
from runs.report.severity_curves import means_and_half_widths
from runs.report.svg import (
    Markup,
    curve,
    extent,
    marker,
    node,
    picture,
    plain,
    rule,
    scale,
    short,
    ticks,
)

MAX_FRAMES, WIDTH, COLOURS = 10, 320, 40  # frames per episode; pixels; palette size
MEASURES = {
    "auroc": ("danger: AUROC for harm soon", 0.5),
    "return": ("return to go: rank correlation", 0.0),
    "rarity": ("rarity: rank correlation", 0.0),
}
"""Measure of validity -> (title, chance level)."""


class EpisodeFigure(NamedTuple):
    """Episode to show, with the signal of each head.

    Attributes:
        title: heading, such as the arm and where it acted.
        frames: uint8 [T, H, W, 3].
        signals: signal of each head, {name: float [T]}.
        blunder: step of the largest drop, `episode_trace.largest_drop`; None if there is none.
        ended: how the episode ended, in a word or two.
    """

    title: str
    frames: np.ndarray
    signals: dict[str, np.ndarray]
    blunder: int | None
    ended: str


# --- the timeline ---------------------------------------------------------------------------------


def episode_figures(
    episodes: Sequence[EpisodeFigure], styles: Mapping[str, ArmStyle]
) -> list[Markup]:
    """Frames of each episode above its signals; a signal has one scale in all episodes.

    Args:
        episodes: to show.
        styles: styles of the arms; a signal has the colour of the arm of the same name.
    """
    ranges = {}
    for name in dict.fromkeys(name for episode in episodes for name in episode.signals):
        ranges[name] = extent(
            [episode.signals[name] for episode in episodes if name in episode.signals]
        )
    colours = {name: f"--c:var(--{arm_style.colour})" for name, arm_style in styles.items()}
    return [_timeline(episode, ranges, colours) for episode in episodes]


def steps_to_show(length: int, blunder: int | None, count: int = MAX_FRAMES) -> list[int]:
    """Steps to show: the middles of `count` equal spans, but always the blunder and last step."""
    count = min(count, length)
    edges = np.arange(count + 1) * length / count
    steps = [int((a + b) / 2) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    steps[-1] = length - 1
    if blunder is not None and 0 <= blunder < length:
        steps[int(np.searchsorted(edges, blunder, side="right")) - 1] = blunder
    return sorted(set(steps))


def _timeline(episode: EpisodeFigure, ranges: Mapping, colours: Mapping[str, str]) -> Markup:
    length = len(episode.frames)
    steps = steps_to_show(length, episode.blunder)
    rows = [_signal(episode, name, ranges[name], colours.get(name)) for name in episode.signals]
    marks = [
        node("span", plain(step), style=f"left:{_percent(step, length):.3f}%")
        for step in ticks(0, max(length - 1, 1), 6)
    ]
    marks += [node("i", style=f"left:{_percent(step, length):.3f}%") for step in steps]
    blunder = None
    if episode.blunder is not None:
        position = _percent(episode.blunder, length)
        side = "flag left" if position > 50 else "flag"
        blunder = node(
            "span", f"blunder, step {episode.blunder}", class_=side, style=f"left:{position:.3f}%"
        )
    ended = f"{length} steps, ended: {episode.ended}" if episode.ended else f"{length} steps"
    return node(
        "figure",
        node("figcaption", node("b", episode.title), " ", node("span", ended, class_="quiet")),
        node("div", *(_frame(episode, step) for step in steps), class_="film"),
        node("div", node("div", blunder, class_="plot"), class_="signal flags"),
        *rows,
        node("div", node("div", *marks, class_="plot"), class_="signal time"),
        class_="timeline",
    )


def _frame(episode: EpisodeFigure, step: int) -> Markup:
    blunder = step == episode.blunder
    text = f"step {step}" + (", the blunder" if blunder else "")
    image = node("img", src=png_data_url(episode.frames[step]), alt=f"{episode.title}, {text}")
    return node("div", image, node("small", text), class_="shot blunder" if blunder else "shot")


def _signal(episode: EpisodeFigure, name: str, y_range: tuple, style: str | None) -> Markup:
    """Row of a signal: name, range, and a curve without text, so that it can be stretched."""
    values, length = np.asarray(episode.signals[name], float), len(episode.frames)
    x, y = scale(0, max(length - 1, 1), 0, 1000), scale(*y_range, 58, 2)
    steps = x(np.arange(len(values)))
    zero = rule(0, float(y(0)), 1000, float(y(0)), "zero") if y_range[0] < 0 < y_range[1] else None
    blunder = None
    if episode.blunder is not None:
        blunder = rule(float(x(episode.blunder)), 0, float(x(episode.blunder)), 60, "moment")
    elements = [
        zero,
        _area_below(steps, y(values)),
        curve(steps, y(values), class_="line"),
        blunder,
    ]
    finite = values[np.isfinite(values)]
    range_text = (
        f"{short(finite.min())} to {short(finite.max())}" if finite.size else "no finite value"
    )
    title = f"{name} over the steps of {episode.title}"
    plot = picture(1000, 60, title, *elements, preserveAspectRatio="none", style=style)
    heading = node(
        "div", node("b", name), " ", node("span", range_text, class_="quiet"), class_="words"
    )
    return node("div", heading, node("div", plot, class_="plot"), class_="signal")


def _area_below(x: np.ndarray, y: np.ndarray) -> Markup | None:
    """Area under a curve; None unless all values are finite."""
    if not np.isfinite(y).all() or not len(y):
        return None
    return curve([x[0], *x, x[-1]], [60.0, *y, 60.0], class_="under")


def png_data_url(frame: np.ndarray, width: int = WIDTH) -> str:
    """Encodes a frame [H, W, 3] as a small PNG with a reduced palette in a data URL."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame, np.uint8))
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    elif image.width * 2 <= width:
        times = width // image.width
        image = image.resize((image.width * times, image.height * times), Image.NEAREST)
    image = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _percent(step: float, length: int) -> float:
    return 100 * step / max(length - 1, 1)


# --- validity -------------------------------------------------------------------------------------


def validity_figure(rows: Sequence[Mapping]) -> list[Markup]:
    """Validity of each signal in distribution and under shift, a panel per measure in the rows.

    Args:
        rows: each with `signal`, `shift` ("none": in distribution), any of MEASURES, and `seed`
            where there are several.
    """
    panels = []
    for measure, (title, chance) in MEASURES.items():
        measured = [row for row in rows if np.isfinite(row.get(measure, np.nan))]
        if measured:
            panels.append(_validity_rows(title, measured, measure, chance))
    return panels


def _validity_rows(title: str, rows: Sequence[Mapping], measure: str, chance: float) -> Markup:
    """Row per signal: ring in distribution, disc and interval over shifts, tick at worst shift."""
    summaries = {}
    for name in dict.fromkeys(row["signal"] for row in rows):
        signal_rows = [row for row in rows if row["signal"] == name]
        home = [row[measure] for row in signal_rows if row["shift"] == "none"]
        by_seed, by_shift = {}, {}
        for row in (row for row in signal_rows if row["shift"] != "none"):
            by_seed.setdefault(row.get("seed"), []).append(row[measure])
            by_shift.setdefault(row["shift"], []).append(row[measure])
        away = np.array([np.mean(scores) for scores in by_seed.values()])
        worst = min(by_shift, key=lambda shift: np.mean(by_shift[shift]), default=None)
        lowest = np.mean(by_shift[worst]) if worst is not None else np.nan
        summaries[name] = (np.mean(home) if home else np.nan, away, worst, lowest)
    values = [[home, *away, lowest, chance] for home, away, _, lowest in summaries.values()]
    x_range = extent([np.array(scores, float) for scores in values])
    x, elements, size = score_figures.row_layout(title, list(summaries), x_range)
    elements.append(rule(float(x(chance)), TOP, float(x(chance)), size - 20, "zero"))
    for row, (name, (home, away, worst, lowest)) in enumerate(summaries.items()):
        y = TOP + STEP * (row + 0.5)
        mean, half_width = (
            (float(v) for v in means_and_half_widths(away)) if len(away) else (np.nan, 0.0)
        )
        description = (
            f"{name}: {short(home)} in distribution, {short(mean)} ±{short(half_width)} over shifts"
        )
        description += f", worst {short(lowest)} under {worst}" if worst is not None else ""
        bounds = np.clip(
            [mean - half_width, mean + half_width], *x_range
        )  # too wide with few seeds
        marks = _dumbbell(x, y, home, mean, bounds, lowest)
        elements.append(node("g", node("title", description), *marks, class_="knows"))
    return picture(NARROW, size, f"{title}, by signal", *elements, class_="strip")


def _dumbbell(x, y: float, home, mean, bounds, lowest) -> list[Markup]:
    elements = []
    if np.isfinite(home) and np.isfinite(mean):
        elements.append(rule(float(x(home)), y, float(x(mean)), y, "thread"))
    if np.isfinite(lowest):
        elements.append(rule(float(x(lowest)), y - 5, float(x(lowest)), y + 5, "lowest"))
    if np.isfinite(mean):
        elements.append(rule(float(x(bounds[0])), y, float(x(bounds[1])), y, "reach"))
        elements.append(marker(0, float(x(mean)), y, 4.5))
    if np.isfinite(home):
        elements.append(marker(2, float(x(home)), y, 4.5))
    return elements
