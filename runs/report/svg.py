"""HTML and SVG elements with escaping, scales, and marks of figures, as pure functions.

Everything that is not `Markup` is escaped as text, so that a head may be named `<script>`.
"""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

VOID = {"br", "col", "hr", "image", "img", "input", "line", "link", "meta", "path", "rect"}
"""Elements without content; those of SVG are self-closing."""
HTML_VOID = VOID - {"image", "line", "path", "rect"}


class Markup(str):
    """String of markup, which is not escaped again."""

    __slots__ = ()


def node(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Element of HTML or SVG.

    Args:
        name: tag, a constant of the code: it is not escaped.
        children: `Markup` unchanged, everything else as escaped text; None is skipped.
        attributes: escaped; `class_` is class, other underscores become hyphens, floats are
            rounded to hundredths, None and False are left out, True has no value.
    """
    text = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID and not children:
        return Markup(f"<{name}{text}>" if name in HTML_VOID else f"<{name}{text}/>")
    return Markup(f"<{name}{text}>{join(children)}</{name}>")


def join(parts: Iterable[Any]) -> Markup:
    """Concatenates parts, escaping those that are not `Markup`."""
    return Markup("".join(map(_text, parts)))


def picture(width: float, height: float, title: str, *children: Any, **attributes: Any) -> Markup:
    """SVG picture that scales with its box and has an accessible title."""
    box = f"0 0 {number(width)} {number(height)}"
    return node("svg", node("title", title), *children, viewBox=box, role="img", **attributes)


def number(value: float) -> str:
    """Formats a coordinate to hundredths without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if "." in f"{value:.2f}" else f"{value:.2f}"


def short(value: float) -> str:
    """Formats a value for a cell with 2, 1 or 0 decimals by its size; "–" if it is not finite."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return minus(f"{value:.{digits}f}")


def plain(value: float) -> str:
    """Formats a tick label with up to six significant digits and no trailing zeros."""
    return minus(f"{value:,.6g}")


def minus(text: str) -> str:
    """Formats a number with a typographic minus sign, and without one if it is zero."""
    return text.replace("-", "−") if text.strip("-0.") else text.replace("-", "")


def clipped(name: str, letters: int) -> str:
    """Shortens a name to at most `letters` characters by an ellipsis in the middle."""
    tail = letters // 2
    return name if len(name) <= letters else f"{name[: letters - 1 - tail]}…{name[-tail:]}"


# --- scales ---------------------------------------------------------------------------------------


def scale(low: float, high: float, start: float, stop: float) -> Callable[[Any], Any]:
    """Linear map from [low, high] to [start, stop]."""
    slope = (stop - start) / ((high - low) or 1.0)
    return lambda value: start + (np.asarray(value, float) - low) * slope


def extent(values: Iterable[np.ndarray], share: bool = False) -> tuple[float, float]:
    """Range of the finite values of arrays, with a margin; a share stays within [0, 1]."""
    arrays = [np.asarray(array, float).ravel() for array in values]
    flat = np.concatenate(arrays) if arrays else np.zeros(0)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    margin = 0.06 * (high - low) or 0.05 * max(abs(high), 0.1)
    if share:
        return max(low - margin, 0.0), min(high + margin, 1.0)
    return low - margin, high + margin


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers between low and high, for an axis."""
    rough = (high - low) / max(count, 1)
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough * 0.85)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


# --- marks ----------------------------------------------------------------------------------------


def points(x: Sequence[float], y: Sequence[float]) -> str:
    """Data of a path through points, interrupted at points that are not finite."""
    commands, pen = [], "M"
    for px, py in zip(x, y, strict=True):
        if math.isfinite(px) and math.isfinite(py):
            commands.append(f"{pen}{number(px)} {number(py)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(commands)


def curve(x: Sequence[float], y: Sequence[float], **attributes: Any) -> Markup:
    """Path through points (x, y)."""
    return node("path", d=points(x, y), **attributes)


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Markup:
    """Filled area between the lines (x, low) and (x, high)."""
    outline = points([*x, *reversed(list(x))], [*high, *reversed(list(low))])
    return node("path", d=f"{outline}Z" if outline else "", class_="band")


def dots(x: Sequence[float], y: Sequence[float], **attributes: Any) -> Markup:
    """Dots at (x, y) as one path: each is a line of no length with round ends."""
    commands = [
        f"M{number(px)} {number(py)}h0"
        for px, py in zip(x, y, strict=True)
        if math.isfinite(px) and math.isfinite(py)
    ]
    return node("path", d="".join(commands), **({"class_": "dots"} | attributes))


def label(x: float, y: float, *text: Any, **attributes: Any) -> Markup:
    """Text in a picture at (x, y)."""
    return node("text", *text, x=float(x), y=float(y), **attributes)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str = "grid") -> Markup:
    """Straight line from (x1, y1) to (x2, y2)."""
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return node("line", **{key: float(value) for key, value in ends.items()}, class_=class_)


def marker(kind: int, x: float, y: float, size: float = 4.5, **attributes: Any) -> Markup:
    """Marker of a kind of arm: 0 disc, 1 diamond, 2 ring, 3 triangle, 4 square."""
    r, hollow = size, kind == 2
    shapes = {
        1: [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        3: [(0, -1.2), (1.1, 0.85), (-1.1, 0.85)],
        4: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    }
    kinds = {"class_": "mark open" if hollow else "mark"} | attributes
    if kind in shapes:
        corners = [(x + r * dx, y + r * dy) for dx, dy in shapes[kind]]
        return node("path", d=points(*zip(*corners, strict=True)) + "Z", **kinds)
    ring = f"M{number(x - r)} {number(y)}a{number(r)} {number(r)} 0 1 0 {number(2 * r)} 0"
    return node("path", d=f"{ring}a{number(r)} {number(r)} 0 1 0 {number(-2 * r)} 0Z", **kinds)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    key = key if key in ("viewBox", "preserveAspectRatio") else key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {key}"
    text = number(value) if isinstance(value, float | np.floating) else str(value)
    return f' {key}="{html.escape(text, quote=True)}"'


def _text(part: Any) -> str:
    if part is None:
        return ""
    return part if isinstance(part, Markup) else html.escape(str(part))
