"""Continual study: schedules, worlds, runs, report, settings and the command."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affect import Transition
from agents.ppo import PPO
from envs import load_suite
from runs import continual as study
from runs.adaptation import continual_report
from runs.adaptation.continual_report import contrasts, figure, finding, finite_scores, markdown
from runs.adaptation.continual_stream import (
    CHUNKS,
    StreamResult,
    StreamRunner,
    StreamSizes,
    StreamWorlds,
    make_stream_worlds,
    task_weights,
)
from runs.adaptation.jax_learners import LearnerSizes
from runs.adaptation.reward_arms import (
    CONTINUAL_CONTROLS,
    CONTROLS,
    TESTED,
    continual_arms,
    reward_blend,
    reward_free_arms,
)
from runs.adaptation.reward_mix import mixed_reward
from runs.continual import Settings, check, design
from runs.engine.checkpoint import Checkpoints
from runs.errors import UserError
from tests.runs import small_study
from tests.runs.small_study import without_key_check_in_threads

unchecked = pytest.fixture(autouse=True, scope="module")(without_key_check_in_threads)
STREAM = ("force", "flip", "force")
HEADS = ("fear", "curiosity")
AGENT = PPO(width=8, epochs=1, minibatches=2, lr=0.01)


# --- reward mixes and worlds --------------------------------------------------------------------


def test_arms_equal_those_of_the_reward_free_study():
    blend = reward_blend(HEADS, load_suite("CartPole"), AGENT)
    reward_free = {arm.name: arm for arm in reward_free_arms(HEADS, blend, AGENT.gamma)}
    continual = {arm.name: arm for arm in continual_arms(HEADS, blend, AGENT.gamma)}
    reward_free_names = {"plain": "zero", "old_critic": "zero_critic_kept"}
    renamed = [
        replace(reward_free[reward_free_names.get(name, name)], name=name) for name in continual
    ]
    assert renamed == list(continual.values())
    assert set(reward_free) - {reward_free_names.get(name, name) for name in continual} == {"true"}
    assert {reward_free_names.get(name, name) for name in CONTINUAL_CONTROLS} == set(CONTROLS)
    assert not continual["frozen"].learns and continual["old_critic"].critic_kept


@pytest.mark.parametrize(
    ("schedule", "envs", "count"),
    [("always", 16, 16), ("rare", 16, 2), ("rare", 4, 1), ("never", 16, 0)],
)
def test_task_weights_of_each_schedule(schedule, envs, count):
    weights = task_weights(schedule, envs)
    assert weights.shape == (1, envs) and weights.sum() == count


def test_environments_with_task_weight_0_get_no_reward(runner):
    reward = np.arange(8.0).reshape(2, 4) + 1
    batch = Transition(*[None] * 3, reward, *[None] * 3, {})
    mix = runner.reward_mix(ARMS[1], "rare")._replace(task_weight=task_weights("rare", 4))
    signals = np.zeros((2, 4, len(runner.learners.blend.names)))
    np.testing.assert_array_equal(mixed_reward(mix, batch, signals)[:, 0], reward[:, 0])
    np.testing.assert_array_equal(mixed_reward(mix, batch, signals)[:, 1:], 0)


def test_stream_worlds_are_at_full_severity():
    suite = load_suite("Drive")
    worlds = make_stream_worlds(suite, ("ice", "cones", "ice"), episodes=4, base=0)
    assert worlds.names == ("home", "ice", "cones") and worlds.stages == (1, 2, 1)
    home, ice, cones = worlds.pools
    np.testing.assert_allclose(ice.params.grip, 0.06, rtol=1e-5)
    np.testing.assert_allclose(cones.params.closed, 0.42, rtol=1e-5)
    np.testing.assert_array_equal(cones.params.grip, home.params.grip)
    assert worlds.tests.params.grip.shape == (3, 4)


def test_two_heads_of_one_name_raise(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from affect import Mood, Curiosity\n")
    both = ("mood", f"{file}:Mood")
    with pytest.raises(UserError, match="two heads have the same name"):
        reward_blend(both, load_suite("Drive"), AGENT)


# --- a small study ------------------------------------------------------------------------------


BLEND = reward_blend(HEADS, small_study.suite(), AGENT)
ARMS = continual_arms(HEADS, BLEND, AGENT.gamma)


@pytest.fixture(scope="module")
def runner():
    """A runner in CartPole of 20 steps, on a stream of two shifts, one of which comes back."""
    suite = small_study.suite()
    sizes = LearnerSizes(seeds=3, rows=4, num_envs=4, num_steps=8, episodes=2, optimise=False)
    worlds = make_stream_worlds(suite, STREAM, sizes.episodes, sizes.base)
    stream_sizes = StreamSizes(home_updates=CHUNKS, stage_updates=2, evals=2, learners=sizes)
    return StreamRunner(
        suite, AGENT, AGENT, BLEND, stream_sizes, worlds
    )  # equal agents share compiled programs


class FakeProgress:
    """Progress that counts its calls and requests a stop after `stop_at` units."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.total, self.done, self.fresh = stop_at, 0, 0, 0

    def say(self, line: str) -> None:
        pass

    def advance(self, name: str, done: int, fresh: bool = True) -> None:
        self.done, self.fresh = done, self.fresh + fresh

    def stopped(self) -> bool:
        return self.stop_at is not None and self.done >= self.stop_at


SETTINGS = Settings(env="CartPole", heads=HEADS, pay=("always", "never"))


@pytest.fixture(scope="module")
def finished(runner, tmp_path_factory):
    """A finished study -> (folder, schedule -> arm -> result)."""
    out, progress = tmp_path_factory.mktemp("continual"), FakeProgress()
    stream_results = study.run_arms(runner, ARMS, SETTINGS, out, progress, progress.stopped)
    assert progress.done == progress.total
    return out, stream_results


def test_scores_in_every_world_at_every_evaluation(finished):
    _, results = finished
    assert list(results["never"]) == list(results["always"]) == [arm.name for arm in ARMS]
    for arms in results.values():
        for name, result in arms.items():
            times = 1 + len(STREAM) * 2
            assert result.scores["success"].shape == result.scores["return"].shape == (3, times, 3)
            assert result.success.shape == (3, 0 if name == "frozen" else times - 1)
            assert result.finite.all() and np.isfinite(result.scores["return"]).all()


def test_frozen_scores_are_constant_and_all_arms_start_alike(finished):
    _, results = finished
    frozen = results["never"]["frozen"].scores["return"]
    assert (frozen == frozen[:, :1]).all()
    for arms in results.values():
        for name, result in arms.items():
            np.testing.assert_array_equal(result.scores["return"][:, 0], frozen[:, 0], err_msg=name)


def test_reward_mixes_give_different_results(finished):
    """All but the classifier differ: without a failure it predicts reward 1 everywhere."""
    _, results = finished
    returns = {name: result.scores["return"].tobytes() for name, result in results["never"].items()}
    returns["paid"] = results["always"]["plain"].scores["return"].tobytes()
    alike = [(a, b) for a in returns for b in returns if a < b and returns[a] == returns[b]]
    assert not alike, f"equal results: {alike}"


def test_an_interrupted_study_resumes_to_the_same_results(runner, finished, tmp_path):
    folder, results = finished
    progress = FakeProgress(stop_at=20)
    assert study.run_arms(runner, ARMS, SETTINGS, tmp_path, progress, progress.stopped) is None
    parts = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert 0 < len(parts) < len(list((folder / "parts").iterdir()))
    progress = FakeProgress()
    resumed = study.run_arms(runner, ARMS, SETTINGS, tmp_path, progress, progress.stopped)
    assert progress.done == progress.total and progress.fresh < progress.total - 5 * len(parts)
    for schedule, arms in results.items():
        for name, result in arms.items():
            np.testing.assert_array_equal(
                resumed[schedule][name].scores["return"],
                result.scores["return"],
                err_msg=f"{schedule} {name}",
            )


def test_a_part_of_other_worlds_is_computed_again(runner, finished, tmp_path):
    folder, _ = finished
    progress, parts = FakeProgress(), tmp_path / "parts"
    parts.mkdir()
    for path in (folder / "parts").iterdir():
        old = json.loads(path.read_text()) | {"settings": "other"}
        (parts / path.name).write_text(json.dumps(old))
    learner, _ = runner.train_at_home(Checkpoints(folder / "school", keep=1), progress.stopped)
    Checkpoints(tmp_path / "school", keep=1).save(CHUNKS, learner)
    study.run_arms(runner, ARMS, SETTINGS, tmp_path, progress, progress.stopped)
    assert progress.fresh > len(list(parts.iterdir()))


# --- the page -----------------------------------------------------------------------------------

WORLDS = StreamWorlds(("home", "ice", "fog"), (1, 2, 1), (), None)


def made_result(
    second: float, seeds: int = 5, spread: float = 0.02, non_finite: tuple = ()
) -> StreamResult:
    """A result whose second visit ends at a level, plus an offset for each seed."""
    r = np.full((seeds, 7, 3), 0.5) + spread * np.arange(seeds)[:, None, None]
    r[:, -1, 1] += second - 0.5 + 0.001 * np.arange(seeds) ** 2
    r[list(non_finite)] = np.nan
    harm = np.full_like(r, 0.1)
    finite = ~np.isin(np.arange(seeds), non_finite)
    return StreamResult({"success": r, "return": r, "harm": harm}, r[:, 1:, 0], finite)


def stream_results(tested: float, **others: float) -> dict[str, StreamResult]:
    levels = {"frozen": 0.3, "plain": 0.4, "constant_plus": 0.35, "sham": 0.2} | others
    return {name: made_result(level) for name, level in (levels | {TESTED: tested}).items()}


def test_contrast_is_paired_and_with_the_best_control():
    scores = {
        schedule: finite_scores(stream_results(level), "success", 2)
        for schedule, level in LEVELS.items()
    }
    rows = contrasts(scores, WORLDS.stages)
    assert [row.control for row in rows] == ["plain"] * 3
    np.testing.assert_allclose([row.gain.value for row in rows], [0.2, -0.2, 0.0], atol=1e-9)
    assert rows[0].gain.high - rows[0].gain.low < 1e-6, "the level of a seed cancels"
    assert rows[0].p_value < 0.05 and rows[1].p_value < 0.05 and rows[2].p_value == 1
    better = finite_scores(
        stream_results(0.6, reward_model=0.7, old_critic=0.5, fear=0.9), "success", 2
    )
    (row,) = contrasts({"never": better}, WORLDS.stages)
    assert row.control == "reward_model", "the best control; single heads are no controls"
    assert row.gain.value == pytest.approx(-0.1)


LEVELS = {"always": 0.6, "rare": 0.2, "never": 0.4}


def test_finding_for_gain_loss_and_no_difference():
    scores = {
        schedule: finite_scores(stream_results(level), "success", 2)
        for schedule, level in LEVELS.items()
    }
    sentence = finding(contrasts(scores, WORLDS.stages), "ice", 5)
    assert "with the task reward always on it gains over plain (+0.200" in sentence
    assert sentence.count("first visit: +0.000") == 3 and sentence.count("over frozen)") == 3
    assert "with it on in one environment of eight it loses to plain (-0.200" in sentence
    assert "with it off it is not told apart from plain (+0.000" in sentence
    assert "5 seeds" in sentence


def test_p_values_are_adjusted_over_the_schedules(monkeypatch):
    monkeypatch.setattr(continual_report, "_p_value", lambda gains: 0.03)
    scores = {schedule: finite_scores(stream_results(0.5), "success", 2) for schedule in LEVELS}
    assert [row.p_value for row in contrasts(scores, WORLDS.stages)] == pytest.approx([0.09] * 3)


def test_a_non_finite_seed_is_dropped_from_every_arm():
    results = stream_results(0.6) | {"sham": made_result(0.2, non_finite=(1, 3))}
    scores = finite_scores(results, "success", 2)
    assert {r.shape for r in scores.values()} == {(3, 4, 3)}
    assert all(np.isfinite(r).all() for r in scores.values())


def test_page_and_figure_have_every_arm_and_world(tmp_path):
    results = {
        "never": stream_results(0.6, reward_model=0.7, hope=0.5),
        "always": stream_results(0.6),
    }
    text = markdown(results, WORLDS, "success", 2, ("About it.",))
    assert text.startswith(
        "# Continual learning in changing worlds\n\nAfter the second visit to ice"
    )
    assert "## Task reward: never" in text and "## Task reward: always" in text
    assert "\nreward_model | " in text and "| -0.100 [-0.100, -0.100] |" in text
    for arm in results["never"]:
        assert f"\n{arm} | " in text
    assert "Stream: ice, fog, ice" in text and "non-finite numbers: 0." in text
    assert text.endswith("About it.\n") and not re.search(r"\bnan\b", text)
    path = tmp_path / "continual.png"
    figure(results, WORLDS, "success", 2, 100, path)
    assert path.stat().st_size > 10_000


def test_stream_result_json_round_trip():
    result = made_result(0.6)
    restored = StreamResult.from_json(json.loads(json.dumps(result.to_json())))
    for name, score in result.scores.items():
        np.testing.assert_array_equal(restored.scores[name], score)
    np.testing.assert_array_equal(restored.finite, result.finite)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(env="Drvie"), "did you mean Drive"),
        (Settings(env="LunarLander-v9"), "did you mean LunarLander-v3"),
        (Settings(pay=()), "--pay : name at least one"),
        (Settings(heads=("fear", "fear")), "name at least one, and each once"),
        (Settings(pay=("sometimes",)), "unknown schedule 'sometimes'"),
        (Settings(seeds=2), "at least 3 seeds"),
        (Settings(steps=-1), "must not be negative"),
        (Settings(record=True, smoke=True), "leave --smoke out"),
    ],
)
def test_bad_settings_raise(settings, message):
    with pytest.raises(UserError, match=message):
        check(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(stream=("cones", "ice")), "--stream cones ice: one world must come back"),
        (Settings(stream=("cones", "snow")), "unknown shift 'snow'"),
        (Settings(heads=("joy",)), "unknown head 'joy'"),
        (Settings(heads=("nowhere.py:Dread",)), "no such file nowhere.py"),
    ],
)
def test_impossible_designs_raise(settings, message):
    with pytest.raises(UserError, match=message):
        design(settings)


def test_design_has_the_requested_sizes():
    suite, arms, (home_agent, agent, blend, sizes, worlds) = design(
        Settings(steps=30_000, episodes=40)
    )
    assert suite.name == "Drive" and {"innate", "curiosity"} < {arm.name for arm in arms}
    assert {name for arm in arms for name in arm.signal_weights} == set(blend.names)
    assert (
        sizes.home_updates % CHUNKS == 0
        and home_agent.anneal == sizes.home_updates
        and agent.anneal == 0
    )
    assert (sizes.stage_updates, sizes.evals, sizes.learners.episodes) == (6, 3, 32)
    assert [worlds.names[w] for w in worlds.stages] == ["cones", "ice", "cross", "cones"]
    _, arms, (*_, worlds) = design(Settings(env="CartPole"))
    assert "innate" not in {arm.name for arm in arms}
    assert worlds.stages == (1, 2, 3, 1)


def test_folder_depends_on_settings_that_change_results(tmp_path):
    base = study.folder(Settings(), "Drive")
    assert study.folder(Settings(record=True), "Drive") == base
    assert study.folder(Settings(pay=("never",)), "Drive") != base
    assert study.folder(Settings(out=tmp_path), "Drive") == tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole", "CartPole-v1"])
def test_command_with_a_custom_head_writes_its_page(env, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    file = tmp_path / "mine.py"
    file.write_text("from affect import Hope\n\n\nclass Dread(Hope):\n    '''A custom head.'''\n")
    monkeypatch.chdir(tmp_path)
    args = ["--smoke", "--env", env, "--heads", "fear", "mine.py:Dread", "--out", "out"]
    assert study.main(args) == 0
    part = Path("out/parts/dread-never.json")
    before = part.read_text()
    part.unlink()
    assert study.main(args) == 0, "a finished study resumes without work"
    assert part.read_text() == before
    text = Path(f"out/continual-{env}.md").read_text()
    captured = capsys.readouterr()
    assert "\ndread | " in text and text in captured.out
    assert ("steps a second just now" in captured.err) == (env == "CartPole-v1")
    assert Path(f"out/continual-{env}.png").exists()
