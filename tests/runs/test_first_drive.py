"""First drive: learning curves, outcomes per seed, contrasts, report and a smoke run."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runs.analysis.contrasts import head_contrasts
from runs.errors import UserError
from runs.first_drive import (
    arrival_curve,
    figure,
    hours_until,
    main,
    markdown,
    outcomes,
    per_seed,
    successes,
    summarise,
)

ROOT = Path(__file__).parents[2]
KINDS = ("", "_sham", "_untrained", "_constant")
ARMS = ("none", "constant_plus", *(f"fear{kind}" for kind in KINDS))
SEEDS = 5


def rows(better: dict[str, float] | None = None) -> list[dict]:
    """Make score rows: success 0.9 at home, 0.6 and 0.4 on ice, plus seed and arm effects."""
    return [
        {
            "arm": arm,
            "seed": seed,
            "shift": shift,
            "severity": severity,
            "success": success + 0.01 * seed + (better or {}).get(arm, 0.0),
            "harm": 0.05,
        }
        for arm in ARMS
        for shift, severity, success in (("none", 0.0, 0.9), ("ice", 0.5, 0.6), ("ice", 1.0, 0.4))
        for seed in range(SEEDS)
    ]


def curve(arm: str) -> tuple:
    onset = 3 if arm == "none" else 1
    success = np.clip(np.arange(6)[:, None] - onset, 0, 1) * np.ones(SEEDS)
    return np.arange(1, 7) * 0.5, success.astype(float)


CURVES = {arm: curve(arm) for arm in ARMS}


def test_one_hour_is_18000_steps():
    lines = [{"step": 18_000 * n, "metrics": {"success": [0.1 * n, None]}} for n in (1, 2)]
    hours, success = arrival_curve(lines)
    np.testing.assert_array_equal(hours, [1, 2])
    np.testing.assert_array_equal(success, [[0.1, np.nan], [0.2, np.nan]])


def test_hours_until_is_the_median_over_seeds():
    hours = np.array([1.0, 2.0, 3.0])
    success = np.array([[0.0, 0.6, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.4]])
    assert hours_until(hours, success) == 2.0
    assert hours_until(hours, success[:, 2:]) == np.inf
    assert hours_until(hours, np.full((3, 3), np.nan)) == np.inf


def test_per_seed_averages_shifts_and_separates_outcomes():
    shares = per_seed(rows(), "fear")
    np.testing.assert_allclose(shares["success"], 0.5 + 0.01 * np.arange(SEEDS))
    np.testing.assert_allclose(shares["crash"], 0.05)
    np.testing.assert_allclose(sum(shares.values()), 1.0)
    np.testing.assert_allclose(per_seed(rows(), "fear", away=False)["success"][0], 0.9)


def test_summary_has_one_line_per_arm():
    lines = summarise(rows({"fear": 0.2}), CURVES)
    assert [line.arm for line in lines] == list(ARMS)
    assert lines[0].gain is None and lines[0].hours == 2.5
    assert lines[2].gain.value == pytest.approx(0.2) and lines[2].hours == 1.5
    assert lines[2].away.value == pytest.approx(lines[0].away.value + 0.2)


def test_report_has_tables_and_figures(tmp_path):
    scores = {"Drive": rows(), "Timid": rows()}
    lines = {world: summarise(scores[world], CURVES) for world in scores}
    contrasts = head_contrasts(
        {world: partial(successes, scores[world]) for world in scores}, ["fear"]
    )
    run_config = SimpleNamespace(seeds=SEEDS, chunks=10, chunk_steps=18_000, episodes=256)
    suite = SimpleNamespace(points=lambda: range(3))
    designs = {world: SimpleNamespace(run_config=run_config, suite=suite) for world in scores}
    text = markdown(lines, contrasts, designs, "python -m runs.first_drive")
    assert "6 arms, 5 seeds each, 180,000 steps (10 hours driven) a seed, 256 episodes" in text
    assert "none | 2.5 | 0.920 | 0.520 [" in text
    assert text.count("\n## ") == 2 and "`python -m runs.first_drive`" in text
    figure(lines, dict.fromkeys(scores, CURVES), tmp_path / "a.png")
    outcomes(scores["Drive"], "Drive", tmp_path / "b.png")
    for name in "ab":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--seeds 2", "an interval needs at least 3 seeds"),
        ("--heads", "name at least one head"),
        ("--smoke --record", "leave --smoke out"),
    ],
)
def test_bad_input_is_refused(argv, complaint):
    with pytest.raises(UserError, match=complaint):
        main(argv.split())


@pytest.mark.slow
def test_smoke_run_prints_the_report(tmp_path):
    command = [sys.executable, "-m", "runs.first_drive", "--smoke", "--seeds", "3"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stderr
    assert "# Learning to drive" in ended.stdout and "Timid:" in ended.stdout
