"""Markup that cannot be broken into: elements, scales and marks as pure functions.

Whatever is not `Markup` is text and is escaped, so that a head may be named `<script>`.
"""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

VOID = {"br", "col", "hr", "image", "img", "input", "line", "link", "meta", "path", "rect"}
"""Elements that hold nothing; those of SVG among them are closed by themselves."""
HTML_VOID = VOID - {"image", "line", "path", "rect"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def node(name: str, /, *inside: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: of the element, ours and never a config's.
        inside: `Markup` as it is, everything else as escaped text; None is nothing.
        attributes: escaped; `class_` is class, other underscores are hyphens, numbers are rounded
            to hundredths, None and False are left out, True stands by itself.
    """
    said = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID and not inside:
        return Markup(f"<{name}{said}>" if name in HTML_VOID else f"<{name}{said}/>")
    return Markup(f"<{name}{said}>{join(inside)}</{name}>")


def join(parts: Iterable[Any]) -> Markup:
    """Parts one after the other, escaped where they are not `Markup`."""
    return Markup("".join(map(_text, parts)))


def picture(width: float, height: float, title: str, *inside: Any, **attributes: Any) -> Markup:
    """An SVG that scales with its box, read aloud as its title."""
    box = f"0 0 {number(width)} {number(height)}"
    return node("svg", node("title", title), *inside, viewBox=box, role="img", **attributes)


def number(value: float) -> str:
    """A coordinate, to hundredths and no longer than needed."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if "." in f"{value:.2f}" else f"{value:.2f}"


def short(value: float) -> str:
    """A value for an axis or a cell: as many digits as are worth their room."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return minus(f"{value:.{digits}f}")


def plain(value: float) -> str:
    """A tick: no digit that does not tell it from its neighbours."""
    return minus(f"{value:,.6g}")


def minus(said: str) -> str:
    """A number whose minus is one, and which is not minus zero."""
    return said.replace("-", "−") if said.strip("-0.") else said.replace("-", "")


def clipped(name: str, letters: int) -> str:
    """A name that may be of any length, cut in its midst to the letters that there is room for."""
    tail = letters // 2
    return name if len(name) <= letters else f"{name[: letters - 1 - tail]}…{name[-tail:]}"


# --- scales ---------------------------------------------------------------------------------------


def scale(low: float, high: float, start: float, stop: float) -> Callable[[Any], Any]:
    """The line that takes low to start and high to stop."""
    slope = (stop - start) / ((high - low) or 1.0)
    return lambda value: start + (np.asarray(value, float) - low) * slope


def extent(values: Iterable[np.ndarray], share: bool = False) -> tuple[float, float]:
    """The range of some arrays, a little widened; shares stay in [0, 1]."""
    known = [np.asarray(one, float).ravel() for one in values]
    found = np.concatenate(known) if known else np.zeros(0)
    found = found[np.isfinite(found)]
    if not found.size:
        return 0.0, 1.0
    low, high = float(found.min()), float(found.max())
    room = 0.06 * (high - low) or 0.05 * max(abs(high), 0.1)
    if share:
        return max(low - room, 0.0), min(high + room, 1.0)
    return low - room, high + room


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers between low and high."""
    rough = (high - low) / max(count, 1)
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough * 0.85)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


# --- marks ----------------------------------------------------------------------------------------


def points(x: Sequence[float], y: Sequence[float]) -> str:
    """What a path goes through, broken where a point is not a number."""
    said, pen = [], "M"
    for across, down in zip(x, y, strict=True):
        if math.isfinite(across) and math.isfinite(down):
            said.append(f"{pen}{number(across)} {number(down)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(said)


def curve(x: Sequence[float], y: Sequence[float], **attributes: Any) -> Markup:
    """A line through points."""
    return node("path", d=points(x, y), **attributes)


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Markup:
    """The area between two lines."""
    around = points([*x, *reversed(list(x))], [*high, *reversed(list(low))])
    return node("path", d=f"{around}Z" if around else "", class_="band")


def dots(x: Sequence[float], y: Sequence[float], **attributes: Any) -> Markup:
    """Round dots as one path: each is a line without length and with round ends."""
    known = [
        f"M{number(across)} {number(down)}h0"
        for across, down in zip(x, y, strict=True)
        if math.isfinite(across) and math.isfinite(down)
    ]
    return node("path", d="".join(known), **({"class_": "dots"} | attributes))


def label(x: float, y: float, *said: Any, **attributes: Any) -> Markup:
    """Words in a picture."""
    return node("text", *said, x=float(x), y=float(y), **attributes)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str = "grid") -> Markup:
    """A straight line."""
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return node("line", **{key: float(value) for key, value in ends.items()}, class_=class_)


def marker(kind: int, x: float, y: float, size: float = 4.5, **attributes: Any) -> Markup:
    """A mark by the kind of arm: disc, diamond, ring, triangle, square."""
    r, open_ = size, kind == 2
    shapes = {
        1: [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        3: [(0, -1.2), (1.1, 0.85), (-1.1, 0.85)],
        4: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    }
    kinds = {"class_": "mark open" if open_ else "mark"} | attributes
    if kind in shapes:
        around = [(x + r * across, y + r * down) for across, down in shapes[kind]]
        return node("path", d=points(*zip(*around, strict=True)) + "Z", **kinds)
    ring = f"M{number(x - r)} {number(y)}a{number(r)} {number(r)} 0 1 0 {number(2 * r)} 0"
    return node("path", d=f"{ring}a{number(r)} {number(r)} 0 1 0 {number(-2 * r)} 0Z", **kinds)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    key = key if key in ("viewBox", "preserveAspectRatio") else key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {key}"
    said = number(value) if isinstance(value, float | np.floating) else str(value)
    return f' {key}="{html.escape(said, quote=True)}"'


def _text(part: Any) -> str:
    if part is None:
        return ""
    return part if isinstance(part, Markup) else html.escape(str(part))
