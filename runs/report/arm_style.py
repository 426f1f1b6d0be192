"""Style of each arm in all figures: colour by head, dash and marker by kind of control."""

from collections.abc import Sequence
from typing import NamedTuple

from runs.report.svg import Markup, join, marker, node, rule

KINDS = {"": "head", "_constant": "with constant", "_sham": "sham", "_untrained": "untrained"}
"""Suffix of an arm's name -> the kind of arm that it marks."""
BASELINES = ("none", "random", "constant_plus", "constant_minus", "lesion")
COLOURS = {"h": 8, "b": 5}  # how many html.css has for heads and for baselines
BASELINE = len(KINDS)  # kind index of an arm without a head


class ArmStyle(NamedTuple):
    """Colour and kind of one arm in the figures.

    Attributes:
        arm: name of the arm.
        family: index of the head that it is or controls, in the order of the arms.
        kind: index into KINDS, or BASELINE.
        colour: name of the colour variable in html.css.
    """

    arm: str
    family: int
    kind: int
    colour: str

    @property
    def style(self) -> dict[str, str]:
        """Class and style attributes by which the style sheet colours, dashes and hides an arm."""
        return {
            "class_": f"arm f{self.family} k{self.kind}",
            "style": f"--c:var(--{self.colour})",
        }


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Style of each arm by name; controls share the colour of their head."""
    families = list(dict.fromkeys(head_of(arm, arms) for arm in arms))
    counts = {"b": 0, "h": 0}
    colours = {}
    for head in families:
        group = "b" if head in BASELINES else "h"
        colours[head] = f"{group}{counts[group] % COLOURS[group]}"
        counts[group] += 1
    styles = {}
    for arm in arms:
        head = head_of(arm, arms)
        kind = BASELINE if head in BASELINES else list(KINDS).index(arm.removeprefix(head))
        styles[arm] = ArmStyle(arm, families.index(head), kind, colours[head])
    return styles


def head_of(arm: str, arms: Sequence[str]) -> str:
    """Name of the head that an arm is a control of; the arm itself if it is not a control."""
    heads = (arm.removesuffix(suffix) for suffix in KINDS if suffix and arm.endswith(suffix))
    return next((head for head in heads if head in arms), arm)


def legend_boxes(styles: dict[str, ArmStyle], section: str) -> Markup:
    """Check boxes that hide and show heads and kinds of arms in the section with id `section`.

    Works without a script: the generated style rules depend on which boxes are ticked.
    """
    families = {arm_style.family: arm_style for arm_style in reversed(styles.values())}
    kinds = sorted({arm_style.kind for arm_style in styles.values()} - {BASELINE})
    rules = [_hide_rule(section, f"f{number}") for number in families]
    rules += [_hide_rule(section, f"k{kind}") for kind in kinds]
    heads = [_head_box(families[number], section) for number in sorted(families)]
    labels = list(KINDS.values())
    controls = [
        _check_box(section, f"k{kind}", labels[kind], _swatch(kind), f"arm k{kind} plain")
        for kind in kinds
    ]
    return node(
        "div",
        node("style", Markup("".join(rules))),
        node("div", *heads, class_="keys"),
        node("div", *controls, class_="keys") if len(kinds) > 1 else None,
        class_="legend",
    )


def arm_label(arm_style: ArmStyle) -> Markup:
    """Legend entry of an arm: its marker in its colour, and its name."""
    swatch = node("span", _swatch(arm_style.kind), **arm_style.style)
    return node("span", swatch, node("span", arm_style.arm))


def _head_box(arm_style: ArmStyle, section: str) -> Markup:
    kind = arm_style.kind if arm_style.kind == BASELINE else 0
    name = arm_style.arm
    for suffix in KINDS:
        name = (
            name.removesuffix(suffix)
            if suffix and arm_style.kind == list(KINDS).index(suffix)
            else name
        )
    style = f"--c:var(--{arm_style.colour})"
    return _check_box(section, f"f{arm_style.family}", name, _swatch(kind), f"arm k{kind}", style)


def _check_box(
    section: str, key: str, text: str, swatch: Markup, kind: str, style: str | None = None
):
    box = node("input", type="checkbox", checked=True, id=f"{section}-{key}")
    return node("label", box, node("span", swatch, class_=kind, style=style), node("span", text))


def _swatch(kind: int) -> Markup:
    line = [rule(1, 7, 27, 7, "line"), marker(kind, 14, 7, 3.5)]
    return node("svg", join(line), viewBox="0 0 28 14", class_="swatch", aria_hidden="true")


def _hide_rule(section: str, key: str) -> str:
    box = f"#{section}-{key}"
    rule_text = f"#{section}:has({box}:not(:checked)) .panel .{key}{{display:none}}"
    return rule_text + f"#{section}:has({box}:hover) .panel .arm:not(.{key}){{opacity:.1}}"
