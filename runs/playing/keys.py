"""Actions of pressed keys: arrows where their meaning is clear, digits everywhere."""

import math
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from runs.errors import UserError

ARROWS = ("up", "down", "left", "right")
AXES = (("left", "right"), ("down", "up"))  # of the first component or choice, and of the second
TOKEN = re.compile(r"([a-z0-9]+(?:\+[a-z0-9]+)*)(?:\*([1-9]\d{0,4}))?")
MOST = 1_000  # actions that are looked at, to name those allowed


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


def arrows_of(spec: Any) -> tuple[str, ...]:
    """Arrows with a meaning in a world of shapes `spec` (`affect.Spec`), as `action_of` reads."""
    if spec.choices == (9,):
        return ARROWS
    sizes = spec.choices or (3,) * spec.action_dim
    return tuple(
        key for size, axis in zip(sizes, AXES, strict=False) if size in (2, 3) for key in axis
    )


def has_meaning(key: str, spec: Any) -> bool:
    """Whether a key is an action, or part of one, in a world of shapes `spec`."""
    if key.isdigit() and spec.choices:
        return int(key) < math.prod(spec.choices)
    return key in arrows_of(spec)


def keys_text(spec: Any) -> str:
    """The keys of a world of shapes `spec` in words."""
    digits = [f"0 to {math.prod(spec.choices) - 1}"] if spec.choices else []
    return " or ".join(filter(None, [", ".join(arrows_of(spec)), *digits]))


def waits(spec: Any) -> bool:
    """Whether a world waits for keys: it has a mask, or no action that stands for none."""
    idle = spec.action_dim or spec.choices == (9,) or set(spec.choices) == {3}
    return spec.masked or not idle


def action_of(pressed: Iterable[str], spec: Any) -> int | list[float]:
    """Action of the pressed keys in a world of shapes `spec` (`affect.Spec`).

    A digit is the action of that number; of several choices at once, the last one counts fastest.
    Arrows: with 9 actions a pedal (up, down) and a wheel. Else the first choice, or continuous
    component, is left or right, and the second down or up: of 3 actions the least, the middle, the
    last, of 2 the last or not. Otherwise action 0, or the middle.
    """
    pressed = set(pressed)
    up, right = (
        (more in pressed) - (less in pressed) for more, less in (("up", "down"), ("right", "left"))
    )
    if spec.action_dim:
        return [float(x) for x in (right, up)[: spec.action_dim]] + [0.0] * (spec.action_dim - 2)
    if numbers := sorted(int(key) for key in pressed if key.isdigit() and has_meaning(key, spec)):
        chosen = [int(i) for i in np.unravel_index(numbers[0], spec.choices)]
    elif spec.choices == (9,):
        chosen = [3 * (1 + up) + 1 + right]
    else:
        sides = zip_longest(spec.choices, (right, up)[: len(spec.choices)], fillvalue=0)
        chosen = [{3: 1 + side, 2: int(side > 0)}.get(size, 0) for size, side in sides]
    return chosen[0] if spec.num_actions else chosen


def allowed_numbers(spec: Any, mask: np.ndarray) -> list[int]:
    """Numbers of the actions, of the first MOST, that a mask [n] allows."""
    numbers = np.arange(min(math.prod(spec.choices), MOST))
    starts = np.cumsum([0, *spec.choices[:-1]])
    parts = np.stack(np.unravel_index(numbers, spec.choices))
    return numbers[mask[starts[:, None] + parts].all(0)].tolist()
