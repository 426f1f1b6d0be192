"""Robustness measures: each makes one number of the scores of a training run under shift.

The main measures are the mean, the worst family, and CVaR-25. The interquartile mean discards the
failures that robustness is about, and saturates where scores are successes, so it is secondary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from runs.analysis.scores import finite_rows

BASELINES = ("none", "random")  # arms whose scores are fitted for effective robustness


class ScoredPoint(NamedTuple):
    """Shift at a severity, equal to `envs.suite.Point`."""

    shift: str
    family: str
    severity: float


class ArmScores(NamedTuple):
    """Scores of an arm.

    Attributes:
        home: [S] in-distribution scores of the seeds.
        away: [S, P] scores at each shifted point.
        points: the P shifted points.
    """

    home: np.ndarray
    away: np.ndarray
    points: tuple[ScoredPoint, ...]


def arm_scores(rows: Sequence[dict], arm: str) -> ArmScores:
    """Scores of an arm from score rows, with seeds and points in the order of the rows.

    Raises:
        ValueError: if a seed lacks a point.
    """
    by_seed: dict[int, dict[ScoredPoint, float]] = {}
    for row in rows:
        if row["arm"] == arm:
            point = ScoredPoint(row["shift"], row["family"], row["severity"])
            by_seed.setdefault(row["seed"], {})[point] = row["score"]
    points = tuple(dict.fromkeys(point for seed in by_seed.values() for point in seed))
    for seed, scores in by_seed.items():
        missing = [point for point in points if point not in scores]
        if missing:
            raise ValueError(f"seed {seed} of {arm} was not scored at {missing[0]}: score it again")
    table = np.array([[scores[point] for point in points] for scores in by_seed.values()], float)
    shifted = np.array([point.shift != "none" for point in points])
    return ArmScores(
        table[:, ~shifted].mean(1),
        table[:, shifted],
        tuple(point for point in points if point.shift != "none"),
    )


def scores_by_arm(
    rows: Sequence[dict], arms: Sequence[str], seeds: int = 1
) -> dict[str, ArmScores]:
    """Scores of the arms that have shifted points and at least so many finite seeds."""
    rows = finite_rows(rows)
    counts = pd.DataFrame(rows, columns=["arm", "seed"]).groupby("arm")["seed"].nunique()
    scores = {arm: arm_scores(rows, arm) for arm in arms if counts.get(arm, 0) >= seeds}
    return {arm: x for arm, x in scores.items() if x.points}


# --- main measures --------------------------------------------------------------------------------


def mean(x: ArmScores) -> np.ndarray:
    """Mean score over all shifted points, [S]."""
    return x.away.mean(1)


def worst_family(x: ArmScores) -> tuple[str, np.ndarray]:
    """Family with the lowest mean over seeds, and the runs' means over its points, [S].

    A composition is a family of its own. The family is chosen on the scores that are reported, so
    the number is biased a little low where families are close.
    """
    by_family = {
        family: x.away[:, [point.family == family for point in x.points]].mean(1)
        for family in dict.fromkeys(point.family for point in x.points)
    }
    worst = min(by_family, key=lambda family: by_family[family].mean())
    return worst, by_family[worst]


def cvar(x: ArmScores, share: float = 0.25) -> np.ndarray:
    """Conditional value at risk: each run's mean over the `share` of its worst points, [S].

    Rockafellar & Uryasev (2000), over the points of one run, at least one of them.
    """
    count = max(round(share * x.away.shape[1]), 1)
    return np.sort(x.away, 1)[:, :count].mean(1)


# --- other measures -------------------------------------------------------------------------------


def area_under_severity(x: ArmScores) -> np.ndarray:
    """Area under the severity curve from 0 (in distribution) to the highest, mean over shifts, [S].

    Trapezoidal, divided by the highest severity: 1 is a perfect score at all severities.
    """
    areas = []
    for shift in dict.fromkeys(point.shift for point in x.points):
        columns = [i for i, point in enumerate(x.points) if point.shift == shift]
        columns.sort(key=lambda i: x.points[i].severity)
        severity = np.array([0.0] + [x.points[i].severity for i in columns])
        curve = np.column_stack([x.home, x.away[:, columns]])
        areas.append(np.trapezoid(curve, severity, axis=1) / severity[-1])
    return np.mean(areas, 0)


def effective_robustness(x: ArmScores, baselines: Sequence[ArmScores]) -> np.ndarray:
    """Effective robustness: each run's shifted mean less its prediction from the home score, [S].

    Taori et al. (2020), section 2: the prediction is a line through the runs of all baselines,
    here by least squares on raw scores; if their home scores are all equal it is their mean.
    """
    home = np.concatenate([baseline.home for baseline in baselines])
    away = np.concatenate([mean(baseline) for baseline in baselines])
    spread = home - home.mean()
    slope = spread @ away / (spread @ spread) if np.ptp(home) > 1e-9 else 0.0
    return mean(x) - (away.mean() + slope * (x.home - home.mean()))


def iqm(x: ArmScores) -> float:
    """Interquartile mean over all cells of all runs (Agarwal et al., 2021)."""
    from scipy import stats

    return float(stats.trim_mean(x.away.ravel(), 0.25))


def catastrophic_failures(x: ArmScores, level: float = 0.5) -> int:
    """Number of runs whose shifted mean is below `level` times their home score."""
    return int((mean(x) < level * x.home).sum())
