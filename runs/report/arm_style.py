"""Style of each arm in all figures: colour by head, dashes and marker by kind of control."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from runs.names import CONSTANT_POTENTIAL

STYLE_SHEET = Path(__file__).with_name("html.css").read_text()
COLOURS = dict(re.findall(r"--(\w+): (#\w{6})", STYLE_SHEET.partition("@media")[0]))
"""Name of a colour -> its value on a light page; written in html.css, and only there."""
BASELINES = ("none", "random", "constant_plus", "constant_minus", "lesion")


class Kind(NamedTuple):
    """Kind of arm, which its name's suffix marks, and how matplotlib draws it."""

    suffix: str  # end of the name of a control of a head
    label: str  # in the legend
    dashes: str | tuple
    width: float  # of a line, in points
    band: float  # opacity of the band of intervals
    marker: str
    hollow: bool = False  # whether the marker is not filled


KINDS = (
    Kind("", "head", "-", 1.9, 0.13, "o"),
    Kind("_constant", "with constant", (0, (4, 2)), 1.5, 0.0, "D"),
    Kind("_sham", "sham", (0, (0.8, 2.3)), 1.3, 0.0, "o", True),
    Kind("_untrained", "untrained", (0, (4.5, 2.3, 0.9, 2.3)), 1.1, 0.0, "^"),
)
BASELINE = Kind("", "baseline", "-", 1.2, 0.07, "s")


class ArmStyle(NamedTuple):
    """Colour and kind of one arm in the figures."""

    head: str  # name of the arm that it is a control of; its own name if it is none
    colour: str  # on a light page, such as "#c2410c"; controls have that of their head
    kind: Kind  # dashes and marker
    classes: str  # by which the legend's boxes hide it: "arm", one of its head, one of its kind


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Style of each arm by name."""
    kinds = {arm: _kind(arm, arms) for arm in arms}
    head_of = {arm: arm.removesuffix(kind.suffix) for arm, kind in kinds.items()}
    heads = list(dict.fromkeys(head_of.values()))
    colours = {}
    for letter in "bh":
        palette = [value for name, value in COLOURS.items() if re.fullmatch(rf"{letter}\d", name)]
        group = [head for head in heads if (kinds[head] is BASELINE) == (letter == "b")]
        colours |= {head: palette[i % len(palette)] for i, head in enumerate(group)}
    styles = {}
    for arm, kind in kinds.items():
        head, number = head_of[arm], (*KINDS, BASELINE).index(kind)
        classes = f"arm f{heads.index(head)} k{number}"
        styles[arm] = ArmStyle(head, colours[head], kind, classes)
    return styles


def _kind(arm: str, arms: Sequence[str]) -> Kind:
    """Kind of an arm; a control whose head is not among the arms is drawn as a head."""
    for kind in KINDS[1:]:
        if arm.endswith(kind.suffix) and arm.removesuffix(kind.suffix) in arms:
            return kind
    return BASELINE if arm in BASELINES or arm.startswith(CONSTANT_POTENTIAL) else KINDS[0]
