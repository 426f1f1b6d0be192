"""Intervals and tests against textbook formulas and scipy; invalid scores are refused."""

import math
import warnings

import numpy as np
import pytest
from scipy import special, stats

from runs.analysis.stats import (
    FEWEST,
    Estimate,
    detectable,
    difference,
    holm,
    mean,
    nan_estimate,
    nan_mean,
    optimism,
    p_paired,
    p_value,
    paired,
    permutation,
    seed_share,
    seeds_needed,
    split_half_difference,
    wilson,
)

rng = np.random.default_rng(0)


def quantile(p: float, dof: float) -> float:
    """Quantile p of Student's t, by the inverse of the incomplete beta function."""
    x = special.betaincinv(dof / 2, 0.5, 2 * (1 - p))
    return math.sqrt(dof * (1 - x) / x)


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_the_mean_has_students_t_interval(seeds):
    x = rng.normal(2.0, 3.0, seeds)
    half = quantile(0.975, seeds - 1) * np.std(x, ddof=1) / math.sqrt(seeds)
    assert mean(x) == pytest.approx((x.mean(), x.mean() - half, x.mean() + half))


@pytest.mark.parametrize(("seeds_x", "seeds_y"), [(3, 3), (5, 20), (20, 20)])
def test_a_difference_has_welchs_interval(seeds_x, seeds_y):
    x, y = rng.normal(2.0, 3.0, seeds_x), rng.normal(1.0, 0.5, seeds_y)
    a, b = x.var(ddof=1) / seeds_x, y.var(ddof=1) / seeds_y
    dof = (a + b) ** 2 / (a**2 / (seeds_x - 1) + b**2 / (seeds_y - 1))
    value, half = x.mean() - y.mean(), quantile(0.975, dof) * math.sqrt(a + b)
    assert difference(x, y) == pytest.approx((value, value - half, value + half))
    low, high = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert difference(x, y)[1:] == pytest.approx((low, high))


def test_intervals_cover_zero_in_95_percent_of_draws():
    draws = rng.normal(0.0, [[1.0]] * 5 + [[4.0]] * 5, (2000, 10, 1))[..., 0]
    hits = [d.low <= 0 <= d.high for d in (difference(x[:5], x[5:]) for x in draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_scores_without_variance_have_an_interval_of_zero_width():
    assert mean(np.ones(5)) == (1, 1, 1)
    assert difference(np.ones(5), np.zeros(3)) == (1, 1, 1)


def test_one_side_without_variance_gives_a_finite_interval():
    y = np.array([0.0, 0.5, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = difference(np.ones(20), y)
    low, high = (1 - bound for bound in mean(y)[:0:-1])  # all the variance is of the other side
    assert estimate == pytest.approx((0.5, low, high))


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
def test_non_finite_scores_are_refused(bad):
    for call in (mean, lambda x: difference(x, np.ones(3)), lambda x: difference(np.ones(3), x)):
        with pytest.raises(ValueError, match="leave stopped seeds out"):
            call(np.array([1.0, 2.0, bad]))


def test_an_estimate_is_printed_with_its_interval():
    assert f"{Estimate(0.5, -1, 2)}" == "+0.500 [-1.000, +2.000]"
    assert f"{Estimate(12.34, 1, 20):.1f}" == "12.3 [1.0, 20.0]"


def test_a_paired_difference_is_the_mean_of_the_differences():
    layout = rng.normal(0, 100, 20)
    x, y = layout + rng.normal(1, 0.1, 20), layout + rng.normal(0, 0.1, 20)
    assert paired(x, y) == mean(x - y)
    assert paired(x, y).low > 0 > difference(x, y).low
    with pytest.raises(ValueError, match="20 and 19 seeds cannot be paired"):
        paired(x, y[1:])


@pytest.mark.parametrize(("seeds_x", "seeds_y"), [(3, 4), (20, 10)])
def test_the_p_value_agrees_with_scipy_and_with_its_interval(seeds_x, seeds_y):
    for shift in (0.0, 0.5, 2.0):
        x, y = rng.normal(shift, 1.0, seeds_x), rng.normal(0.0, 2.0, seeds_y)
        assert p_value(x, y) == pytest.approx(stats.ttest_ind(x, y, equal_var=False).pvalue)
        low, high = difference(x, y)[1:]
        assert (p_value(x, y) < 0.05) == (low > 0 or high < 0)
    assert p_value(np.ones(3), np.ones(3)) == 1.0
    assert p_value(np.ones(3), np.zeros(3)) == 0.0


def test_the_paired_p_value_agrees_with_scipy():
    x, y = rng.normal(0.5, 1.0, 10), rng.normal(0.0, 1.0, 10)
    assert p_paired(x, y) == pytest.approx(stats.ttest_rel(x, y).pvalue)
    assert p_paired(x, x) == 1.0
    assert p_paired(np.ones(3), np.zeros(3)) == 0.0


def test_the_permutation_test_agrees_with_welch_for_normal_scores():
    for shift in (0.0, 0.7, 1.5):
        x, y = rng.normal(shift, 1.0, 20), rng.normal(0.0, 1.0, 20)
        assert permutation(x, y) == pytest.approx(p_value(x, y), abs=0.02)


def test_the_permutation_test_of_three_seeds_is_exact():
    """2 of the 20 ways to choose three of six differ by as much as these samples."""
    assert permutation(np.array([7.0, 8.0, 9.5]), np.array([1.0, 2.0, 3.5])) == pytest.approx(0.1)


def test_entries_that_are_not_finite_are_left_out_where_asked():
    x = np.array([[1.0, np.nan, 3.0, 5.0], [np.nan] * 4, [1.0, np.inf, 2.0, np.nan]])
    np.testing.assert_array_equal(nan_mean(x), [3.0, np.nan, 1.5])
    assert nan_estimate(x[0]) == mean(x[0, [0, 2, 3]])
    assert np.isnan(nan_estimate(x[2])).all()  # two are too few


def test_wilson_interval_of_no_failure_in_ten():
    estimate = wilson(0, 10)
    z = stats.norm.ppf(0.975)
    assert estimate == pytest.approx((0.0, 0.0, z**2 / (10 + z**2)))


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )


def test_the_split_half_difference_is_even_less_odd_seeds():
    x = np.array([1.0, 0.0, 1.2, 0.1, 1.1, 0.3])
    assert split_half_difference(x) == difference(x[[0, 2, 4]], x[[1, 3, 5]])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_seed_share_is_the_variance_share_between_seeds(share):
    """Variance `share` between seeds, the rest within; the difficulty of a shift is in neither."""
    hard = rng.normal(0, 5, 12)
    cells = rng.normal(0, math.sqrt(share), (4000, 1))
    cells = cells + rng.normal(0, math.sqrt(1 - share), (4000, 12)) + hard
    assert seed_share(cells) == pytest.approx(share, abs=0.03)
    assert seed_share(np.ones((3, 4))) == 0.0


def test_seeds_needed_and_detectable_difference():
    """17 per arm for a difference of one standard deviation, as in textbooks."""
    assert seeds_needed(1.0, 1.0) == 17
    assert seeds_needed(0.2, 0.1) == seeds_needed(2.0, 1.0)
    assert detectable(1.0, 17) == pytest.approx(1.0, abs=0.01)


def test_optimism_is_the_expected_maximum_of_standard_normals():
    """Expected maxima of standard normals, from tables of order statistics."""
    table = {1: 0.0, 2: 1 / math.sqrt(math.pi), 5: 1.16296, 10: 1.53875, 20: 1.86748, 50: 2.24907}
    for looks, value in table.items():
        assert optimism(looks) == pytest.approx(value, abs=5e-3)
    assert optimism(8) == pytest.approx(rng.normal(0, 1, (200_000, 8)).max(1).mean(), abs=0.01)
