"""Packer's table: its summaries and text, the count of training episodes, and the command."""

import jax.numpy as jnp
import numpy as np
import pytest

from runs import packer
from runs.engine.cache import cached_part
from runs.engine.train import RunnerState, zero_stats
from runs.errors import Interrupted, UserError
from runs.packer import (
    PUBLISHED,
    SUMMARIES,
    TRAINED,
    Settings,
    TrainingKind,
    main,
    run_config,
    sections,
    train_and_test,
)
from runs.packer import suite as packer_suite
from tests.runs.study_job import make_job, table_rows

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


def test_the_table_shows_published_and_our_scores_and_stars_where_they_differ():
    cells = made_up_results(CELLS | {"DD": 1.0}, non_finite=1)
    scores = {TrainingKind("CartPole", "PPO", trained): cells[trained] for trained in TRAINED}
    text = "\n".join(sections(scores, Settings(seeds=SEEDS)))
    rows = table_rows(text)
    assert ["CartPole", "PPO", "default", "100.0", "100.0 [100.0, 100.0]", "+0.0"] in rows
    extrapolation = ["CartPole", "PPO", "extrapolation", "86.2", "20.0 [20.0, 20.0]", "-66.2 *"]
    assert extrapolation in rows
    shares = ["100.0", "20.0", "40.0", "80.0", "70.0", "10.0"]
    assert ["CartPole", "PPO", *shares, "2.00 M and 2.00 M"] in rows
    assert "non-finite numbers: 2." in text and "15,000 training episodes" in text


def test_a_published_number_inside_our_interval_has_no_star():
    success = dict.fromkeys(CELLS, 1.0) | {"DR": 0.862, "DE": 0.862, "RE": 0.862}
    results = made_up_results(success)
    scores = {TrainingKind("CartPole", "PPO", trained): results[trained] for trained in TRAINED}
    for trained in TRAINED:
        for cell in ("R", "E"):
            if trained + cell != "RR":
                results[trained][cell] = [0.85, 0.87, 0.84, 0.88]
    assert "*" not in "".join(sections(scores, Settings(seeds=SEEDS)))


@pytest.mark.parametrize("world", packer.WORLDS)
def test_every_world_has_published_scores_and_points_d_r_and_e(world):
    assert all((world, agent) in PUBLISHED for agent in packer.AGENTS)
    points = [point.shift for point in packer_suite(world).points()]
    assert points == ["none", "interpolation", "extrapolation"]
    assert packer_suite(world).randomised is not None


# --- one training -----------------------------------------------------------------------------


class CountingBackend:
    """Backend whose seed s ends s + 1 episodes a chunk and whose agent is its count of chunks.

    From the second chunk on, the agent of the second seed is NaN. The agent is its success rate.
    """

    def __init__(self, env, run_config):
        self.rows, self.chunks = run_config.rows, 0

    def init(self, phase):
        return state_of(jnp.zeros(self.rows))

    def train(self, state, phase, first, stopped):
        self.chunks += 1
        agent, finite = state.learner + 1, np.ones((self.rows, 2, 3), bool)
        if self.chunks > 1:
            agent, finite[1, 1, 2] = agent.at[1].set(jnp.nan), False
        return state_of(agent), {"episodes": np.arange(1.0, self.rows + 1)}, finite

    def evaluate(self, learner, agent, points, stopped):
        return [{"success": np.asarray(learner)}] * 3


def state_of(agent):
    """State of all seeds with this agent alone."""
    return RunnerState(agent, jnp.zeros(len(agent)), zero_stats(len(agent)), jnp.zeros(len(agent)))


def train_counting(monkeypatch, tmp_path, stop_at=float("inf")):
    """Results of a training with `CountingBackend`, and its progress."""
    monkeypatch.setattr("runs.engine.backend.make_backend", CountingBackend)
    settings = Settings(seeds=3, train=6, test=2, smoke=True)
    job, training = make_job(settings, tmp_path, stop_at), TrainingKind("CartPole", "PPO", "D")
    return train_and_test(job, run_config(settings, training), training, 6), job.progress


def test_a_seed_is_tested_with_its_agent_of_when_it_had_enough_episodes(monkeypatch, tmp_path):
    results, progress = train_counting(monkeypatch, tmp_path)
    assert results["D"] == results["R"] == results["E"] == [6.0, 1.0, 2.0]
    assert results["episodes"] == [6.0, 4.0, 6.0] and results["non_finite"] == 1
    assert results["steps"][0] == 3 * results["steps"][2]
    assert progress.done == 99 and progress.fresh == 6


def test_a_stopped_training_is_not_saved(monkeypatch, tmp_path):
    with pytest.raises(Interrupted):
        train_counting(monkeypatch, tmp_path, stop_at=20)
    path = tmp_path / "part.json"
    with pytest.raises(Interrupted):
        cached_part(path, "", lambda: train_counting(monkeypatch, tmp_path, stop_at=20))
    assert not path.exists()


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_the_table_and_reuses_saved_trainings(tmp_path, monkeypatch, capsys):
    def fake_training(job, config, training, episodes):
        assert (config.seeds, episodes, config.optimise) == (3, 64, False)
        job.progress.advance(str(training), job.progress.done + 50)
        return {"D": [1.0] * 3, "R": [0.5] * 3, "E": [0.0] * 3, "steps": [1e6] * 3, "non_finite": 0}

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.setattr(packer, "train_and_test", fake_training)
    argv = ["--smoke", "--only", "CartPole", "--out", str(tmp_path)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    rows = table_rows(out)
    interval = "50.0 [50.0, 50.0]"
    assert ["CartPole", "A2C", "interpolation", "100.0", interval, "-50.0 *"] in rows
    assert ["CartPole", "PPO", "extrapolation", "86.2", "0.0 [0.0, 0.0]", "-86.2 *"] in rows
    files = {path.stem for path in tmp_path.glob("CartPole-*.json")}
    assert files == {f"CartPole-{agent}-{t}" for agent in ("A2C", "PPO") for t in "DR"}
    monkeypatch.setattr(packer, "train_and_test", pytest.fail)  # nothing is trained again
    assert main(argv) == 0
    assert capsys.readouterr().out == out


def test_a_part_of_other_settings_or_damaged_is_computed_again(tmp_path):
    path = tmp_path / "folder/part.json"
    results = {"D": [1.0], "settings": "one"}
    assert cached_part(path, "one", lambda: {"D": [1.0]}) == (results, True)
    assert cached_part(path, "one", lambda: {"D": [2.0]}) == (results, False)
    assert cached_part(path, "two", lambda: {"D": [2.0]})[1]
    path.write_text("{")
    assert cached_part(path, "two", lambda: {"D": [3.0]})[0]["D"] == [3.0]


def test_an_unusable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        main(["--smoke", "--only", "CartPole", "--out", str(tmp_path / "file")])
