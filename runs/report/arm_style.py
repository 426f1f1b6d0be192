"""How an arm looks in every figure: its head's colour, and a dash and a mark for its kind."""

from collections.abc import Sequence
from typing import NamedTuple

from runs.report.svg import Markup, join, marker, node, rule

KINDS = {"": "head", "_constant": "with constant", "_sham": "sham", "_scrambled": "scrambled"}
"""What an arm's name may end in, and what that makes it."""
BASELINES = ("none", "random", "constant_plus", "constant_minus", "lesion")
COLOURS = {"h": 8, "b": 5}  # that page.css has for heads and for baselines
BASELINE = len(KINDS)  # the kind of an arm without a head


class ArmStyle(NamedTuple):
    """An arm's appearance.

    Attributes:
        arm: its name.
        family: the head that it is or controls, by number in the order of the arms.
        kind: index into KINDS, or BASELINE.
        colour: name of the colour in page.css.
    """

    arm: str
    family: int
    kind: int
    colour: str

    @property
    def style(self) -> dict[str, str]:
        """Attributes that colour and dash what is drawn, and let the legend hide it."""
        return {
            "class_": f"arm f{self.family} k{self.kind}",
            "style": f"--c:var(--{self.colour})",
        }


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """The appearance of every arm; controls share their head's colour."""
    families = list(dict.fromkeys(head_of(arm, arms) for arm in arms))
    numbers = {"b": 0, "h": 0}
    colours = {}
    for name in families:
        group = "b" if name in BASELINES else "h"
        colours[name] = f"{group}{numbers[group] % COLOURS[group]}"
        numbers[group] += 1
    found = {}
    for arm in arms:
        mine = head_of(arm, arms)
        kind = BASELINE if mine in BASELINES else list(KINDS).index(arm.removeprefix(mine))
        found[arm] = ArmStyle(arm, families.index(mine), kind, colours[mine])
    return found


def head_of(arm: str, arms: Sequence[str]) -> str:
    """The head that an arm is a control of; the arm itself if it is of none."""
    heads = (arm.removesuffix(end) for end in KINDS if end and arm.endswith(end))
    return next((head for head in heads if head in arms), arm)


def legend_boxes(shown: dict[str, ArmStyle], where: str) -> Markup:
    """Boxes that hide and show families and kinds of arms in the part of the page named `where`.

    No script: the style sheet that comes along asks which boxes are ticked.
    """
    families = {look.family: look for look in reversed(shown.values())}
    kinds = sorted({look.kind for look in shown.values()} - {BASELINE})
    hidden = [_hides(where, f"f{number}") for number in families]
    hidden += [_hides(where, f"k{kind}") for kind in kinds]
    heads = [_family(families[number], where) for number in sorted(families)]
    words = list(KINDS.values())
    controls = [
        _box(where, f"k{kind}", words[kind], _swatch(kind), f"arm k{kind} plain") for kind in kinds
    ]
    return node(
        "div",
        node("style", Markup("".join(hidden))),
        node("div", *heads, class_="keys"),
        node("div", *controls, class_="keys") if len(kinds) > 1 else None,
        class_="legend",
    )


def arm_label(look: ArmStyle) -> Markup:
    """An arm's mark in its colour, and its name."""
    swatch = node("span", _swatch(look.kind), **look.style)
    return node("span", swatch, node("span", look.arm))


def _family(look: ArmStyle, where: str) -> Markup:
    kind = look.kind if look.kind == BASELINE else 0
    name = look.arm
    for end in KINDS:
        name = name.removesuffix(end) if end and look.kind == list(KINDS).index(end) else name
    style = f"--c:var(--{look.colour})"
    return _box(where, f"f{look.family}", name, _swatch(kind), f"arm k{kind}", style)


def _box(where: str, key: str, words: str, swatch: Markup, kind: str, style: str | None = None):
    box = node("input", type="checkbox", checked=True, id=f"{where}-{key}")
    return node("label", box, node("span", swatch, class_=kind, style=style), node("span", words))


def _swatch(kind: int) -> Markup:
    line = [rule(1, 7, 27, 7, "line"), marker(kind, 14, 7, 3.5)]
    return node("svg", join(line), viewBox="0 0 28 14", class_="swatch", aria_hidden="true")


def _hides(where: str, key: str) -> str:
    box = f"#{where}-{key}"
    hidden = f"#{where}:has({box}:not(:checked)) .panel .{key}{{display:none}}"
    return hidden + f"#{where}:has({box}:hover) .panel .arm:not(.{key}){{opacity:.1}}"
