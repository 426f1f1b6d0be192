"""Tests and confidence intervals over training runs: the scores of each run are averaged first.

One policy is scored on every shift, so the scores of a seed are not independent. A bootstrap over
cells (seed x shift) that treats them as independent finds a difference between two identical
methods about every other time (49 % at a nominal 5 % in a pilot).
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """Mean or difference with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or "+.3f"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def with_half(self, spec: str) -> str:
        """Value with half its interval as text; t and Welch intervals are symmetric."""
        return f"{self.value:{spec}} ±{self.high - self.value:{spec.removeprefix('+')}}"


FEWEST = 3  # minimum number of seeds per arm for an interval


# --- intervals ----------------------------------------------------------------------------------


def mean(x: np.ndarray) -> Estimate:
    """Mean of per-seed scores x [S] with its 95 % t interval.

    Raises:
        ValueError: for fewer than 3 seeds or anything that is not a number.
    """
    from scipy import stats

    x = _checked(x)
    centre = float(x.mean())
    if np.ptp(x) == 0:
        return Estimate(centre, centre, centre)
    low, high = stats.t.interval(0.95, len(x) - 1, loc=centre, scale=stats.sem(x))
    return Estimate(centre, float(low), float(high))


def difference(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Mean of x [S] less mean of y [S'] with its 95 % interval (Welch, 1947).

    Raises:
        ValueError: for fewer than 3 seeds or anything that is not a number.
    """
    from scipy import stats

    x, y = _checked(x), _checked(y)
    centre, error, freedom = _welch(x, y)
    half_width = stats.t.ppf(0.975, freedom) * error if error else 0.0
    return Estimate(centre, float(centre - half_width), float(centre + half_width))


def paired(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Mean of paired differences x - y [S] with its 95 % t interval: for arms with shared seeds.

    Raises:
        ValueError: for unequal numbers of seeds, fewer than 3, or anything that is not a number.
    """
    x, y = _checked(x), _checked(y)
    if len(x) != len(y):
        raise ValueError(
            f"{len(x)} and {len(y)} seeds cannot be paired: use an unpaired difference"
        )
    return mean(x - y)


def nan_mean(x: np.ndarray) -> np.ndarray:
    """Mean of the finite entries of x [..., N] over its last axis, [...]; NaN if there are none."""
    finite = np.isfinite(x)
    with np.errstate(invalid="ignore"):
        return np.where(finite, x, 0.0).sum(-1) / finite.sum(-1)


def nan_estimate(x: np.ndarray) -> Estimate:
    """`mean` of the finite seeds of x [S]; NaN with fewer than 3 of them."""
    x = x[np.isfinite(x)]
    return mean(x) if len(x) >= FEWEST else Estimate(np.nan, np.nan, np.nan)


def mean_and_bounds(scores: np.ndarray) -> np.ndarray:
    """Means over seeds of scores [S, ...] and their 95 % t intervals -> (mean, low, high) [3, ...].

    NaN is a missing seed. Bounds equal the mean where fewer than 3 seeds are left; without any
    seed all are NaN.
    """
    import pandas as pd
    from scipy import stats

    scores = np.asarray(scores, np.float64)
    table = pd.DataFrame(scores.reshape(len(scores), math.prod(scores.shape[1:])))
    mean, seeds = table.mean(), table.count()
    half_width = (stats.t.ppf(0.975, seeds - 1) * table.sem()).where(seeds >= FEWEST, 0.0)
    return np.stack([mean, mean - half_width, mean + half_width]).reshape(3, *scores.shape[1:])


def median_time(curves: np.ndarray, level: float, times: np.ndarray) -> float:
    """Median over curves [N, T] of the first of the times [T] at which they reach a level.

    Of an even number the lower one; infinite if half never do.
    """
    reached = curves >= level
    first = np.where(reached.any(1), np.asarray(times)[reached.argmax(1)], np.inf)
    return float(np.sort(first)[(len(first) - 1) // 2])


def wilson(count: int, trials: int) -> Estimate:
    """Rate `count / trials` with Wilson's 95 % interval (1927)."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(count, trials, method="wilson")
    return Estimate(count / trials, float(low), float(high))


# --- tests --------------------------------------------------------------------------------------


def p_value(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sided p-value of Welch's t test that x [S] and y [S'] have the same mean."""
    from scipy import stats

    gap, error, freedom = _welch(_checked(x), _checked(y))
    if error == 0:
        return 1.0 if gap == 0 else 0.0
    return float(2 * stats.t.sf(abs(gap) / error, freedom))


def p_paired(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sided p-value of the paired t test of x [S] and y [S]: for arms with shared seeds."""
    from scipy import stats

    differences = _checked(x) - _checked(y)
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def permutation(x: np.ndarray, y: np.ndarray, draws: int = 9_999, seed: int = 0) -> float:
    """P-value of a studentised permutation test of equal means of x [S], y [S'] (Janssen, 1997)."""
    from scipy import stats

    def studentised(x, y, axis):
        spread = x.var(axis, ddof=1) / x.shape[axis] + y.var(axis, ddof=1) / y.shape[axis]
        return (x.mean(axis) - y.mean(axis)) / np.sqrt(np.maximum(spread, 1e-300))

    arms, rng = (_checked(x), _checked(y)), np.random.default_rng(seed)
    test = stats.permutation_test(
        arms, studentised, vectorized=True, n_resamples=draws, rng=rng, batch=1_000
    )
    return float(test.pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values of a family of tests, adjusted to control its familywise error rate.

    Holm (1979).
    """
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))


def split_half_difference(x: np.ndarray) -> Estimate:
    """A-A control: mean of the even seeds of x [S] less that of its odd seeds; no true effect."""
    return difference(x[::2], x[1::2])


# --- power --------------------------------------------------------------------------------------


def seed_share(cells: np.ndarray) -> float:
    """Intraclass correlation of scores `cells` [S, P]: the seeds' share of the variance.

    ICC(C, 1) of McGraw & Wong (1996) with fixed points, so that differences in difficulty between
    shifts are excluded; 0 if the estimate is negative or the scores do not vary.
    """
    cells = np.asarray(cells, np.float64)
    seeds, points = cells.shape
    rows = cells.mean(1, keepdims=True) - cells.mean()
    rest = cells - cells.mean(0) - rows
    between = points * np.square(rows).sum() / (seeds - 1)
    within = np.square(rest).sum() / ((seeds - 1) * (points - 1))
    total = between + (points - 1) * within
    return float(max((between - within) / total, 0.0)) if total > 0 else 0.0


def detectable(spread: float, seeds: int) -> float:
    """Difference that `seeds` per arm detect with 80 % power at 5 %; `spread`: sd over seeds."""
    from statsmodels.stats.power import TTestIndPower

    return float(spread * TTestIndPower().solve_power(nobs1=seeds, alpha=0.05, power=0.8))


def seeds_needed(effect: float, spread: float) -> int:
    """Seeds per arm that detect `effect` with 80 % power at 5 %; `spread`: sd over seeds."""
    from statsmodels.stats.power import TTestIndPower

    seeds = TTestIndPower().solve_power(effect_size=effect / spread, alpha=0.05, power=0.8)
    return int(np.ceil(seeds))


def optimism(looks: int) -> float:
    """Expected best of `looks` null results, in standard errors: the bias of picking the best."""
    from scipy import integrate, stats

    def tail(z):
        return 1 - stats.norm.cdf(z) ** looks - stats.norm.cdf(-z) ** looks

    return float(integrate.quad(tail, 0, 12)[0])


def difference_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Standard error [...] of a difference of means of per-seed scores x [..., S], y [..., S']."""
    return np.sqrt(x.var(-1, ddof=1) / x.shape[-1] + y.var(-1, ddof=1) / y.shape[-1])


def _welch(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Difference of means, its standard error, and Welch's degrees of freedom.

    Not by scipy, which warns where all scores of one side are equal, as perfect ones are.
    """
    gap = float(x.mean() - y.mean())
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return gap, 0.0, 1.0
    spread = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    freedom = spread.sum() ** 2 / (spread**2 / [len(x) - 1, len(y) - 1]).sum()
    return gap, float(np.sqrt(spread.sum())), float(freedom)


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} seeds are too few for an interval: run at least {FEWEST}")
    if not np.isfinite(x).all():
        raise ValueError("a score is not a number: leave stopped seeds out before comparing")
    return x
