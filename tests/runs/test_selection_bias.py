"""Selection bias: moments of the simulated scores, gains of tuning, and the report."""

import numpy as np
import pytest

from runs.analysis import stats
from runs.errors import UserError
from runs.selection_bias import (
    HEADLINE,
    MEASURES,
    SEEDS,
    SHIFTS,
    VARIANTS,
    ScoreModel,
    draw_public_and_sealed,
    figure,
    finding,
    main,
    reported_lines,
    simulate_tuning,
)


def test_draws_share_variance_of_equal_runs_and_equal_worlds():
    draws = draw_public_and_sealed(np.random.default_rng(0), ScoreModel(0.3, 0.2), (4_000, 2))
    rest = 0.5 / SHIFTS
    for scores in draws:
        assert scores.shape == (4_000, 2, SEEDS)
        assert scores.mean() == pytest.approx(0.0, abs=0.01)
        assert scores.var() == pytest.approx(0.3 + 0.2 / SHIFTS + rest, rel=0.03)
    tuned, new_runs, sealed_worlds, independent = (
        (scores * other).mean() for scores, other in zip(draws[:1] * 4, draws, strict=True)
    )
    assert tuned == pytest.approx(0.3 + 0.2 / SHIFTS + rest, rel=0.03)
    assert new_runs == pytest.approx(0.2 / SHIFTS, abs=0.003)  # the same worlds
    assert sealed_worlds == pytest.approx(0.3, rel=0.03)  # the same runs
    assert independent == pytest.approx(0.0, abs=0.003)


def test_with_a_control_per_variant_the_gain_is_the_reported_optimism():
    outcome = simulate_tuning(ScoreModel(0.3, 0.0, own_control=True), 400, seed=0)
    assert outcome.gain[0, -1] == pytest.approx(stats.optimism(VARIANTS), abs=0.1)
    assert outcome.gain[0, 0] == pytest.approx(0.0, abs=0.15)
    assert outcome.called[0] > 0.3
    assert outcome.deflated[0] < 0.03


def test_the_bias_of_what_is_not_drawn_anew_remains():
    seed_noise, world_noise = (
        simulate_tuning(ScoreModel(0.6, 0.0), 400, seed=0),
        simulate_tuning(ScoreModel(0.0, 0.2), 400, seed=1),
    )
    tuned, new_runs, sealed_worlds, sealed_and_new = seed_noise.gain[:, -1]
    assert sealed_worlds > 0.8 * tuned  # sealed worlds keep the bias due to the training runs
    assert abs(new_runs) < 0.2 and abs(sealed_and_new) < 0.2
    tuned, new_runs, sealed_worlds, sealed_and_new = world_noise.gain[:, -1]
    assert new_runs > 0.5 * tuned  # new runs keep the bias due to the drawn worlds
    assert abs(sealed_worlds) < 0.5 and abs(sealed_and_new) < 0.5
    assert tuned - sealed_worlds > 1.0


def test_sealed_worlds_and_new_runs_keep_the_level():
    outcome = simulate_tuning(ScoreModel(0.3, 0.0), 800, seed=0)
    assert outcome.called[3] < 0.05
    assert outcome.called[0] > 0.2


def test_the_report_counts_looks_from_a_ledger(tmp_path):
    first = simulate_tuning(HEADLINE, 2, seed=0).first
    lines = reported_lines(first, tmp_path)
    assert all(name in lines for name in MEASURES)
    assert f"{first[0]:+.3f}" in lines
    assert lines.endswith(
        "dev looks 20, sealed looks 1; expected optimism of the best of 20: 1.9 standard errors"
    )


def test_the_finding_and_the_figure_are_of_the_headline(tmp_path):
    outcome = simulate_tuning(HEADLINE, 100, seed=0)
    assert f"gains {outcome.gain[0, -1]:.2f} standard errors" in finding([outcome])
    figure(outcome, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize("flags", [["--researchers", "10"], ["--smoke", "--record"]])
def test_bad_input_is_one_line(flags):
    with pytest.raises(UserError):
        main(flags)


def test_a_smoke_run_prints_its_table(capsys):
    assert main(["--smoke"]) == 0
    assert "# Selection bias" in capsys.readouterr().out
