"""What one reads off scores under shift, a number a training run; `stats` then compares runs.

The headline is three numbers: the mean, the worst family, and CVaR-25. The interquartile mean drops
exactly the failures that robustness is about, and saturates where scores are successes: it is here
to be shown second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from envs.suite import Point


class ArmScores(NamedTuple):
    """The scores of an arm.

    Attributes:
        home: [S] in distribution.
        away: [S, P] at each shifted point.
        points: the P of them.
    """

    home: np.ndarray
    away: np.ndarray
    points: tuple[Point, ...]


def arm_scores(rows: Sequence[dict], arm: str, score: str = "score") -> ArmScores:
    """An arm's scores from score rows, seeds and points in the order in which they come.

    Raises:
        ValueError: if a seed lacks a point.
    """
    found: dict[int, dict[Point, float]] = {}
    for row in rows:
        if row["arm"] == arm:
            point = Point(row["shift"], row["family"], row["severity"])
            found.setdefault(row["seed"], {})[point] = row[score]
    points = tuple(dict.fromkeys(point for seed in found.values() for point in seed))
    for seed, scores in found.items():
        missing = [point for point in points if point not in scores]
        if missing:
            raise ValueError(f"seed {seed} of {arm} was not scored at {missing[0]}: score it again")
    table = np.array([[scores[point] for point in points] for scores in found.values()], float)
    shifted = np.array([point.shift != "none" for point in points])
    return ArmScores(
        table[:, ~shifted].mean(1),
        table[:, shifted],
        tuple(point for point in points if point.shift != "none"),
    )


# --- the headline ---------------------------------------------------------------------------------


def mean(x: ArmScores) -> np.ndarray:
    """Over all shifted points, [S]."""
    return x.away.mean(1)


def worst_family(x: ArmScores) -> tuple[str, np.ndarray]:
    """The family with the lowest mean over seeds, and the runs' means over its points, [S].

    A composition counts as a family of its own. The family is chosen by what it is measured by, so
    the number is a little too low where families are close.
    """
    families = dict.fromkeys(point.family for point in x.points)
    each = {
        family: x.away[:, [point.family == family for point in x.points]].mean(1)
        for family in families
    }
    worst = min(each, key=lambda family: each[family].mean())
    return worst, each[worst]


def cvar(x: ArmScores, share: float = 0.25) -> np.ndarray:
    """Conditional value at risk: each run's mean over the `share` of points where it is worst, [S].

    Rockafellar & Uryasev (2000), over the points of one run; at least one point counts.
    """
    count = max(round(share * x.away.shape[1]), 1)
    return np.sort(x.away, 1)[:, :count].mean(1)


# --- the rest -------------------------------------------------------------------------------------


def area_under_severity(x: ArmScores) -> np.ndarray:
    """Under the severity curve, from home at 0 to the highest severity, mean over shifts, [S].

    Trapezoids, divided by the highest severity: 1 is a perfect score throughout.
    """
    areas = []
    for shift in dict.fromkeys(point.shift for point in x.points):
        own = [i for i, point in enumerate(x.points) if point.shift == shift]
        own.sort(key=lambda i: x.points[i].severity)
        severity = np.array([0.0] + [x.points[i].severity for i in own])
        curve = np.column_stack([x.home, x.away[:, own]])
        areas.append(np.trapezoid(curve, severity, axis=1) / severity[-1])
    return np.mean(areas, 0)


def effective_robustness(x: ArmScores, baselines: Sequence[ArmScores]) -> np.ndarray:
    """Effective robustness: how far each run's mean lies above what its home score predicts, [S].

    Taori et al. (2020), section 2: the prediction is a line through the runs of all baselines,
    here by least squares on plain scores; where their home scores are all alike it is their mean.
    """
    home = np.concatenate([one.home for one in baselines])
    away = np.concatenate([mean(one) for one in baselines])
    spread = home - home.mean()
    slope = spread @ away / (spread @ spread) if np.ptp(home) > 1e-9 else 0.0
    return mean(x) - (away.mean() + slope * (x.home - home.mean()))


def iqm(x: ArmScores) -> float:
    """Interquartile mean over all cells of all runs (Agarwal et al., 2021)."""
    from scipy import stats

    return float(stats.trim_mean(x.away.ravel(), 0.25))


def profile(x: ArmScores, levels: np.ndarray) -> np.ndarray:
    """Performance profile: the share of cells that score above each of `levels` [N], [N].

    Dolan & More (2002), as Agarwal et al. (2021) use it.
    """
    return (x.away[:, :, None] > np.asarray(levels)).mean((0, 1))


def catastrophic_failures(x: ArmScores, level: float = 0.5) -> int:
    """How many runs fail catastrophically: they score below `level` of their own home score."""
    return int((mean(x) < level * x.home).sum())
