"""The simulated researcher: what it draws, what tuning buys, and what is left of it."""

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


def test_scores_share_runs_and_worlds_as_they_should():
    four = draw_public_and_sealed(np.random.default_rng(0), ScoreModel(0.3, 0.2), (4_000, 2))
    rest = 0.5 / SHIFTS
    for one in four:
        assert one.shape == (4_000, 2, SEEDS)
        assert one.mean() == pytest.approx(0.0, abs=0.01)
        assert one.var() == pytest.approx(0.3 + 0.2 / SHIFTS + rest, rel=0.03)
    tuned, new, same, both = (
        (one * two).mean() for one, two in zip(four[:1] * 4, four, strict=True)
    )
    assert tuned == pytest.approx(0.3 + 0.2 / SHIFTS + rest, rel=0.03)
    assert new == pytest.approx(0.2 / SHIFTS, abs=0.003)  # the same worlds
    assert same == pytest.approx(0.3, rel=0.03)  # the same runs
    assert both == pytest.approx(0.0, abs=0.003)


def test_with_a_control_a_variant_tuning_buys_the_optimism_that_is_reported():
    one = simulate_tuning(ScoreModel(0.3, 0.0, own_control=True), 400, seed=0)
    assert one.gain[0, -1] == pytest.approx(stats.optimism(VARIANTS), abs=0.1)
    assert one.gain[0, 0] == pytest.approx(0.0, abs=0.15)
    assert one.called[0] > 0.3
    assert one.deflated[0] < 0.03


def test_what_is_left_is_the_luck_that_was_not_drawn_anew():
    only_runs, only_worlds = (
        simulate_tuning(ScoreModel(0.6, 0.0), 400, seed=0),
        simulate_tuning(ScoreModel(0.0, 0.2), 400, seed=1),
    )
    tuned, new, same, both = only_runs.gain[:, -1]
    assert same > 0.8 * tuned  # sealed worlds do nothing against the luck of the runs
    assert abs(new) < 0.2 and abs(both) < 0.2
    tuned, new, same, both = only_worlds.gain[:, -1]
    assert new > 0.5 * tuned  # new runs do nothing against the luck of the worlds
    assert abs(same) < 0.5 and abs(both) < 0.5
    assert tuned - same > 1.0


def test_a_clean_test_stays_clean():
    one = simulate_tuning(ScoreModel(0.3, 0.0), 800, seed=0)
    assert one.called[3] < 0.05
    assert one.called[0] > 0.2


def test_the_report_counts_the_looks_in_a_ledger(tmp_path):
    first = simulate_tuning(HEADLINE, 2, seed=0).first
    said = reported_lines(first, tmp_path)
    assert all(name in said for name in MEASURES)
    assert f"{first[0]:+.3f}" in said
    assert said.endswith(
        "dev looks 20, sealed looks 1; expected optimism of the best of 20: 1.9 standard errors"
    )


def test_the_finding_and_the_figure_are_of_the_headline(tmp_path):
    one = simulate_tuning(HEADLINE, 100, seed=0)
    assert f"gains {one.gain[0, -1]:.2f} standard errors" in finding([one])
    figure(one, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize("flags", [["--researchers", "10"], ["--smoke", "--record"]])
def test_bad_input_is_one_line(flags):
    with pytest.raises(UserError):
        main(flags)


def test_a_smoke_run_prints_its_table(capsys):
    assert main(["--smoke"]) == 0
    assert "# Tuning on nothing" in capsys.readouterr().out
