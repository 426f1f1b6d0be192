"""First drive: learning curves, outcomes, contrasts, page and figures of two comparisons."""

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from runs.first_drive import arrival_curves, draw_outcomes, hours_until, outcomes, page

KINDS = ("", "_sham", "_untrained", "_constant")
POTENTIALS = ("potential_-1", "potential_-1_constant")
ARMS = ("none", "constant_plus", *(f"fear{kind}" for kind in KINDS), *POTENTIALS)
SEEDS = 5


def make_rows(better: dict[str, float] | None = None) -> list[dict]:
    """Make score rows: success 0.9 at home, 0.6 and 0.4 on ice, plus seed and arm effects."""
    points = (("none", 0.0, 0.9), ("ice", 0.5, 0.6), ("ice", 1.0, 0.4))
    rows = []
    for arm in ARMS:
        for shift, severity, success in points:
            for seed in range(SEEDS):
                score = success + 0.01 * seed + (better or {}).get(arm, 0.0)
                row = {"arm": arm, "seed": seed, "shift": shift, "severity": severity}
                rows.append(row | {"success": score, "score": score, "harm": 0.05})
    return rows


def make_curves() -> pd.DataFrame:
    """Make metrics of six half hours: `none` arrives from 2 h on, all others from 1 h on."""
    rows = [
        {"arm": arm, "seed": seed, "step": 9_000 * n, "success": float(n > (4 if none else 2))}
        for arm in ARMS
        for n in range(1, 7)
        for seed in range(SEEDS)
        for none in [arm == "none"]
    ]
    return pd.DataFrame(rows)


def make_result(better: dict[str, float] | None = None) -> SimpleNamespace:
    """Make the parts of a `Result` that the page reads."""
    rows = make_rows(better)
    run_config = SimpleNamespace(seeds=SEEDS, steps=180_000, episodes=256)
    suite = SimpleNamespace(points=lambda: range(3))
    experiment = SimpleNamespace(run_config=run_config, split=lambda name: suite)
    return SimpleNamespace(
        experiment=experiment,
        rows=lambda split: rows,
        scores=pd.DataFrame(rows),
        curves=make_curves(),
    )


def test_one_hour_is_18000_steps():
    curves = arrival_curves(make_curves())
    assert list(curves) == list(ARMS)
    assert curves["none"].index.tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert curves["none"].shape == (6, SEEDS)


def test_hours_until_is_the_median_over_seeds():
    success = pd.DataFrame([[0.0, 0.6, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.4]], [1.0, 2.0, 3.0])
    assert hours_until(success) == 2.0
    assert hours_until(success[[0, 2]]) == 2.0  # of an even number the lower one
    assert hours_until(success[[2]]) == np.inf
    assert hours_until(success * np.nan) == np.inf


def test_outcomes_are_shares_that_sum_to_1():
    shares = outcomes(pd.DataFrame(make_rows()))[["arrives", "never arrives", "crashes"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares["crashes"] == 0.05).all()


def test_page_has_contrasts_a_table_per_world_and_figures(tmp_path):
    better = {"fear": 0.2, "potential_-1_constant": 0.1}
    results = {"Drive": make_result(better), "Timid": make_result()}
    result = page(results, "python -m runs.first_drive")
    assert "8 arms, 5 seeds each, 180,000 steps (10 hours driven) a seed, 256 episodes" in (
        result.text
    )
    lines = [line.replace(" ", "") for line in result.text.splitlines()]
    assert any(line.startswith("|none|2.5|0.920|0.520[") for line in lines)
    assert any(line.startswith("|fear|1.5|1.120|0.720[") for line in lines)
    assert "constant + head less it: fear -0.100 [" in result.text
    assert any("|-0.100[" in line and "(potential_-1_constant)" in line for line in lines)
    assert result.text.count("\n## ") == 2 and "`python -m runs.first_drive`" in result.text
    result.write(tmp_path)
    for name in ("first_drive", "first_drive-Drive", "first_drive-Timid"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_outcomes_of_25_arms_under_14_shifts_are_drawn_within_two_minutes(tmp_path):
    places = [("none", 0.0), *((f"shift {i}", 1.0) for i in range(14))]
    rows = [
        {"arm": f"arm {i}", "shift": shift, "severity": severity, "success": 0.5, "harm": 0.2}
        for i in range(25)
        for shift, severity in places
    ]
    started = time.monotonic()
    draw_outcomes("Drive", pd.DataFrame(rows), tmp_path / "outcomes.png")
    assert time.monotonic() - started < 120  # with shared axes it takes the cube of their number
