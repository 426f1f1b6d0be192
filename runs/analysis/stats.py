"""Statistics whose unit is the training run: episodes, draws and shifts are averaged first.

One policy is scored on every shift, so its scores are no more independent than its seeds are. A
bootstrap over cells (seed x shift) that takes them for independent calls two identical methods
different about every other time (49 % at a nominal 5 % in a pilot).
"""

from collections.abc import Mapping
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


# --- intervals ----------------------------------------------------------------------------------


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
    middle, error, freedom = _welch(x, y)
    half = stats.t.ppf(0.975, freedom) * error if error else 0.0
    return Estimate(middle, float(middle - half), float(middle + half))


def paired(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Mean of x - y [S], seed by seed, with its t interval: for arms that share their seeds.

    Raises:
        ValueError: for as many seeds as not, fewer than 3, or anything that is not a number.
    """
    x, y = _checked(x), _checked(y)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} seeds are no pairs: compare them unpaired")
    return mean(x - y)


def clusters(cells: np.ndarray, draws: int = 10_000, seed: int = 0) -> Estimate:
    """The mean of cells [S, P] with a bootstrap interval that resamples whole seeds.

    Beside the t interval, for scores far from normal; with few seeds it is too narrow.
    """
    means = _checked(np.asarray(cells, np.float64).mean(1))
    picked = np.random.default_rng(seed).integers(len(means), size=(draws, len(means)))
    low, high = np.quantile(means[picked].mean(1), [0.025, 0.975])
    return Estimate(float(means.mean()), float(low), float(high))


def superiority(x: np.ndarray, y: np.ndarray) -> Estimate:
    """P(a seed of x scores above one of y), ties half, with DeLong's interval (1988)."""
    from scipy import stats

    x, y = _checked(x), _checked(y)
    above = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    middle = float(above.mean())
    spread = above.mean(1).var(ddof=1) / len(x) + above.mean(0).var(ddof=1) / len(y)
    half = stats.norm.ppf(0.975) * np.sqrt(spread)
    return Estimate(middle, float(max(middle - half, 0.0)), float(min(middle + half, 1.0)))


def wilson(count: int, trials: int) -> Estimate:
    """A rate with Wilson's interval (1927): for catastrophic failures."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(count, trials, method="wilson")
    return Estimate(count / trials, float(low), float(high))


# --- tests --------------------------------------------------------------------------------------


def p_value(x: np.ndarray, y: np.ndarray) -> float:
    """Of Welch's test that x [S] and y [S'] have the same mean, two-sided."""
    from scipy import stats

    middle, error, freedom = _welch(_checked(x), _checked(y))
    if error == 0:
        return 1.0 if middle == 0 else 0.0
    return float(2 * stats.t.sf(abs(middle) / error, freedom))


def permutation(x: np.ndarray, y: np.ndarray, draws: int = 9_999, seed: int = 0) -> float:
    """P-value of the same by exchanging seeds, studentised (Janssen, 1997): no shape is assumed."""
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
    """P-values of a declared family, adjusted so that one false call in it is as rare as stated.

    Holm (1979).
    """
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))


def split_half_difference(x: np.ndarray) -> Estimate:
    """One arm against itself, its even seeds less its odd ones: what nothing looks like."""
    return difference(x[::2], x[1::2])


# --- how much can be seen -----------------------------------------------------------------------


def seed_share(cells: np.ndarray) -> float:
    """Intra-class correlation of scores cells [S, P]: the seeds' share of the variance.

    ICC(C, 1) of McGraw & Wong (1996), points fixed, so that one shift's being harder than another
    does not count; 0 where the estimate is negative or nothing varies.
    """
    cells = np.asarray(cells, np.float64)
    seeds, points = cells.shape
    rows = cells.mean(1, keepdims=True) - cells.mean()
    rest = cells - cells.mean(0) - rows
    between = points * np.square(rows).sum() / (seeds - 1)
    within = np.square(rest).sum() / ((seeds - 1) * (points - 1))
    total = between + (points - 1) * within
    return float(max((between - within) / total, 0.0)) if total > 0 else 0.0


def detectable(spread: float, seeds: int, power: float = 0.8) -> float:
    """The difference that so many seeds an arm find with this power, at 5 %, if both spread so."""
    from statsmodels.stats.power import TTestIndPower

    return float(spread * TTestIndPower().solve_power(nobs1=seeds, alpha=0.05, power=power))


def seeds_needed(effect: float, spread: float, power: float = 0.8) -> int:
    """Seeds an arm that find a difference `effect` between arms that both spread so."""
    from statsmodels.stats.power import TTestIndPower

    found = TTestIndPower().solve_power(effect_size=effect / spread, alpha=0.05, power=power)
    return int(np.ceil(found))


def optimism(looks: int) -> float:
    """Expected best of `looks` null results, in standard errors: what choosing the best buys."""
    from scipy import integrate, stats

    def tail(z):
        return 1 - stats.norm.cdf(z) ** looks - stats.norm.cdf(-z) ** looks

    return float(integrate.quad(tail, 0, 12)[0])


def _welch(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Difference of means, its standard error, and Welch's degrees of freedom.

    By hand: scipy's warns wherever the scores of one side are all alike, as perfect ones are.
    """
    middle = float(x.mean() - y.mean())
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return middle, 0.0, 1.0
    spread = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    freedom = spread.sum() ** 2 / (spread**2 / [len(x) - 1, len(y) - 1]).sum()
    return middle, float(np.sqrt(spread.sum())), float(freedom)


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} seeds are too few for an interval: run at least {FEWEST}")
    if not np.isfinite(x).all():
        raise ValueError("a score is not a number: leave stopped seeds out before comparing")
    return x
