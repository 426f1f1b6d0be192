"""Choose the free numbers of carriers: the same number of trials for each, on development worlds.

The first trial is the middle of all intervals, the others are those of a Sobol sequence. A trial is
scored by the mean area under the learning curves of the same newborns.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runs.scale.grid import Axes, Range, make_points

Numbers = Mapping[str, float]


class Choice(NamedTuple):
    """The numbers that were chosen for a carrier in a body.

    Attributes:
        numbers: name -> value.
        score: mean area under the learning curves of their trial.
        tried: number of trials.
        at_edge: names whose value is in the outer twentieth of its interval: there the interval
            may be too narrow.
    """

    numbers: dict[str, float]
    score: float
    tried: int
    at_edge: tuple[str, ...]


def trials(knobs: Axes, count: int, fixed: Numbers | None = None) -> list[dict[str, float]]:
    """Numbers of each trial; a single one if there is nothing to tune.

    Args:
        knobs: the intervals, or values, by name.
        count: number of trials.
        fixed: numbers that are not tuned; a knob that is named here keeps its value.
    """
    fixed = dict(fixed or {})
    free = {name: axis for name, axis in knobs.items() if name not in fixed}
    if not free:
        return [fixed]
    middle = {name: _middle(axis) for name, axis in free.items()}
    drawn = make_points(free, count)[: count - 1]
    return [fixed | {k: float(v) for k, v in point.items()} for point in (middle, *drawn)]


def choose(points: Sequence[Numbers], areas: np.ndarray, knobs: Axes) -> Choice:
    """The trial of the highest mean area.

    Args:
        points: numbers of each trial, [N].
        areas: [N, newborns]; NaN, of a newborn whose numbers were not finite, counts as 0.
        knobs: the intervals by name.
    """
    means = np.nan_to_num(areas).mean(1)
    best = int(means.argmax())
    numbers = dict(points[best])
    at_edge = [k for k, axis in knobs.items() if k in numbers and _at_edge(axis, numbers[k])]
    return Choice(numbers, float(means[best]), len(points), tuple(at_edge))


def _middle(axis: Range | Sequence[float]) -> float:
    """Middle of an interval, or of a list of values."""
    return float(axis.at(0.5) if isinstance(axis, Range) else axis[len(axis) // 2])


def _at_edge(axis: Range | Sequence[float], value: float) -> bool:
    """Whether a value lies in the outer twentieth of an interval."""
    if not isinstance(axis, Range):
        return False
    low, high = sorted((axis.at(0.05), axis.at(0.95)))
    return not low <= value <= high
