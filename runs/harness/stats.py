"""Statistics whose unit is the training run: episodes, draws and shifts are averaged first."""

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean or a difference with its interval at 95 %."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or "+.3f"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


FEWEST = 3  # seeds an arm


def mean(x: np.ndarray) -> Estimate:
    """The mean of per-seed scores x [S] with its t interval.

    Raises:
        ValueError: for fewer than 3 seeds or anything that is not a number.
    """
    from scipy import stats

    x = _checked(x)
    middle = float(x.mean())
    if np.ptp(x) == 0:
        return Estimate(middle, middle, middle)
    low, high = stats.t.interval(0.95, len(x) - 1, loc=middle, scale=stats.sem(x))
    return Estimate(middle, float(low), float(high))


def difference(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Mean of x [S] less mean of y [S'] with Welch's interval (Welch, 1947).

    Raises:
        ValueError: for fewer than 3 seeds or anything that is not a number.
    """
    from scipy import stats

    x, y = _checked(x), _checked(y)
    middle = float(x.mean() - y.mean())
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return Estimate(middle, middle, middle)
    # By hand: scipy's warns wherever the scores of one side are all alike, as perfect ones are.
    spread = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    freedom = spread.sum() ** 2 / (spread**2 / [len(x) - 1, len(y) - 1]).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(spread.sum())
    return Estimate(middle, float(middle - half), float(middle + half))


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} seeds are too few for an interval: run at least {FEWEST}")
    if not np.isfinite(x).all():
        raise ValueError("a score is not a number: leave stopped seeds out before comparing")
    return x
