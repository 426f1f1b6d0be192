"""Actions of pressed keys: arrows where their meaning is clear, digits everywhere."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from runs.errors import UserError

ARROWS = ("up", "down", "left", "right")
TOKEN = re.compile(r"([a-z0-9]+(?:\+[a-z0-9]+)*)(?:\*(\d{1,5}))?")


def scripted(tokens: Iterable[str]) -> Iterator[frozenset[str]]:
    """Keys pressed at each step of a script such as `up*20 up+left*5 none`.

    Raises:
        UserError: for a token of another form, or a key that is none of the arrows, digits, none.
    """
    for token in tokens:
        match = TOKEN.fullmatch(token)
        keys = frozenset(match[1].split("+")) if match else frozenset()
        if not keys or not all(key in (*ARROWS, "none") or key.isdigit() for key in keys):
            raise UserError(f"--keys {token}: write arrows, digits or none, as in up+left*5")
        yield from [keys - {"none"}] * int(match[2] or 1)


def action_of(pressed: Iterable[str], spec: Any) -> int | list[float]:
    """Action of the pressed keys in a world of shapes `spec` (`affect.Spec`).

    A digit is the action of that number. Arrows: with 9 actions a pedal (up, down) and a wheel,
    with 3 left, neither, right, with 2 right or not; the first of continuous ones is left or right,
    and the second down or up. Otherwise action 0, or the middle.
    """
    pressed = set(pressed)
    up, right = (
        (more in pressed) - (less in pressed) for more, less in (("up", "down"), ("right", "left"))
    )
    if spec.action_dim:
        return [float(x) for x in (right, up)[: spec.action_dim]] + [0.0] * (spec.action_dim - 2)
    for key in sorted(pressed):
        if key.isdigit() and int(key) < spec.num_actions:
            return int(key)
    by_count = {9: 3 * (1 + up) + 1 + right, 3: 1 + right, 2: int(right > 0)}
    return by_count.get(spec.num_actions, 0)
