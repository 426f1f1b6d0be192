"""Intervals against their textbook formulas; what cannot have one is refused."""

import math
import warnings

import numpy as np
import pytest
from scipy import special, stats

from runs.harness.stats import FEWEST, Estimate, difference, mean

rng = np.random.default_rng(0)


def quantile(p: float, freedom: float) -> float:
    """Student's t by the inverse of the incomplete beta function."""
    x = special.betaincinv(freedom / 2, 0.5, 2 * (1 - p))
    return math.sqrt(freedom * (1 - x) / x)


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_the_mean_has_students_interval(seeds):
    x = rng.normal(2.0, 3.0, seeds)
    half = quantile(0.975, seeds - 1) * np.std(x, ddof=1) / math.sqrt(seeds)
    assert mean(x) == pytest.approx((x.mean(), x.mean() - half, x.mean() + half))


@pytest.mark.parametrize(("one", "other"), [(3, 3), (5, 20), (20, 20)])
def test_a_difference_has_welchs_interval(one, other):
    x, y = rng.normal(2.0, 3.0, one), rng.normal(1.0, 0.5, other)
    a, b = x.var(ddof=1) / one, y.var(ddof=1) / other
    freedom = (a + b) ** 2 / (a**2 / (one - 1) + b**2 / (other - 1))
    middle, half = x.mean() - y.mean(), quantile(0.975, freedom) * math.sqrt(a + b)
    assert difference(x, y) == pytest.approx((middle, middle - half, middle + half))
    low, high = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert difference(x, y)[1:] == pytest.approx((low, high))


def test_intervals_cover_at_their_rate():
    draws = rng.normal(0.0, [[1.0]] * 5 + [[4.0]] * 5, (2000, 10, 1))[..., 0]
    hits = [d.low <= 0 <= d.high for d in (difference(x[:5], x[5:]) for x in draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_scores_without_spread_have_an_interval_of_no_width():
    assert mean(np.ones(5)) == (1, 1, 1)
    assert difference(np.ones(5), np.zeros(3)) == (1, 1, 1)


def test_one_side_without_spread_is_no_trouble():
    y = np.array([0.0, 0.5, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference(np.ones(20), y)
    low, high = (1 - bound for bound in mean(y)[:0:-1])  # all the doubt is about the other side
    assert found == pytest.approx((0.5, low, high))


@pytest.mark.parametrize("bad", [[], [1.0], [1.0, 2.0]])
def test_too_few_seeds_are_refused(bad):
    for call in (
        lambda: mean(bad),
        lambda: difference(bad, np.ones(3)),
        lambda: difference(np.ones(3), bad),
    ):
        with pytest.raises(ValueError, match=f"{len(bad)} seeds are too few.*at least {FEWEST}"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(bad):
    for call in (mean, lambda x: difference(x, np.ones(3)), lambda x: difference(np.ones(3), x)):
        with pytest.raises(ValueError, match="leave stopped seeds out"):
            call(np.array([1.0, 2.0, bad]))


def test_an_estimate_is_printed_with_its_interval():
    assert f"{Estimate(0.5, -1, 2)}" == "+0.500 [-1.000, +2.000]"
    assert f"{Estimate(12.34, 1, 20):.1f}" == "12.3 [1.0, 20.0]"
