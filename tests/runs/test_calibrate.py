"""Calibration of shifts: files and normalised scores, flags, training of specialists, command."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from envs import load_suite
from envs.schedule import unscheduled
from runs import calibrate as study
from runs.analysis import calibration
from runs.analysis.calibration import (
    Level,
    calibration_flags,
    levels_by_shift,
    normalise,
    normalised_rows,
    reference_scores,
)
from runs.calibrate import Settings, calibrate, check, main
from runs.engine import specialists
from runs.engine.specialists import (
    POLICIES,
    SpecialistConfigs,
    SpecialistTraining,
    pool_worlds,
    with_random_actions,
)
from runs.errors import UserError
from tests.runs import small_study
from tests.runs.small_study import without_key_check

ROOT = Path(__file__).parents[2]
no_key_check = pytest.fixture(autouse=True)(without_key_check)
SIZES = SpecialistConfigs(small_study.CONFIG, small_study.CONFIG)


def level(severity=0.0, nominal=0.9, specialist=0.9, random=0.1, shift="ice", apart=0.01) -> Level:
    """Make a level whose confidence intervals reach `apart` to either side."""
    numbers = [value + way * apart for value in (random, nominal, specialist) for way in (0, -1, 1)]
    return Level("Road", shift, "dynamics", severity, *numbers, 8)


AXIS = [level(), level(0.5, 0.7, 0.8), level(1.0, 0.3, 0.6)]


# --- calibration files -----------------------------------------------------------------------


def test_normalise_maps_random_to_0_and_specialist_to_1():
    assert normalise(0.1, 0.1, 0.6) == 0 and normalise(0.6, 0.1, 0.6) == 1
    assert normalise(0.35, 0.1, 0.6) == pytest.approx(0.5)


def test_calibration_file_round_trip(tmp_path):
    file = calibration.calibration_path("Road", tmp_path)
    calibration.write_calibration(file, [level(shift="none"), *AXIS])
    assert calibration.read_calibration(file) == [
        pytest.approx(value) if not isinstance(value, str) else value
        for value in [level(shift="none"), *AXIS]
    ]


def test_ceiling_is_the_better_of_nominal_and_specialist(tmp_path):
    worse = [level(shift="none"), level(0.5, nominal=0.8, specialist=0.7), AXIS[2]]
    calibration.write_calibration(calibration.calibration_path("Road", tmp_path), worse)
    references = reference_scores("Road", tmp_path)
    assert references["none", 0.0] == (0.1, 0.9)
    assert references["ice", 0.5] == (0.1, 0.8) and references["ice", 1.0] == (0.1, 0.6)


def test_rows_are_normalised_only_if_all_of_them_can_be(tmp_path):
    calibration.write_calibration(
        calibration.calibration_path("Road", tmp_path), [level(shift="none"), *AXIS]
    )
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
    calibration.write_calibration(
        calibration.calibration_path("Road", tmp_path), [level(shift="none"), flat]
    )
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


# --- training ---------------------------------------------------------------------------------


class RecordedProgress:
    """Records the progress and messages of a calibration; stops at `stop_at`."""

    def __init__(self, stop_at=None):
        self.stop_at, self.messages, self.done = stop_at, [], []

    def advance(self, label, done, fresh=True):
        self.done.append((label, done, fresh))

    def say(self, line):
        self.messages.append(line)

    def stopped(self):
        return bool(self.done) and self.done[-1][:2] == self.stop_at


@pytest.fixture(scope="module")
def traced_names():
    """Names of the traced functions, one entry per compiled program."""
    names = []

    def record_call(name, fn, *args, **settings):
        names.append(name)
        return fn(*args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_train", "_score"):
            patch.setattr(specialists, name, partial(record_call, name, getattr(specialists, name)))
        yield names


@pytest.fixture(scope="module")
def training(traced_names):
    """Compiled training and scoring, shared by all tests."""
    return SpecialistTraining(small_study.suite().env, SIZES)


@pytest.fixture
def calibrate_into(training, monkeypatch):
    """Function that calibrates into a folder -> (results by shift, recorded progress)."""
    monkeypatch.setattr(specialists, "SpecialistTraining", lambda *_: training)

    def run_into(folder, suite=None, stop_at=None):
        progress = RecordedProgress(stop_at)
        return calibrate(
            suite or small_study.suite(), SIZES, folder, progress, progress.stopped
        ), progress

    return run_into


@pytest.fixture(scope="module")
def calibrated(training, tmp_path_factory):
    """Finished calibration: (folder, results by shift, recorded progress)."""
    folder, progress = tmp_path_factory.mktemp("calibration"), RecordedProgress()
    with pytest.MonkeyPatch.context() as patch, jax.debug_key_reuse(False):
        patch.setattr(specialists, "SpecialistTraining", lambda *_: training)
        return (
            folder,
            calibrate(small_study.suite(), SIZES, folder, progress, progress.stopped),
            progress,
        )


def test_every_policy_is_scored_at_home_and_at_every_severity(calibrated):
    _, results, progress = calibrated
    assert list(results) == ["force", "flip"]
    for scores_by_policy in results.values():
        assert scores_by_policy["non_finite"] == 0
        for policy in POLICIES:
            scores = np.array(scores_by_policy[policy])
            assert scores.shape == (SIZES.nominal.seeds, 3)
            assert ((scores >= 0) & (scores <= 1)).all()
    home = [np.array(scores_by_policy["nominal"])[:, 0] for scores_by_policy in results.values()]
    np.testing.assert_array_equal(*home)
    units = SIZES.nominal.chunks + 2 * (SIZES.special.chunks + 1)
    assert progress.done[-1] == ("flip", units, True)
    counts = [count for _, count, _ in progress.done]
    assert counts == sorted(counts)


def test_all_shifts_share_one_compiled_program(calibrated, traced_names):
    assert sorted(traced_names) == ["_score", "_train", "_train"]


def test_finished_calibration_computes_nothing_again(calibrated, calibrate_into):
    folder, results, _ = calibrated
    again, progress = calibrate_into(folder)
    assert again == results and not any(fresh for *_, fresh in progress.done)


def test_only_a_changed_shift_is_calibrated_again(calibrated, calibrate_into, tmp_path):
    folder, results, _ = calibrated
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (nominal,) = folder.glob("nominal-*")
    (tmp_path / nominal.name).symlink_to(nominal)
    suite = small_study.suite()
    other = next(s for s in load_suite("CartPole").shifts if s.name == "gravity")
    force, flip = suite.shifts
    changed = replace(suite, shifts=(replace(other, name="force"), flip))
    again, progress = calibrate_into(tmp_path, changed)
    assert again["flip"] == results["flip"]
    fresh = {label for label, _, fresh in progress.done if fresh}
    assert fresh == {"force"}


def test_stopped_and_resumed_calibration_gives_the_same_results(
    calibrated, calibrate_into, tmp_path
):
    stopped, progress = calibrate_into(
        tmp_path, stop_at=("flip", SIZES.nominal.chunks + SIZES.special.chunks + 2)
    )
    assert stopped is None and progress.done[-1][0] == "flip"
    assert [path.name for path in tmp_path.glob("*.json")] == ["force.json"]
    assert calibrate_into(tmp_path)[0] == calibrated[1]


def test_specialist_starts_from_nominal_weights_and_a_new_optimiser(training):
    home = pool_worlds(small_study.suite().worlds(jax.random.key(0), study.WORLDS), [0])
    fresh = training.start(home)
    trained, finite = training.run(SIZES.nominal, fresh, home, lambda chunks: None, lambda: False)
    warm_state = training.warm(trained.learner.agent, home).learner.agent.train_state
    trained_net, fresh_state = (
        trained.learner.agent.train_state.net,
        fresh.learner.agent.train_state,
    )
    assert finite.all() and small_study.bits(warm_state.net) == small_study.bits(
        trained_net
    ) != small_study.bits(fresh_state.net)
    assert small_study.bits(warm_state.opt_state) == small_study.bits(fresh_state.opt_state)


def test_random_policy_scores_do_not_depend_on_the_agents(training):
    worlds = small_study.suite().worlds(jax.random.key(0), SIZES.nominal.episodes)
    points = jax.tree.map(lambda leaf: leaf[:3], worlds)
    home = pool_worlds(worlds, [0])
    agent = training.start(home).learner.agent
    other = jax.tree.map(lambda leaf: 0 * leaf, agent)
    first, second = training.scores(agent, other, points), training.scores(other, agent, points)
    assert first["random"] == second["random"]
    assert first["nominal"] == second["specialist"] and first["specialist"] == second["nominal"]


def test_random_actions_cover_current_and_scheduled_channel():
    world = small_study.suite().worlds(jax.random.key(0), 2)
    scheduled_world = unscheduled(jax.tree.map(lambda leaf: leaf[0, 0], world))
    random_world = with_random_actions(scheduled_world)
    assert float(random_world.channel.flip) == float(random_world.scheduled.channel.flip) == 1.0
    assert with_random_actions(world).scheduled is None


def test_pool_worlds_stacks_the_selected_points():
    worlds = small_study.suite().worlds(jax.random.key(0), 2)
    flips = np.asarray(pool_worlds(worlds, [3, 4, 4]).channel.flip)
    np.testing.assert_allclose(flips, [0.25, 0.25, 0.5, 0.5, 0.5, 0.5])


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


def test_report_warns_if_the_nominal_agent_did_not_learn():
    scores = made_up()
    levels = study.level_rows(small_study.suite(), scores)
    poor = [level._replace(nominal=0.4) for level in levels]
    warning = "It has not learned its own world"
    assert warning in study.markdown(small_study.suite(), poor, scores, SIZES, "it")
    assert warning not in study.markdown(small_study.suite(), levels, scores, SIZES, "it")


def test_command_writes_table_scores_and_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.setattr(study, "calibrate", lambda *_: made_up())
    monkeypatch.setattr(study, "design", lambda settings: (small_study.suite(), SIZES))
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    assert main(["--env", "CartPole", "--record", "--out", str(tmp_path / "logs")]) == 0
    files = {path.name for path in (tmp_path / "results").iterdir()}
    assert files == {f"calibrate-CartPole.{kind}" for kind in ("csv", "md", "png")}
    text = (tmp_path / "results/calibrate-CartPole.md").read_text()
    assert "Flagged: flip: cannot be solved." in text and "numbers: 2." in text
    row = "force | dynamics | 0.70 0.20 | 0.90 0.60 | 0.00 [0.00, 0.00] | 0.20 [0.20, 0.20] | "
    assert row + "0.60 [0.60, 0.60] | 0.90 | fine" in text
    assert text in capsys.readouterr().out
    assert reference_scores("CartPole", tmp_path / "results")["force", 1.0] == (0.0, 0.6)
    assert len(list((tmp_path / "logs").glob("CartPole-*/calibrate-CartPole.csv"))) == 1


def test_nominal_sizes_equal_those_of_a_comparison():
    from runs.compare import Settings as Compared
    from runs.compare import design as compared

    suite, sizes = study.design(Settings(env="Drive", seeds=4))
    run_config = compared(Compared(env="Drive", seeds=4)).run_config
    ours, theirs = (
        (p.agent, p.num_envs, p.num_steps, p.episodes, p.seeds, p.chunks * p.updates)
        for p in (replace(sizes.nominal, agent=replace(sizes.nominal.agent, anneal=0)),)
        for p in (p, replace(run_config, agent=replace(run_config.agent, anneal=0)))
    )
    assert ours == theirs
    assert study.steps(sizes.special) / study.steps(sizes.nominal) == pytest.approx(0.45, abs=0.02)
    assert sizes.special.agent.anneal == sizes.special.chunks * sizes.special.updates


@pytest.mark.slow
def test_command_runs_in_a_subprocess(tmp_path):
    command = [sys.executable, "-m", "runs.calibrate", "--smoke", "--env", "Pendulum"]
    process = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert process.returncode == 0, process.stderr
    assert "# Pendulum: how hard its shifts are" in process.stdout
    parts = [json.loads(path.read_text()) for path in tmp_path.glob("*/*.json")]
    assert len(parts) == 2 and all(len(part["random"]) == 3 for part in parts)


def test_unusable_folder_is_a_user_error(tmp_path, monkeypatch):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        main(["--smoke", "--env", "CartPole", "--out", str(tmp_path / "file")])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"env": "Drve"}, "unknown suite 'Drve'; did you mean Drive"),
        ({"env": "LunarLander-v3"}, "unknown suite"),
        ({"seeds": 2}, "--seeds 2: an interval needs"),
        ({"steps": -1}, "--steps -1"),
        ({"further": -1}, "--further -1"),
        ({"episodes": -1}, "--episodes -1"),
        ({"record": True, "smoke": True}, "leave --smoke out"),
        ({"record": True, "shifts": ("ice",)}, "leave --shifts out"),
    ],
)
def test_bad_input_is_refused(wrong, complaint):
    with pytest.raises(UserError, match=complaint):
        check(Settings(**wrong))


def test_unknown_shift_is_refused():
    with pytest.raises(UserError, match="unknown shift 'snow'"):
        study.design(Settings(shifts=("snow",)))
