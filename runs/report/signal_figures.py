"""What was felt: an episode with every head's signal below, and how true the signals are."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.report import score_figures
from runs.report.arm_style import ArmStyle
from runs.report.score_figures import NARROW, STEP, TOP
from runs.report.severity_curves import draw_axes, means_and_halves
from runs.report.svg import (
    Markup,
    curve,
    dots,
    extent,
    label,
    marker,
    node,
    picture,
    plain,
    rule,
    scale,
    short,
    ticks,
)

PICTURES, WIDTH, COLOURS = 10, 320, 40  # of an episode; of a picture in pixels; in its palette
QUESTIONS = {
    "auroc": ("danger: AUROC for harm soon", 0.5),
    "return": ("return to go: rank correlation", 0.0),
    "rarity": ("rarity: rank correlation", 0.0),
}
"""What a signal may be asked, in words, and what knowing nothing scores."""


class EpisodeFigure(NamedTuple):
    """One episode.

    Attributes:
        title: where it took place.
        frames: uint8 [T, H, W, 3].
        signals: what each head said, {name: float [T]}.
        blunder: the step that was one; None where there was none.
        ended: how, in a word or two.
    """

    title: str
    frames: np.ndarray
    signals: dict[str, np.ndarray]
    blunder: int | None
    ended: str


# --- the timeline ---------------------------------------------------------------------------------


def episode_figures(
    episodes: Sequence[EpisodeFigure], shown: Mapping[str, ArmStyle]
) -> list[Markup]:
    """Each episode as pictures above the signals; a signal has one scale in all of them.

    Args:
        episodes: to show.
        shown: how arms look: a signal is drawn in the colour of the arm of its name.
    """
    spans = {}
    for name in dict.fromkeys(name for one in episodes for name in one.signals):
        spans[name] = extent([one.signals[name] for one in episodes if name in one.signals])
    colours = {name: f"--c:var(--{look.colour})" for name, look in shown.items()}
    return [_timeline(one, spans, colours) for one in episodes]


def steps_to_show(length: int, blunder: int | None, count: int = PICTURES) -> list[int]:
    """Steps to show: the middle of each of `count` equal spans, the blunder and the end instead."""
    count = min(count, length)
    edges = np.arange(count + 1) * length / count
    steps = [int((a + b) / 2) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    steps[-1] = length - 1
    if blunder is not None and 0 <= blunder < length:
        steps[int(np.searchsorted(edges, blunder, side="right")) - 1] = blunder
    return sorted(set(steps))


def _timeline(one: EpisodeFigure, spans: Mapping, colours: Mapping[str, str]) -> Markup:
    length = len(one.frames)
    steps = steps_to_show(length, one.blunder)
    rows = [_signal(one, name, spans[name], colours.get(name)) for name in one.signals]
    marks = [
        node("span", plain(step), style=f"left:{_share(step, length):.3f}%")
        for step in ticks(0, max(length - 1, 1), 6)
    ]
    marks += [node("i", style=f"left:{_share(step, length):.3f}%") for step in steps]
    blunder = None
    if one.blunder is not None:
        place = _share(one.blunder, length)
        side = "flag left" if place > 50 else "flag"
        blunder = node(
            "span", f"blunder, step {one.blunder}", class_=side, style=f"left:{place:.3f}%"
        )
    ended = f"{length} steps, ended: {one.ended}" if one.ended else f"{length} steps"
    return node(
        "figure",
        node("figcaption", node("b", one.title), " ", node("span", ended, class_="quiet")),
        node("div", *(_frame(one, step) for step in steps), class_="film"),
        node("div", node("div", blunder, class_="plot"), class_="signal flags"),
        *rows,
        node("div", node("div", *marks, class_="plot"), class_="signal time"),
        class_="timeline",
    )


def _frame(one: EpisodeFigure, step: int) -> Markup:
    blunder = step == one.blunder
    words = f"step {step}" + (", the blunder" if blunder else "")
    shot = node("img", src=png_data_url(one.frames[step]), alt=f"{one.title}, {words}")
    return node("div", shot, node("small", words), class_="shot blunder" if blunder else "shot")


def _signal(one: EpisodeFigure, name: str, span: tuple, style: str | None) -> Markup:
    """A curve as wide as there is room: no word in it, so that it may be stretched."""
    values, length = np.asarray(one.signals[name], float), len(one.frames)
    x, y = scale(0, max(length - 1, 1), 0, 1000), scale(*span, 58, 2)
    steps = x(np.arange(len(values)))
    zero = rule(0, float(y(0)), 1000, float(y(0)), "zero") if span[0] < 0 < span[1] else None
    at = None
    if one.blunder is not None:
        at = rule(float(x(one.blunder)), 0, float(x(one.blunder)), 60, "moment")
    drawn = [zero, _area_below(steps, y(values)), curve(steps, y(values), class_="line"), at]
    known = values[np.isfinite(values)]
    said = f"{short(known.min())} to {short(known.max())}" if known.size else "never a number"
    title = f"{name} over the steps of {one.title}"
    plot = picture(1000, 60, title, *drawn, preserveAspectRatio="none", style=style)
    words = node("div", node("b", name), " ", node("span", said, class_="quiet"), class_="words")
    return node("div", words, node("div", plot, class_="plot"), class_="signal")


def _area_below(x: np.ndarray, y: np.ndarray) -> Markup | None:
    """What lies under a curve, where all of it is known."""
    if not np.isfinite(y).all() or not len(y):
        return None
    return curve([x[0], *x, x[-1]], [60.0, *y, 60.0], class_="under")


def png_data_url(frame: np.ndarray, width: int = WIDTH) -> str:
    """A picture [H, W, 3] as a small PNG in a data address; few colours are enough for worlds."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(frame, np.uint8))
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    elif image.width * 2 <= width:
        times = width // image.width
        image = image.resize((image.width * times, image.height * times), Image.NEAREST)
    image = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    held = io.BytesIO()
    image.save(held, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def _share(step: float, length: int) -> float:
    return 100 * step / max(length - 1, 1)


# --- validity -------------------------------------------------------------------------------------


def validity_figure(rows: Sequence[Mapping]) -> list[Markup]:
    """What each signal knows at home and under shift, a panel a question that was answered.

    Args:
        rows: each with `signal`, `shift` ("none" is home), any of QUESTIONS, and `seed` where
            there are several.
    """
    found = []
    for question, (title, chance) in QUESTIONS.items():
        known = [row for row in rows if np.isfinite(row.get(question, np.nan))]
        if known:
            found.append(_validity_rows(title, known, question, chance))
    return found


def size_figure(rows: Sequence[Mapping]) -> list[Markup]:
    """Retention and validity by size of head, where rows tell of several sizes.

    Args:
        rows: each with `size` in hidden units, and any of `retention` and `auroc`.
    """
    known = sorted({row["size"] for row in rows if row.get("size")})
    if len(known) < 2:
        return []
    titles = {"retention": "share of the score that is left", "auroc": QUESTIONS["auroc"][0]}
    found = []
    for name, title in titles.items():
        values = {
            size: [row[name] for row in rows if row.get("size") == size and name in row]
            for size in known
        }
        values = {size: np.array(each, float) for size, each in values.items()}
        values = {size: each[np.isfinite(each)] for size, each in values.items()}
        values = {size: each for size, each in values.items() if each.size}
        if values:
            found.append(_by_size(title, values))
    return found


def _validity_rows(title: str, rows: Sequence[Mapping], question: str, chance: float) -> Markup:
    """A row a signal: a ring at home, a disc over shifts with its interval, a tick where worst."""
    told = {}
    for name in dict.fromkeys(row["signal"] for row in rows):
        mine = [row for row in rows if row["signal"] == name]
        home = [row[question] for row in mine if row["shift"] == "none"]
        seeds, places = {}, {}
        for row in (row for row in mine if row["shift"] != "none"):
            seeds.setdefault(row.get("seed"), []).append(row[question])
            places.setdefault(row["shift"], []).append(row[question])
        away = np.array([np.mean(each) for each in seeds.values()])
        worst = min(places, key=lambda place: np.mean(places[place]), default=None)
        lowest = np.mean(places[worst]) if worst is not None else np.nan
        told[name] = (np.mean(home) if home else np.nan, away, worst, lowest)
    middles = [[home, *away, lowest, chance] for home, away, _, lowest in told.values()]
    across = extent([np.array(each, float) for each in middles])
    x, drawn, size = score_figures.row_layout(title, list(told), across)
    drawn.append(rule(float(x(chance)), TOP, float(x(chance)), size - 20, "zero"))
    for row, (name, (home, away, worst, lowest)) in enumerate(told.items()):
        y = TOP + STEP * (row + 0.5)
        middle, half = (float(v) for v in means_and_halves(away)) if len(away) else (np.nan, 0.0)
        said = f"{name}: {short(home)} in distribution, {short(middle)} ±{short(half)} over shifts"
        said += f", worst {short(lowest)} under {worst}" if worst is not None else ""
        reach = np.clip([middle - half, middle + half], *across)  # of three seeds it is wider
        marks = _dumbbell(x, y, home, middle, reach, lowest)
        drawn.append(node("g", node("title", said), *marks, class_="knows"))
    return picture(NARROW, size, f"{title}, by signal", *drawn, class_="strip")


def _dumbbell(x, y: float, home, middle, reach, lowest) -> list[Markup]:
    drawn = []
    if np.isfinite(home) and np.isfinite(middle):
        drawn.append(rule(float(x(home)), y, float(x(middle)), y, "thread"))
    if np.isfinite(lowest):
        drawn.append(rule(float(x(lowest)), y - 5, float(x(lowest)), y + 5, "lowest"))
    if np.isfinite(middle):
        drawn.append(rule(float(x(reach[0])), y, float(x(reach[1])), y, "reach"))
        drawn.append(marker(0, float(x(middle)), y, 4.5))
    if np.isfinite(home):
        drawn.append(marker(2, float(x(home)), y, 4.5))
    return drawn


def _by_size(title: str, values: Mapping[int, np.ndarray]) -> Markup:
    edges = left, right, top, bottom = 40.0, NARROW - 8, 34.0, 190.0
    logs = {size: float(np.log2(size)) for size in values}
    across = min(logs.values()) - 0.3, max(logs.values()) + 0.3
    up = extent(values.values())
    x, y = scale(*across, left, right), scale(*up, bottom, top)
    grid = draw_axes(x, y, None, up, "hidden units of the head", edges)
    grid = [label(0, 14, title, class_="title"), *grid]
    for size, at in logs.items():
        grid.append(label(float(x(at)), bottom + 14, str(size), class_="middle"))
    drawn, middles = [], []
    for size, each in values.items():
        at = float(x(logs[size]))
        middle, half = (float(value) for value in means_and_halves(each))
        middles.append((at, float(y(middle))))
        drawn.append(dots([at] * len(each), y(each)))
        drawn.append(rule(at, float(y(middle - half)), at, float(y(middle + half)), "reach"))
        drawn.append(marker(0, *middles[-1], 4.5))
    drawn.append(curve(*zip(*middles, strict=True), class_="line"))
    group = node("g", *drawn, class_="knows")
    return picture(NARROW, 222, f"{title} by size of the head", *grid, group, class_="strip")
