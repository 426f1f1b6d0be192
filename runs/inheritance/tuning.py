"""Choose the free numbers of carriers: the same number of trials for each, on development worlds.

The first trial is the middle of all intervals, the others are those of a Sobol sequence. A trial is
scored by the mean area under the learning curves of the same newborns. Trials are halved as in
Jamieson & Talwalkar (2016), with thirds: after a quarter and after half of the newborns only the
best third goes on.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from runs.scale.grid import Axes, Range, make_points

T = TypeVar("T")
Numbers = Mapping[str, float]
ENDS = (0.25, 0.5, 1.0)  # of the stages of a choice, as shares of the newborns
KEPT = 3  # one in so many trials goes on to the next stage


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


def stages(trials: int, newborns: Sequence[T]) -> list[tuple[int, Sequence[T]]]:
    """(Number of trials, their newborns) of each stage of a choice; one stage for one trial."""
    if trials == 1:
        return [(1, newborns)]
    stops = [0, *(round(share * len(newborns)) for share in ENDS)]
    parts = [newborns[first:last] for first, last in pairwise(stops) if first < last]
    return [(-(-trials // KEPT**i), part) for i, part in enumerate(parts)]


def best_trials(areas: np.ndarray, count: int) -> np.ndarray:
    """Indices [count], in order, of the trials with the highest mean of areas [N, newborns]."""
    return np.sort(np.argsort(-np.nan_to_num(areas).mean(1), kind="stable")[:count])


def choose(points: Sequence[Numbers], areas: np.ndarray, knobs: Axes, tried: int) -> Choice:
    """The trial of the highest mean area.

    Args:
        points: numbers of each trial of the last stage, [N].
        areas: [N, newborns]; NaN, of a newborn whose numbers were not finite, counts as 0.
        knobs: the intervals by name.
        tried: number of trials of the first stage.
    """
    means = np.nan_to_num(areas).mean(1)
    best = int(means.argmax())
    numbers = dict(points[best])
    at_edge = [k for k, axis in knobs.items() if k in numbers and _at_edge(axis, numbers[k])]
    return Choice(numbers, float(means[best]), tried, tuple(at_edge))


def _middle(axis: Range | Sequence[float]) -> float:
    """Middle of an interval, or of a list of values."""
    return float(axis.at(0.5) if isinstance(axis, Range) else axis[len(axis) // 2])


def _at_edge(axis: Range | Sequence[float], value: float) -> bool:
    """Whether a value lies in the outer twentieth of an interval."""
    if not isinstance(axis, Range):
        return False
    low, high = sorted((axis.at(0.05), axis.at(0.95)))
    return not low <= value <= high
