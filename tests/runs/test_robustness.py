"""Robustness measures from scores under shift, against numbers worked out by hand."""

import numpy as np
import pytest

from envs.suite import Point
from runs.analysis import robustness
from runs.analysis.robustness import (
    ArmScores,
    area_under_severity,
    arm_scores,
    catastrophic_failures,
    cvar,
    effective_robustness,
    iqm,
)

POINTS = (
    Point("ice", "dynamics", 0.5),
    Point("ice", "dynamics", 1.0),
    Point("fog", "sensor", 0.5),
    Point("fog", "sensor", 1.0),
)
TWO = ArmScores(
    np.array([1.0, 0.8]), np.array([[0.8, 0.4, 0.6, 0.2], [0.8, 0.6, 0.1, 0.1]]), POINTS
)


def rows() -> list[dict]:
    """Both seeds of TWO as score rows, between those of another arm."""
    return [
        {"arm": arm, "seed": seed, "score": score, **point._asdict()}
        for arm in ("none", "fear")
        for seed in range(2)
        for point, score in zip(
            (Point("none", "none", 0.0), *POINTS), (TWO.home[seed], *TWO.away[seed]), strict=True
        )
    ]


def test_arm_scores_takes_the_rows_of_one_arm():
    scores = arm_scores(rows(), "fear")
    np.testing.assert_array_equal(scores.home, TWO.home)
    np.testing.assert_array_equal(scores.away, TWO.away)
    assert scores.points == POINTS


def test_a_seed_that_lacks_a_point_is_refused():
    with pytest.raises(ValueError, match="seed 1 of fear was not scored at .*fog.*1.0"):
        arm_scores(rows()[:-1], "fear")


def test_mean_worst_family_and_cvar_by_hand():
    np.testing.assert_allclose(robustness.mean(TWO), [0.5, 0.4])
    family, scores = robustness.worst_family(TWO)
    assert family == "sensor"
    np.testing.assert_allclose(scores, [0.4, 0.1])
    np.testing.assert_allclose(cvar(TWO), [0.2, 0.1])
    np.testing.assert_allclose(cvar(TWO, 0.5), [0.3, 0.1])
    np.testing.assert_allclose(cvar(TWO, 1.0), robustness.mean(TWO))


def test_the_area_under_a_straight_line_is_its_mean():
    line = ArmScores(np.ones(2), np.tile([0.5, 0.0], (2, 1)), POINTS[:2])
    np.testing.assert_allclose(area_under_severity(line), 0.5)
    np.testing.assert_allclose(area_under_severity(TWO)[0], np.mean([0.75, 0.6]))


def test_effective_robustness_is_the_residual_of_the_score_at_home():
    rng = np.random.default_rng(0)
    home = rng.uniform(0.5, 1.0, 30)
    baseline = ArmScores(home, (0.2 + 0.5 * home)[:, None], POINTS[:1])
    better = ArmScores(home[:5], (0.3 + 0.5 * home[:5])[:, None], POINTS[:1])
    np.testing.assert_allclose(effective_robustness(baseline, [baseline]), 0.0, atol=1e-12)
    np.testing.assert_allclose(effective_robustness(better, [baseline]), 0.1)
    same_home = baseline._replace(home=np.ones(30))
    np.testing.assert_allclose(effective_robustness(same_home, [same_home]).mean(), 0.0, atol=1e-12)


def test_the_interquartile_mean_ignores_failures_and_cvar_does_not():
    failing = TWO._replace(away=np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]]))
    assert iqm(failing) == 1.0
    np.testing.assert_allclose(cvar(failing), 0.0)


def test_a_seed_that_keeps_less_than_half_is_a_catastrophic_failure():
    assert catastrophic_failures(TWO) == 0
    assert catastrophic_failures(TWO, 0.51) == 2
