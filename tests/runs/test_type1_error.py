"""Type I error simulation: moments of its scores, and sound tests told from unsound ones."""

import numpy as np
import pytest

from runs.errors import UserError
from runs.type1_error import (
    SHAPES,
    ScoreModel,
    bootstrap_over_cells,
    draw,
    finding,
    keeps_level,
    main,
    simulate_null,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_scores_have_unit_variance_and_the_given_seed_share(shape, share):
    cells = draw(np.random.default_rng(0), ScoreModel(share, 40_000, 3, shape))
    assert cells.mean() == pytest.approx(0.0, abs=0.02)
    assert cells.var(0) == pytest.approx(np.ones(3), abs=0.03)
    assert np.cov(cells.T)[0, 1] == pytest.approx(share, abs=0.03)


def test_a_failed_seed_fails_on_all_shifts():
    cells = draw(np.random.default_rng(0), ScoreModel(0.9, 2_000, 30, "30 % failed"))
    assert (cells.mean(1) < -0.5).mean() == pytest.approx(0.3, abs=0.03)


def test_correlated_cells_inflate_the_bootstrap_over_cells_but_not_welch():
    rates = simulate_null(ScoreModel(0.6, 10, 12, "normal"), grids=800, seed=0)
    assert 0.03 < rates.welch < 0.07
    assert rates.cells > 0.3
    assert 0.93 < rates.covers < 0.97


def test_the_bootstrap_over_cells_is_nearly_right_for_independent_cells():
    rates = simulate_null(ScoreModel(0.0, 20, 12, "normal"), grids=800, seed=0)
    assert rates.cells < 0.12


def test_the_bootstrap_over_cells_is_a_percentile_interval():
    rng = np.random.default_rng(0)
    scores, baseline = rng.normal(1.0, 1.0, (20, 12)), rng.normal(0.0, 1.0, (20, 12))
    estimate = bootstrap_over_cells(rng, scores, baseline)
    standard_error = np.sqrt(2 / 240)
    assert estimate.value == scores.mean() - baseline.mean()
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * standard_error, rel=0.2)


def test_a_test_that_exceeds_its_level_is_reported():
    good = simulate_null(ScoreModel(0.3, 5, 12, "normal"), grids=100, seed=0)._replace(
        welch=0.05, covers=0.95, covers_mean=0.95
    )
    assert keeps_level(good)
    bad = good._replace(welch=0.2)
    assert not keeps_level(bad)
    assert "1 of 2 kinds of scores keep their level" in finding([good, bad])


@pytest.mark.parametrize("flags", [["--grids", "10"], ["--smoke", "--record"]])
def test_bad_input_is_one_line(flags):
    with pytest.raises(UserError):
        main(flags)


def test_a_smoke_run_prints_its_table(capsys):
    assert main(["--smoke"]) == 0
    assert "| NO" in (text := capsys.readouterr().out) or "| yes" in text
