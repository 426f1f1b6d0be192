"""The calibration: what others read of it, its verdicts, its trainings, and the command."""

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
unchecked = pytest.fixture(autouse=True)(without_key_check)
SIZES = SpecialistConfigs(small_study.CONFIG, small_study.CONFIG)


def level(severity=0.0, nominal=0.9, specialist=0.9, random=0.1, shift="ice", apart=0.01) -> Level:
    """A level whose intervals reach `apart` to either side."""
    numbers = [value + way * apart for value in (random, nominal, specialist) for way in (0, -1, 1)]
    return Level("Road", shift, "dynamics", severity, *numbers, 8)


AXIS = [level(), level(0.5, 0.7, 0.8), level(1.0, 0.3, 0.6)]


# --- what others read -------------------------------------------------------------------------


def test_a_score_is_put_between_random_and_specialist():
    assert normalise(0.1, 0.1, 0.6) == 0 and normalise(0.6, 0.1, 0.6) == 1
    assert normalise(0.35, 0.1, 0.6) == pytest.approx(0.5)


def test_what_is_written_is_read(tmp_path):
    file = calibration.calibration_path("Road", tmp_path)
    calibration.write_calibration(file, [level(shift="none"), *AXIS])
    assert calibration.read_calibration(file) == [
        pytest.approx(one) if not isinstance(one, str) else one
        for one in [level(shift="none"), *AXIS]
    ]


def test_the_ceiling_is_the_better_of_nominal_and_specialist(tmp_path):
    worse = [level(shift="none"), level(0.5, nominal=0.8, specialist=0.7), AXIS[2]]
    calibration.write_calibration(calibration.calibration_path("Road", tmp_path), worse)
    found = reference_scores("Road", tmp_path)
    assert found["none", 0.0] == (0.1, 0.9)
    assert found["ice", 0.5] == (0.1, 0.8) and found["ice", 1.0] == (0.1, 0.6)


def test_rows_are_normalised_where_all_of_them_can_be(tmp_path):
    calibration.write_calibration(
        calibration.calibration_path("Road", tmp_path), [level(shift="none"), *AXIS]
    )
    rows = [
        {"arm": "none", "shift": "none", "severity": 0.0, "score": 0.9},
        {"arm": "none", "shift": "ice", "severity": "1.0", "score": 0.35},
    ]
    found = normalised_rows(rows, "Road", tmp_path)
    assert [row["score"] for row in found] == pytest.approx([1.0, 0.5])
    assert rows[1]["score"] == 0.35 and found[1]["arm"] == "none"
    elsewhere = [*rows, {"shift": "ice", "severity": 0.25, "score": 0.5}]
    assert normalised_rows(elsewhere, "Road", tmp_path) is None
    assert (
        normalised_rows(rows, "Sea", tmp_path) is None and reference_scores("Sea", tmp_path) is None
    )


def test_where_chance_does_as_well_nothing_is_divided(tmp_path):
    flat = level(1.0, nominal=0.15, specialist=0.18)
    calibration.write_calibration(
        calibration.calibration_path("Road", tmp_path), [level(shift="none"), flat]
    )
    assert set(reference_scores("Road", tmp_path)) == {("none", 0.0)}


@pytest.mark.parametrize("text", ["what,else\n1,2\n", "env,shift\nRoad,ice\n"])
def test_another_file_is_refused(text, tmp_path):
    calibration.calibration_path("Road", tmp_path).write_text(text)
    with pytest.raises(UserError, match="calibrate-Road.csv is no calibration: delete it"):
        reference_scores("Road", tmp_path)


def test_an_adapted_suite_has_a_file_of_its_own(tmp_path):
    assert calibration.calibration_path("gymnax:CartPole-v1", tmp_path).parent == tmp_path


def test_what_is_recorded_can_be_read():
    for file in (ROOT / "runs/results").glob("calibrate-*.csv"):
        levels = calibration.read_calibration(file)
        assert levels[0].shift == "none" and len(levels_by_shift(levels)) > 1
        assert all(0 <= value <= 1 for one in levels for value in (one.random, one.ceiling))


# --- verdicts ---------------------------------------------------------------------------------


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
def test_a_shift_is_flagged_for_what_is_wrong_with_it(levels, verdict):
    assert calibration_flags(levels) == verdict


def test_levels_are_sorted_by_shift_and_severity():
    others = [level(0.5, shift="fog"), level(shift="fog")]
    found = levels_by_shift([level(shift="none"), *AXIS[::-1], *others])
    assert list(found) == ["ice", "fog"]
    assert [one.severity for one in found["ice"]] == [0.0, 0.5, 1.0]


# --- training ---------------------------------------------------------------------------------


class Told:
    """Progress as a list."""

    def __init__(self, stop_at=None):
        self.stop_at, self.said, self.done = stop_at, [], []

    def advance(self, what, done, fresh=True):
        self.done.append((what, done, fresh))

    def say(self, line):
        self.said.append(line)

    def stopped(self):
        return bool(self.done) and self.done[-1][:2] == self.stop_at


@pytest.fixture(scope="module")
def traced():
    """The functions that were traced, once for each program."""
    found = []

    def note(name, fn, *args, **settings):
        found.append(name)
        return fn(*args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_train", "_score"):
            patch.setattr(specialists, name, partial(note, name, getattr(specialists, name)))
        yield found


@pytest.fixture(scope="module")
def training(traced):
    """What is compiled, for all tests."""
    return SpecialistTraining(small_study.suite().env, SIZES)


@pytest.fixture
def go(training, monkeypatch):
    """Calibrates into a folder -> (what was found, what was told)."""
    monkeypatch.setattr(specialists, "SpecialistTraining", lambda *_: training)

    def run(folder, suite=None, stop_at=None):
        told = Told(stop_at)
        return calibrate(suite or small_study.suite(), SIZES, folder, told, told.stopped), told

    return run


@pytest.fixture(scope="module")
def done(training, tmp_path_factory):
    """A calibration to its end: (folder, what was found, what was told)."""
    folder, told = tmp_path_factory.mktemp("calibration"), Told()
    with pytest.MonkeyPatch.context() as patch, jax.debug_key_reuse(False):
        patch.setattr(specialists, "SpecialistTraining", lambda *_: training)
        return folder, calibrate(small_study.suite(), SIZES, folder, told, told.stopped), told


def test_every_policy_is_scored_at_home_and_along_every_axis(done):
    _, found, told = done
    assert list(found) == ["force", "flip"]
    for part in found.values():
        assert part["non_finite"] == 0
        for policy in POLICIES:
            scores = np.array(part[policy])
            assert scores.shape == (SIZES.nominal.seeds, 3)
            assert ((scores >= 0) & (scores <= 1)).all()
    home = [np.array(part["nominal"])[:, 0] for part in found.values()]
    np.testing.assert_array_equal(*home)
    units = SIZES.nominal.chunks + 2 * (SIZES.special.chunks + 1)
    assert told.done[-1] == ("flip", units, True)
    counts = [count for _, count, _ in told.done]
    assert counts == sorted(counts)


def test_all_shifts_share_one_program_and_home_has_its_own_pool(done, traced):
    assert sorted(traced) == ["_score", "_train", "_train"]


def test_what_is_done_is_kept(done, go):
    folder, found, _ = done
    again, told = go(folder)
    assert again == found and not any(fresh for *_, fresh in told.done)


def test_a_shift_that_is_re_ranged_is_calibrated_anew_and_only_that_one(done, go, tmp_path):
    folder, found, _ = done
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (nominal,) = folder.glob("nominal-*")
    (tmp_path / nominal.name).symlink_to(nominal)
    suite = small_study.suite()
    other = next(s for s in load_suite("CartPole").shifts if s.name == "gravity")
    force, flip = suite.shifts
    changed = replace(suite, shifts=(replace(other, name="force"), flip))
    again, told = go(tmp_path, changed)
    assert again["flip"] == found["flip"]
    fresh = {what for what, _, fresh in told.done if fresh}
    assert fresh == {"force"}


def test_it_stops_between_chunks_and_goes_on_to_the_same_end(done, go, tmp_path):
    stopped, told = go(tmp_path, stop_at=("flip", SIZES.nominal.chunks + SIZES.special.chunks + 2))
    assert stopped is None and told.done[-1][0] == "flip"
    assert [path.name for path in tmp_path.glob("*.json")] == ["force.json"]
    assert go(tmp_path)[0] == done[1]


def test_a_specialist_starts_with_what_the_nominal_agent_knows_and_a_new_optimiser(training):
    home = pool_worlds(small_study.suite().worlds(jax.random.key(0), study.WORLDS), [0])
    fresh = training.start(home)
    taught, finite = training.run(SIZES.nominal, fresh, home, lambda chunks: None, lambda: False)
    warm = training.warm(taught.learner.agent, home).learner.agent.trained
    same, new = taught.learner.agent.trained.net, fresh.learner.agent.trained
    assert finite.all() and small_study.bits(warm.net) == small_study.bits(
        same
    ) != small_study.bits(new.net)
    assert small_study.bits(warm.opt_state) == small_study.bits(new.opt_state)


def test_a_random_policy_does_not_depend_on_who_acts(training):
    worlds = small_study.suite().worlds(jax.random.key(0), SIZES.nominal.episodes)
    ground = jax.tree.map(lambda leaf: leaf[:3], worlds)
    home = pool_worlds(worlds, [0])
    one = training.start(home).learner.agent
    two = jax.tree.map(lambda leaf: 0 * leaf, one)
    first, second = training.scores(one, two, ground), training.scores(two, one, ground)
    assert first["random"] == second["random"]
    assert first["nominal"] == second["specialist"] and first["specialist"] == second["nominal"]


def test_now_and_later_every_action_is_random():
    world = small_study.suite().worlds(jax.random.key(0), 2)
    late = unscheduled(jax.tree.map(lambda leaf: leaf[0, 0], world))
    mad = with_random_actions(late)
    assert float(mad.channel.flip) == float(mad.later.channel.flip) == 1.0
    assert with_random_actions(world).later is None


def test_the_half_at_the_end_of_the_axis_is_in_the_pool():
    worlds = small_study.suite().worlds(jax.random.key(0), 2)
    flips = np.asarray(pool_worlds(worlds, [3, 4, 4]).channel.flip)
    np.testing.assert_allclose(flips, [0.25, 0.25, 0.5, 0.5, 0.5, 0.5])


# --- the command ------------------------------------------------------------------------------


def made_up() -> dict[str, dict]:
    """Shift -> scores of three seeds at home and at two severities."""
    scores = {
        "random": [[0.1, 0.0, 0.0]] * 3,
        "nominal": [[1.0, 0.8, 0.2], [1.0, 0.6, 0.2], [1.0, 0.7, 0.2]],
        "specialist": [[0.9, 0.9, 0.6]] * 3,
        "non_finite": 1,
    }
    return {"force": scores, "flip": scores | {"specialist": [[0.9, 0.4, 0.3]] * 3}}


def test_seeds_become_levels_with_intervals():
    levels = study.level_rows(small_study.suite(), made_up())
    assert [(one.shift, one.severity) for one in levels] == [
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


def test_a_nominal_agent_that_learned_nothing_is_no_judge():
    found = made_up()
    levels = study.level_rows(small_study.suite(), found)
    poor = [one._replace(nominal=0.4) for one in levels]
    said = "It has not learned its own world"
    assert said in study.markdown(small_study.suite(), poor, found, SIZES, "it")
    assert said not in study.markdown(small_study.suite(), levels, found, SIZES, "it")


def test_the_command_writes_table_scores_and_figure(tmp_path, monkeypatch, capsys):
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


def test_the_sizes_are_those_of_a_comparison():
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
def test_the_command_runs_as_a_user_runs_it(tmp_path):
    command = [sys.executable, "-m", "runs.calibrate", "--smoke", "--env", "Pendulum"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert "# Pendulum: how hard its shifts are" in done.stdout
    parts = [json.loads(path.read_text()) for path in tmp_path.glob("*/*.json")]
    assert len(parts) == 2 and all(len(part["random"]) == 3 for part in parts)


def test_an_unusable_folder_is_one_line(tmp_path, monkeypatch):
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


def test_an_unknown_shift_is_refused():
    with pytest.raises(UserError, match="unknown shift 'snow'"):
        study.design(Settings(shifts=("snow",)))
