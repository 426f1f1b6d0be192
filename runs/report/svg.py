"""SVG of matplotlib figures inside an HTML page, whose style sheet sets colours and hides arms."""

import io
import math
import re
from collections.abc import Mapping
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from runs.report.arm_style import COLOURS

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG[1:-1])
INK, QUIET = COLOURS["ink"], COLOURS["quiet"]
VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 1,
    "lines.solid_capstyle": "round",
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **{f"{axis}tick.color": QUIET for axis in "xy"},
    **{f"{axis}tick.major.size": 0 for axis in "xy"},
    **{f"{axis}tick.major.pad": 5 for axis in "xy"},
}
"""Settings of matplotlib for the figures of the page; letters of 11 units."""


def svg_text(
    figure: Figure, title: str, tips: Mapping[str, str] | None = None, **attributes: str
) -> Markup:
    """SVG element of a figure that scales with its box.

    Colours of html.css become its variables, so that they follow the light or dark page.

    Args:
        figure: of matplotlib, drawn with `STYLE`.
        title: accessible title; unique in the page, as ids depend on it.
        tips: tooltip of all artists whose `gid` is the key, which become one group. A `gid` becomes
            the class of its artist.
        attributes: of the element; `class_` is class.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": f"ids of {title}"}):
        figure.savefig(file, format="svg", metadata=nothing, transparent=True)
    root = ElementTree.fromstring(file.getvalue().encode("utf-8", "replace"))
    root.remove(root.find(f"{SVG}defs"))  # a style that would hold for the whole page
    _group(root, tips or {})
    for element in root.iter():
        _clean(element)
    box = {"viewBox": root.get("viewBox"), "role": "img"}
    root.attrib.clear()
    root.attrib |= box | {key.rstrip("_"): value for key, value in attributes.items()}
    root.insert(0, _title(title))
    return Markup(ElementTree.tostring(root, "unicode"))


def _group(root: ElementTree.Element, tips: Mapping[str, str]) -> None:
    """Join the artists of one `gid` and give them a tooltip."""
    for parent in list(root.iter()):
        groups: dict[str, ElementTree.Element] = {}
        for child in list(parent):
            gid = child.get("id", "")
            if gid in groups:
                groups[gid].extend(child)
                parent.remove(child)
            elif gid in tips:
                groups[gid] = child
                child.insert(0, _title(tips[gid]))


def _clean(element: ElementTree.Element) -> None:
    """Name colours by the variables of html.css, round numbers, and make a class of a `gid`."""
    name = element.get("id", "")
    if name and not re.fullmatch(r"[mp][0-9a-f]{10}", name):  # these are referred to
        del element.attrib["id"]
        if not re.fullmatch(r"[\w.]+_\d+", name):  # these are matplotlib's own names
            element.set("class", name)
    if LINK in element.attrib:
        element.set("href", element.attrib.pop(LINK))
    for key in {"d", "x", "y", "transform", "style"} & element.attrib.keys():
        text = re.sub(r"(\.\d\d)\d+", r"\1", element.get(key).replace("\n", ""))
        text = re.sub(r" ?font-family: [^;]*;?", "", text)
        text = re.sub(r"#\w{6}", lambda match: VARIABLES.get(match[0], match[0]), text)
        element.set(key, text)
    element.text, element.tail = (element.text or "").strip(), None


def _title(text: str) -> ElementTree.Element:
    element = ElementTree.Element(f"{SVG}title")
    element.text = text
    return element


# --- texts ----------------------------------------------------------------------------------------


def short(value: float, digits: int = 2) -> str:
    """Formats a value with `digits` decimals, fewer from 10 on; "–" if it is not finite."""
    if not math.isfinite(value):
        return "–"
    digits -= 0 if abs(value) < 9.95 else 1 if abs(value) < 99.95 else 2
    return f"{value:z.{digits}f}".replace("-", "−")


def clipped(name: str, letters: int) -> str:
    """Shortens a name to at most `letters` characters by an ellipsis in the middle."""
    tail = letters // 2
    return name if len(name) <= letters else f"{name[: letters - 1 - tail]}…{name[-tail:]}"
