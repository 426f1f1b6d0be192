"""Packer's table: its summaries and text, the count of training episodes, and the command."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from runs import packer
from runs.errors import UserError
from runs.packer import (
    PUBLISHED,
    SUMMARIES,
    TRAINED,
    Settings,
    TrainingJob,
    check,
    main,
    markdown,
    run,
)
from runs.packer import suite as packer_suite
from tests.runs.small_study import without_key_check

ROOT = Path(__file__).parents[2]
unchecked = pytest.fixture(autouse=True)(without_key_check)
SEEDS = 4


def made_up_results(success: dict[str, float], non_finite: int = 0) -> dict[str, dict]:
    """Training distribution -> results, from success by cell such as DR, equal for all seeds."""
    return {
        trained: {cell[1]: [value] * SEEDS for cell, value in success.items() if cell[0] == trained}
        | {"steps": [2e6] * SEEDS, "non_finite": non_finite}
        for trained in TRAINED
    }


CELLS = {"DD": 0.9, "DR": 0.2, "DE": 0.4, "RD": 0.8, "RR": 0.7, "RE": 0.1}


def test_summaries_are_geometric_means():
    results = made_up_results(CELLS)
    expected = {"default": 90.0, "interpolation": 70.0, "extrapolation": 20.0}
    for name in SUMMARIES:
        np.testing.assert_allclose(packer.summary(results, name), [expected[name]] * SEEDS)


def test_the_geometric_mean_is_taken_per_seed():
    results = made_up_results(CELLS)
    results["D"]["R"], results["D"]["E"], results["R"]["E"] = [1, 0, 0, 1], [1] * 4, [1, 1, 1, 0]
    assert packer.summary(results, "extrapolation").tolist() == [100.0, 0.0, 0.0, 0.0]


def test_the_table_shows_published_and_our_scores_and_where_they_differ():
    cells = made_up_results(CELLS | {"DD": 1.0}, non_finite=1)
    scores = {TrainingJob("CartPole", "PPO", trained): cells[trained] for trained in TRAINED}
    text = markdown(scores, Settings(seeds=SEEDS), "python -m runs.packer")
    rows = [line.split(" | ") for line in text.splitlines()]
    assert ["CartPole", "PPO", "default", "100.0", "100.0 [100.0, 100.0]", "+0.0"] in rows
    extrapolation = ["CartPole", "PPO", "extrapolation", "86.2", "20.0 [20.0, 20.0]", "-66.2 *"]
    assert extrapolation in rows
    assert "Apart: CartPole PPO interpolation (-30.0), CartPole PPO extrapolation (-66.2)." in text
    cells = "CartPole | PPO | 100.0 | 20.0 | 40.0 | 80.0 | 70.0 | 10.0 | 2.00 M and 2.00 M"
    assert cells in text and "non-finite numbers: 2." in text
    assert "`python -m runs.packer`" in text and "15,000 training episodes" in text


def test_the_table_states_that_no_published_number_is_outside_our_interval():
    success = dict.fromkeys(CELLS, 1.0) | {"DR": 0.862, "DE": 0.862, "RE": 0.862}
    results = made_up_results(success)
    scores = {TrainingJob("CartPole", "PPO", trained): results[trained] for trained in TRAINED}
    for trained in TRAINED:
        for cell in ("R", "E"):
            if trained + cell != "RR":
                results[trained][cell] = [0.85, 0.87, 0.84, 0.88]
    text = markdown(scores, Settings(seeds=SEEDS), "it")
    assert "Everywhere our interval holds" in text and "*" not in text


@pytest.mark.parametrize("world", packer.WORLDS)
def test_every_world_has_published_scores_and_points_d_r_and_e(world):
    assert all((world, agent) in PUBLISHED for agent in packer.AGENTS)
    points = [point.shift for point in packer_suite(world).points()]
    assert points == ["none", "interpolation", "extrapolation"]
    assert packer_suite(world).randomised is not None


# --- one training -----------------------------------------------------------------------------


class CountingTrainer:
    """Trainer whose seed s ends s + 1 episodes a chunk and whose agent is its count of chunks.

    From the second chunk on, the agent of the second seed is NaN.
    """

    def __init__(self, suite, arm, run_config):
        self.suite, self.rows, self.chunks = suite, run_config.rows, 0

    def start(self):
        return SimpleNamespace(learner=SimpleNamespace(agent=jnp.zeros(self.rows)))

    def chunk(self, env_state, stopped):
        self.chunks += 1
        agent, finite = env_state.learner.agent + 1, np.ones((self.rows, 2, 3), bool)
        if self.chunks > 1:
            agent, finite[1, 1, 2] = agent.at[1].set(jnp.nan), False
        episodes = np.arange(1.0, self.rows + 1)
        return SimpleNamespace(learner=SimpleNamespace(agent=agent)), {"episodes": episodes}, finite


def run_counting_trainer(monkeypatch, stopped=lambda: False):
    def agent_as_success(state, agent, env, worlds, key, episodes, axis):
        return {"success": jnp.broadcast_to(state, (3,))}

    monkeypatch.setattr("runs.engine.jax_backend.JaxBackend", CountingTrainer)
    monkeypatch.setattr("runs.engine.evaluate.evaluate", agent_as_success)
    settings = Settings(seeds=3, train=6, test=2, smoke=True)
    progress = []
    return run(settings, TrainingJob("CartPole", "PPO", "D"), progress.append, stopped), progress


def test_a_seed_is_tested_with_its_agent_of_when_it_had_enough_episodes(monkeypatch):
    results, progress = run_counting_trainer(monkeypatch)
    assert results["D"] == results["R"] == results["E"] == [6.0, 1.0, 2.0]
    assert results["episodes"] == [6.0, 4.0, 6.0] and results["non_finite"] == 1
    assert results["steps"][0] == 3 * results["steps"][2]
    assert progress == sorted(progress) and progress[-1] == 99 and len(progress) == 6


def test_training_can_be_stopped(monkeypatch):
    assert run_counting_trainer(monkeypatch, stopped=lambda: True) == (None, [])


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_the_table_and_reuses_saved_trainings(tmp_path, monkeypatch, capsys):
    def fake_run(settings, job, report, stopped):
        assert (settings.seeds, settings.smoke) == (3, True)
        report(50)
        return {"D": [1.0] * 3, "R": [0.5] * 3, "E": [0.0] * 3, "steps": [1e6] * 3, "non_finite": 0}

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.setattr(packer, "run", fake_run)
    argv = ["--smoke", "--only", "CartPole", "--out", str(tmp_path)]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert "CartPole | A2C | interpolation | 100.0 | 50.0 [50.0, 50.0] | -50.0 *" in out
    assert "CartPole | PPO | extrapolation | 86.2 | 0.0 [0.0, 0.0] | -86.2 *" in out
    assert "3 seeds: too few" in err
    files = {path.stem for path in tmp_path.glob("*/*.json")}
    assert files == {f"CartPole-{agent}-{t}" for agent in ("A2C", "PPO") for t in "DR"}
    monkeypatch.setattr(packer, "run", None)  # nothing is trained again
    assert main(argv) == 0
    assert capsys.readouterr().out == out


def test_a_stopped_training_is_not_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.setattr(packer, "run", lambda *_: None)
    assert main(["--smoke", "--only", "CartPole", "--out", str(tmp_path)]) == 0
    assert list(tmp_path.glob("*/*.json")) == [] and capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_command_runs_as_a_user_runs_it(tmp_path):
    command = [sys.executable, "-m", "runs.packer", "--smoke", "--only", "MountainCar", "Pendulum"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert "MountainCar | A2C | default | 79.8 | " in done.stdout
    assert "Pendulum | PPO | extrapolation | 0.0 | " in done.stdout
    files = [json.loads(path.read_text()) for path in tmp_path.glob("*/*.json")]
    assert len(files) == 8
    for results in files:
        assert min(results["episodes"]) >= 64 and results["non_finite"] == 0
        assert all(0 <= share <= 1 for name in "DRE" for share in results[name])


def test_a_part_of_another_recipe_or_damaged_is_not_loaded(tmp_path):
    path = tmp_path / "a.json"
    assert packer.load_part(path, "one") is None
    packer.save_part(path, {"D": [1.0], "settings": "one"})
    assert packer.load_part(path, "one") == {"D": [1.0], "settings": "one"}
    assert packer.load_part(path, "two") is None
    path.write_text("{")
    assert packer.load_part(path, "one") is None


def test_an_unusable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        main(["--smoke", "--only", "CartPole", "--out", str(tmp_path / "file")])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"only": ("Cartpole",)}, "unknown world 'Cartpole'; did you mean CartPole"),
        ({"only": ("Acrobot", "Acrobot")}, "name each world once"),
        ({"seeds": 2}, "--seeds 2: an interval needs"),
        ({"train": 0}, "--train 0"),
        ({"test": -1}, "--test -1"),
        ({"record": True, "smoke": True}, "leave --smoke out"),
        ({"record": True, "only": ("Acrobot",)}, "leave --only out"),
    ],
)
def test_bad_input_is_refused(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        check(Settings(**settings))
