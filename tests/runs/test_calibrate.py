"""Calibration of shifts: files and normalised scores, flags, training and scoring, command."""

import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from envs import load_suite
from envs.schedule import unscheduled
from runs import calibrate as study
from runs import study_run
from runs.analysis import calibration
from runs.analysis.calibration import (
    Level,
    calibration_flags,
    levels_by_shift,
    normalise,
    normalised_rows,
    reference_scores,
)
from runs.calibrate import POLICIES, Settings, calibrate, main
from runs.engine import jax_backend
from runs.engine.evaluate import draw_points, with_disturbances
from runs.errors import Interrupted, UserError
from tests.runs import small_study
from tests.runs.study_job import make_job, one_backend, table_rows

ROOT = Path(__file__).parents[2]
no_key_check = pytest.fixture(autouse=True)(small_study.without_key_check_in_threads)
AGENT = replace(small_study.CONFIG.agent, anneal=8)
TRACED = "_collect", "_update_heads", "_update_agent", "_evaluate"
CONFIG, CHUNKS = replace(small_study.CONFIG, agent=AGENT), 2  # of a specialist


def level(severity=0.0, nominal=0.9, specialist=0.9, random=0.1, shift="ice", apart=0.01) -> Level:
    """Make a level whose confidence intervals reach `apart` to either side."""
    numbers = [value + way * apart for value in (random, nominal, specialist) for way in (0, -1, 1)]
    return Level("Road", shift, "dynamics", severity, *numbers, 8)


def write_calibration(folder, levels) -> None:
    """Write the calibration of Road to a folder."""
    path = calibration.calibration_path("Road", folder)
    path.write_text(calibration.calibration_csv(levels))


AXIS = [level(), level(0.5, 0.7, 0.8), level(1.0, 0.3, 0.6)]


# --- calibration files -----------------------------------------------------------------------


def test_normalise_maps_random_to_0_and_specialist_to_1():
    assert normalise(0.1, 0.1, 0.6) == 0 and normalise(0.6, 0.1, 0.6) == 1
    assert normalise(0.35, 0.1, 0.6) == pytest.approx(0.5)


def test_calibration_file_round_trip(tmp_path):
    file = calibration.calibration_path("Road", tmp_path)
    file.write_text(calibration.calibration_csv([level(shift="none"), *AXIS]))
    assert calibration.read_calibration(file) == [
        pytest.approx(value) if not isinstance(value, str) else value
        for value in [level(shift="none"), *AXIS]
    ]


def test_ceiling_is_the_better_of_nominal_and_specialist(tmp_path):
    worse = [level(shift="none"), level(0.5, nominal=0.8, specialist=0.7), AXIS[2]]
    write_calibration(tmp_path, worse)
    references = reference_scores("Road", tmp_path)
    assert references["none", 0.0] == (0.1, 0.9)
    assert references["ice", 0.5] == (0.1, 0.8) and references["ice", 1.0] == (0.1, 0.6)


def test_rows_are_normalised_only_if_all_of_them_can_be(tmp_path):
    write_calibration(tmp_path, [level(shift="none"), *AXIS])
    rows = [
        {"arm": "none", "shift": "none", "severity": 0.0, "score": 0.9},
        {"arm": "none", "shift": "ice", "severity": "1.0", "score": 0.35},
    ]
    normalised = normalised_rows(rows, "Road", tmp_path)
    assert [row["score"] for row in normalised] == pytest.approx([1.0, 0.5])
    assert rows[1]["score"] == 0.35 and normalised[1]["arm"] == "none"
    rows_off_the_axis = [*rows, {"shift": "ice", "severity": 0.25, "score": 0.5}]
    assert normalised_rows(rows_off_the_axis, "Road", tmp_path) is None
    assert (
        normalised_rows(rows, "Sea", tmp_path) is None and reference_scores("Sea", tmp_path) is None
    )


def test_levels_where_random_is_as_good_have_no_reference_scores(tmp_path):
    flat = level(1.0, nominal=0.15, specialist=0.18)
    write_calibration(tmp_path, [level(shift="none"), flat])
    assert set(reference_scores("Road", tmp_path)) == {("none", 0.0)}


@pytest.mark.parametrize("text", ["what,else\n1,2\n", "env,shift\nRoad,ice\n"])
def test_file_that_is_not_a_calibration_is_refused(text, tmp_path):
    calibration.calibration_path("Road", tmp_path).write_text(text)
    with pytest.raises(UserError, match="calibrate-Road.csv is not a calibration: delete it"):
        reference_scores("Road", tmp_path)


def test_suite_name_with_a_colon_gives_a_file_in_the_folder(tmp_path):
    assert calibration.calibration_path("gymnax:CartPole-v1", tmp_path).parent == tmp_path


def test_recorded_calibrations_can_be_read():
    for file in (ROOT / "runs/results").glob("calibrate-*.csv"):
        levels = calibration.read_calibration(file)
        assert levels[0].shift == "none" and len(levels_by_shift(levels)) > 1
        assert all(0 <= value <= 1 for level in levels for value in (level.random, level.ceiling))


# --- flags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        (AXIS, []),
        ([level(), level(0.5, 0.85), level(1.0, 0.81)], ["does nothing"]),
        ([level(), level(0.5, 0.79), level(1.0, 0.78)], []),
        ([level(), level(1.0, 0.3, 0.49)], ["cannot be solved"]),
        ([level(), level(1.0, 0.55, 0.3)], []),
        ([level(), level(0.5, 0.3, 0.6, random=0.55), level(1.0, 0.2, 0.6)], ["chance will do"]),
        ([level(), level(0.5, 0.5), level(1.0, 0.6)], ["not harder with severity"]),
        ([level(), level(0.5, 0.5), level(1.0, 0.515)], []),
    ],
)
def test_calibration_flags_name_each_defect(levels, verdict):
    assert calibration_flags(levels) == verdict


def test_levels_are_grouped_by_shift_and_sorted_by_severity():
    others = [level(0.5, shift="fog"), level(shift="fog")]
    by_shift = levels_by_shift([level(shift="none"), *AXIS[::-1], *others])
    assert list(by_shift) == ["ice", "fog"]
    assert [item.severity for item in by_shift["ice"]] == [0.0, 0.5, 1.0]


# --- training and scoring -----------------------------------------------------------------------


SUITE = small_study.suite()


def calibrate_into(folder, suite=SUITE, stop_at=float("inf")):
    """Calibrate into a folder, on one backend -> (results by shift, recorded progress)."""
    job = make_job(Settings(), folder, stop_at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_run, "make_backend", one_backend)
        return calibrate(job, suite, CONFIG, CHUNKS), job.progress


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """Finished calibration: (folder, results by shift, progress, functions that were traced)."""
    folder, traced = tmp_path_factory.mktemp("calibration"), []

    def record_call(name, fn, *args, **settings):
        traced.append(name)
        return fn(*args, **settings)

    with pytest.MonkeyPatch.context() as patch, jax.debug_key_reuse(False):
        for name in TRACED:
            wrapped = partial(record_call, name, getattr(jax_backend, name))
            patch.setattr(jax_backend, name, wrapped)
        return folder, *calibrate_into(folder), traced


def assert_same_results(first, second):
    """All scores of two calibrations are the same."""
    assert first.keys() == second.keys()
    for shift, scores in first.items():
        for policy in (*POLICIES, "non_finite"):
            np.testing.assert_array_equal(scores[policy], second[shift][policy])


@pytest.mark.slow
def test_every_policy_is_scored_at_home_and_at_every_severity(calibrated):
    _, results, progress, _ = calibrated
    assert list(results) == ["force", "flip"]
    for scores in results.values():
        assert scores["non_finite"] == 0
        for policy in POLICIES:
            assert scores[policy].shape == (CONFIG.seeds, 3)
            assert ((scores[policy] >= 0) & (scores[policy] <= 1)).all()
    np.testing.assert_array_equal(*[scores["nominal"][:, 0] for scores in results.values()])
    assert progress.fresh == CONFIG.chunks + 2 * CHUNKS
    assert progress.done == progress.total == CONFIG.updates * progress.fresh


@pytest.mark.slow
def test_all_shifts_share_their_compiled_programs(calibrated):
    assert Counter(calibrated[-1]) == dict.fromkeys(TRACED, 2)


@pytest.mark.slow
def test_finished_calibration_trains_nothing_again(calibrated):
    folder, results, *_ = calibrated
    again, progress = calibrate_into(folder)
    assert_same_results(again, results)
    assert progress.fresh == 0 and progress.done == progress.total


@pytest.mark.slow
def test_only_a_changed_shift_is_trained_again(calibrated, tmp_path):
    folder, results, *_ = calibrated
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    force, flip = SUITE.shifts
    other = next(s for s in load_suite("CartPole").shifts if s.name == "gravity")
    changed = replace(SUITE, shifts=(replace(other, name="force"), flip))
    again, progress = calibrate_into(tmp_path, changed)
    assert_same_results({"flip": again["flip"]}, {"flip": results["flip"]})
    assert progress.fresh == CHUNKS
    trained = sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir())
    assert trained == ["flip", "force", "force", "nominal"]


@pytest.mark.slow
def test_stopped_and_resumed_calibration_gives_the_same_results(calibrated, tmp_path):
    chunk = CONFIG.chunks + CHUNKS + 1  # in the midst of the second specialist
    with pytest.raises(Interrupted):
        calibrate_into(tmp_path, stop_at=CONFIG.updates * chunk)
    results, progress = calibrate_into(tmp_path)
    assert_same_results(results, calibrated[1])
    assert progress.fresh == CONFIG.chunks + 2 * CHUNKS - chunk


@pytest.mark.slow
def test_seeds_may_have_episodes_of_their_own_and_random_actions_depend_on_no_agent():
    small = small_study.make_study(small_study.ARMS["none"], replace(CONFIG, episodes=16))
    backend, points = small.backend, draw_points(small.suite, 4, 0)
    points = points._replace(worlds=with_disturbances(points.worlds, flip=1.0))
    first, second = jax.random.split(jax.random.key(3))
    learner = backend.init(small.phase).learner

    def lengths(key, learner=learner):
        scores = backend.evaluate(learner, CONFIG.agent, points._replace(key=key), lambda: False)
        return np.array([score["length"] for score in scores])

    own = lengths(jax.numpy.stack([first, second]))
    np.testing.assert_array_equal(own[:, 0], lengths(first)[:, 0])
    np.testing.assert_array_equal(own[:, 1], lengths(second)[:, 1])
    assert (own[:, 0] != own[:, 1]).any()
    zeros = jax.tree.map(lambda leaf: 0 * leaf, learner)
    np.testing.assert_array_equal(lengths(first, zeros), lengths(first))


def test_random_actions_cover_current_and_scheduled_channel():
    world = small_study.suite().worlds(jax.random.key(0), 2)
    scheduled_world = unscheduled(jax.tree.map(lambda leaf: leaf[0, 0], world))
    random_world = with_disturbances(scheduled_world, flip=1.0)
    assert float(random_world.channel.flip) == float(random_world.scheduled.channel.flip) == 1.0
    assert with_disturbances(world, flip=1.0).scheduled is None


# --- the command ------------------------------------------------------------------------------


def made_up() -> dict[str, dict]:
    """Make scores of three seeds at home and at two severities, by shift and policy."""
    scores = {
        "random": [[0.1, 0.0, 0.0]] * 3,
        "nominal": [[1.0, 0.8, 0.2], [1.0, 0.6, 0.2], [1.0, 0.7, 0.2]],
        "specialist": [[0.9, 0.9, 0.6]] * 3,
        "non_finite": 1,
    }
    return {"force": scores, "flip": scores | {"specialist": [[0.9, 0.4, 0.3]] * 3}}


def test_level_rows_have_means_and_t_intervals_over_seeds():
    levels = study.level_rows(small_study.suite(), made_up())
    assert [(level.shift, level.severity) for level in levels] == [
        ("none", 0.0),
        *[(shift, severity) for shift in ("force", "flip") for severity in (0.0, 0.5, 1.0)],
    ]
    home, _, half, _ = levels[:4]
    assert (home.random, home.nominal, home.specialist, home.seeds) == (
        pytest.approx(0.1),
        1.0,
        1.0,
        3,
    )
    assert half.nominal == pytest.approx(0.7) and half.specialist == pytest.approx(0.9)
    t = 4.302653 * 0.1 / 3**0.5
    assert (half.nominal_low, half.nominal_high) == pytest.approx((0.7 - t, 0.7 + t))


def test_page_warns_if_the_nominal_agent_did_not_learn():
    home = study.level_rows(small_study.suite(), made_up())[0]
    warning = "It has not learned its own world"
    assert warning in study.summary(home._replace(nominal=0.4))
    assert warning not in study.summary(home)


def test_command_writes_table_scores_and_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.setattr(study, "calibrate", lambda *_: made_up())
    monkeypatch.setattr(study, "design", lambda settings: (small_study.suite(), CONFIG, CHUNKS))
    monkeypatch.setattr("runs.cli.study.RESULTS", tmp_path / "results")
    assert main(["--env", "CartPole", "--record", "--out", str(tmp_path / "logs")]) == 0
    for folder in ("results", "logs"):
        files = {path.name for path in (tmp_path / folder).glob("calibrate*")}
        assert files == {f"calibrate-CartPole.{kind}" for kind in ("csv", "md", "png")}
    text = (tmp_path / "results/calibrate-CartPole.md").read_text()
    rows = table_rows(text)
    row = ["force", "dynamics", "0.70 0.20", "0.90 0.60", "0.00 [0.00, 0.00]", "0.20 [0.20, 0.20]"]
    assert [*row, "0.60 [0.60, 0.60]", "0.90", "fine"] in rows
    assert [row[-1] for row in rows if row[:1] == ["flip"]] == ["cannot be solved"]
    assert "numbers: 2." in text and text in capsys.readouterr().out
    assert reference_scores("CartPole", tmp_path / "results")["force", 1.0] == (0.0, 0.6)


def test_nominal_sizes_equal_those_of_a_comparison_and_a_specialist_gets_45_percent_of_them():
    from runs.compare import Settings as Comparison
    from runs.compare import make_experiment

    compared = make_experiment(Comparison(env="Drive", seeds=4)).run_config
    _, nominal, chunks = study.design(Settings(env="Drive", seeds=4))
    names = ("agent", "num_envs", "num_steps", "episodes", "seeds", "steps")
    for name in names:
        assert getattr(nominal, name) == getattr(compared, name), name
    assert chunks / nominal.chunks == pytest.approx(0.45, abs=0.02)


def test_unknown_shift_is_refused():
    with pytest.raises(UserError, match="unknown shift 'snow'"):
        study.design(Settings(shifts=("snow",)))
