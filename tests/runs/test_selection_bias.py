"""Selection bias: moments of the simulated scores, gains of tuning, and the report."""

import numpy as np
import pytest

from runs.analysis import stats
from runs.selection_bias import (
    MEASURES,
    SEEDS,
    SHIFTS,
    VARIANTS,
    ScoreVariance,
    draw_public_and_sealed,
    main,
    simulate_tuning,
)


def test_draws_share_variance_of_equal_runs_and_equal_worlds():
    draws = draw_public_and_sealed(np.random.default_rng(0), ScoreVariance(0.3, 0.2), (4_000, 2))
    rest = 0.5 / SHIFTS
    for scores in draws:
        assert scores.shape == (4_000, 2, SEEDS)
        assert scores.mean() == pytest.approx(0.0, abs=0.01)
        assert scores.var() == pytest.approx(0.3 + 0.2 / SHIFTS + rest, rel=0.03)
    tuned, new_runs, sealed_worlds, independent = ((draws[0] * other).mean() for other in draws)
    assert tuned == pytest.approx(0.3 + 0.2 / SHIFTS + rest, rel=0.03)
    assert new_runs == pytest.approx(0.2 / SHIFTS, abs=0.003)  # the same worlds
    assert sealed_worlds == pytest.approx(0.3, rel=0.03)  # the same runs
    assert independent == pytest.approx(0.0, abs=0.003)


def test_with_a_control_per_variant_the_gain_is_the_reported_optimism():
    outcome = simulate_tuning(ScoreVariance(0.3, 0.0, own_control=True), 400, seed=0)
    assert outcome.gain[0, -1] == pytest.approx(stats.optimism(VARIANTS), abs=0.1)
    assert outcome.gain[0, 0] == pytest.approx(0.0, abs=0.15)
    assert outcome.rates[0] > 0.3
    assert outcome.rates[4] < 0.03
    assert outcome.rates[3] < 0.05  # sealed worlds and new runs keep the level


def test_the_bias_of_what_is_not_drawn_anew_remains():
    seed_noise = simulate_tuning(ScoreVariance(0.6, 0.0), 200, seed=0)
    world_noise = simulate_tuning(ScoreVariance(0.0, 0.2), 200, seed=1)
    tuned, new_runs, sealed_worlds, sealed_and_new = seed_noise.gain[:, -1]
    assert sealed_worlds > 0.8 * tuned  # sealed worlds keep the bias due to the training runs
    assert abs(new_runs) < 0.2 and abs(sealed_and_new) < 0.2
    tuned, new_runs, sealed_worlds, sealed_and_new = world_noise.gain[:, -1]
    assert new_runs > 0.5 * tuned  # new runs keep the bias due to the drawn worlds
    assert abs(sealed_worlds) < 0.5 and abs(sealed_and_new) < 0.5
    assert tuned - sealed_worlds > 1.0


def test_a_smoke_run_writes_finding_tables_the_report_of_looks_and_a_figure(tmp_path, capsys):
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "selection_bias.md").read_text()
    assert text in capsys.readouterr().out
    assert "The best of 20 variants that do nothing gains 2.02 standard errors in public" in text
    assert text.count("| 0.3 ") == 2
    report = text[text.index("Report of the first researcher") :]
    assert all(f"{name}: " in report for name in MEASURES)
    assert "dev looks 20, sealed looks 1; expected optimism of the best of 20: 1.9" in report
    assert (tmp_path / "selection_bias.png").stat().st_size > 10_000
