"""The trial of the statistics: what it draws, and that it tells sound tests from unsound ones."""

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
def test_scores_share_what_they_should(shape, share):
    cells = draw(np.random.default_rng(0), ScoreModel(share, 40_000, 3, shape))
    assert cells.mean() == pytest.approx(0.0, abs=0.02)
    assert cells.var(0) == pytest.approx(np.ones(3), abs=0.03)
    assert np.cov(cells.T)[0, 1] == pytest.approx(share, abs=0.03)


def test_a_third_of_the_seeds_fail_together():
    cells = draw(np.random.default_rng(0), ScoreModel(0.9, 2_000, 30, "30 % failed"))
    assert (cells.mean(1) < -0.5).mean() == pytest.approx(0.3, abs=0.03)


def test_shared_seeds_fool_the_bootstrap_over_cells_and_not_welch():
    verdict = simulate_null(ScoreModel(0.6, 10, 12, "normal"), grids=800, seed=0)
    assert 0.03 < verdict.welch < 0.07
    assert verdict.cells > 0.3
    assert 0.93 < verdict.covers < 0.97


def test_without_anything_shared_the_bootstrap_over_cells_is_nearly_right():
    verdict = simulate_null(ScoreModel(0.0, 20, 12, "normal"), grids=800, seed=0)
    assert verdict.cells < 0.12


def test_the_bootstrap_over_cells_is_a_percentile_interval():
    rng = np.random.default_rng(0)
    one, other = rng.normal(1.0, 1.0, (20, 12)), rng.normal(0.0, 1.0, (20, 12))
    found = bootstrap_over_cells(rng, one, other)
    error = np.sqrt(2 / 240)
    assert found.value == one.mean() - other.mean()
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_a_broken_promise_is_said():
    good = simulate_null(ScoreModel(0.3, 5, 12, "normal"), grids=100, seed=0)._replace(
        welch=0.05, covers=0.95, covers_mean=0.95
    )
    assert keeps_level(good)
    bad = good._replace(welch=0.2)
    assert not keeps_level(bad)
    assert "1 of 2 kinds of scores keep the promise" in finding([good, bad])


@pytest.mark.parametrize("flags", [["--grids", "10"], ["--smoke", "--record"]])
def test_bad_input_is_one_line(flags):
    with pytest.raises(UserError):
        main(flags)


def test_a_smoke_run_prints_its_table(capsys):
    assert main(["--smoke"]) == 0
    assert "| NO" in (said := capsys.readouterr().out) or "| yes" in said
