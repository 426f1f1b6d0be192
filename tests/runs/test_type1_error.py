"""Type I error simulation: moments of its scores, and sound tests told from unsound ones."""

from itertools import product

import numpy as np
import pytest

from runs.type1_error import (
    SEEDS,
    SHAPES,
    SHARES,
    SHIFTS,
    ErrorRates,
    ScoreModel,
    bootstrap_over_cells,
    covers_zero,
    draw,
    figure,
    finding,
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
    rates = simulate_null(ScoreModel(0.6, 10, 12, "normal"), grids=400, seed=0)
    assert 0.03 < rates.welch < 0.07
    assert rates.cells > 0.3
    assert 0.93 < rates.covers < 0.97


def test_the_bootstrap_over_cells_is_a_percentile_interval_right_for_independent_cells():
    rng = np.random.default_rng(0)
    scores, baseline = rng.normal(1.0, 1.0, (20, 12)), rng.normal(0.0, 1.0, (20, 12))
    estimate = bootstrap_over_cells(rng, scores, baseline)
    standard_error = np.sqrt(2 / 240)
    assert estimate.value == scores.mean() - baseline.mean()
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * standard_error, rel=0.2)
    grids = rng.normal(size=(200, 2, 20, 12))
    false_calls = [not covers_zero(bootstrap_over_cells(rng, *arms)) for arms in grids]
    assert np.mean(false_calls) < 0.12


def test_the_page_counts_the_tests_that_keep_their_level_and_draws_all(tmp_path):
    kinds = [ScoreModel(*kind) for kind in product(SHARES, SEEDS, SHIFTS, SHAPES)]
    good, *others = [ErrorRates(kind, 0.05, 0.05, 0.4, 0.95, 0.95) for kind in kinds]
    bad = [good._replace(welch=0.2), good._replace(covers=0.9), good._replace(covers_mean=0.99)]
    assert good.kept and not any(rate.kept for rate in bad)
    assert "1 of 4 kinds of scores keep their level" in finding([good, *bad])
    figure([good, *others], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_smoke_run_writes_its_table(tmp_path, capsys):
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "type1_error.md").read_text()
    assert text in capsys.readouterr().out
    assert text.count("| normal ") == text.count("| 30 % failed ") == 1
