"""Packer's table: its summaries, its text, how episodes are counted, and the command."""

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
from runs.packer import suite as boxes
from tests.runs.small_study import without_key_check

ROOT = Path(__file__).parents[2]
unchecked = pytest.fixture(autouse=True)(without_key_check)
SEEDS = 4


def made_up(success: dict[str, float], non_finite: int = 0) -> dict[str, dict]:
    """Where trained -> scores, from cells such as DR, the same for all seeds."""
    return {
        trained: {cell[1]: [value] * SEEDS for cell, value in success.items() if cell[0] == trained}
        | {"steps": [2e6] * SEEDS, "non_finite": non_finite}
        for trained in TRAINED
    }


CELLS = {"DD": 0.9, "DR": 0.2, "DE": 0.4, "RD": 0.8, "RR": 0.7, "RE": 0.1}


def test_summaries_are_geometric_means():
    found = made_up(CELLS)
    wanted = {"default": 90.0, "interpolation": 70.0, "extrapolation": 20.0}
    for name in SUMMARIES:
        np.testing.assert_allclose(packer.summary(found, name), [wanted[name]] * SEEDS)


def test_a_seed_is_averaged_before_the_seeds_are():
    found = made_up(CELLS)
    found["D"]["R"], found["D"]["E"], found["R"]["E"] = [1, 0, 0, 1], [1] * 4, [1, 1, 1, 0]
    assert packer.summary(found, "extrapolation").tolist() == [100.0, 0.0, 0.0, 0.0]


def test_the_table_shows_both_and_where_they_differ():
    cells = made_up(CELLS | {"DD": 1.0}, non_finite=1)
    scores = {TrainingJob("CartPole", "PPO", trained): cells[trained] for trained in TRAINED}
    text = markdown(scores, Settings(seeds=SEEDS), "python -m runs.packer")
    rows = [line.split(" | ") for line in text.splitlines()]
    assert ["CartPole", "PPO", "default", "100.0", "100.0 [100.0, 100.0]", "+0.0"] in rows
    extrapolation = ["CartPole", "PPO", "extrapolation", "86.2", "20.0 [20.0, 20.0]", "-66.2 *"]
    assert extrapolation in rows
    assert "Apart: CartPole PPO interpolation (-30.0), CartPole PPO extrapolation (-66.2)." in text
    cells = "CartPole | PPO | 100.0 | 20.0 | 40.0 | 80.0 | 70.0 | 10.0 | 2.00 M and 2.00 M"
    assert cells in text and "something was no number: 2." in text
    assert "`python -m runs.packer`" in text and "15,000 training episodes" in text


def test_the_table_says_so_if_nothing_is_apart():
    good = dict.fromkeys(CELLS, 1.0) | {"DR": 0.862, "DE": 0.862, "RE": 0.862}
    found = made_up(good)
    scores = {TrainingJob("CartPole", "PPO", trained): found[trained] for trained in TRAINED}
    for trained in TRAINED:
        for cell in ("R", "E"):
            if trained + cell != "RR":
                found[trained][cell] = [0.85, 0.87, 0.84, 0.88]
    text = markdown(scores, Settings(seeds=SEEDS), "it")
    assert "Everywhere our interval holds" in text and "*" not in text


@pytest.mark.parametrize("world", packer.WORLDS)
def test_every_world_has_what_is_published_and_is_tested_in_d_r_and_e(world):
    assert all((world, agent) in PUBLISHED for agent in packer.AGENTS)
    points = [point.shift for point in boxes(world).points()]
    assert points == ["none", "interpolation", "extrapolation"]
    assert boxes(world).randomised is not None


# --- one training -----------------------------------------------------------------------------


class Counting:
    """A trainer in which seed s ends s + 1 episodes a chunk, and knows how many chunks it had.

    From its second chunk on, nothing that the second seed knows is a number.
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


def count(monkeypatch, stopped=lambda: False):
    def tell(state, agent, env, worlds, key, episodes, axis):
        return {"success": jnp.broadcast_to(state, (3,))}

    monkeypatch.setattr("runs.engine.jax_backend.JaxBackend", Counting)
    monkeypatch.setattr("runs.engine.evaluate.evaluate", tell)
    settings = Settings(seeds=3, train=6, test=2, smoke=True)
    said = []
    return run(settings, TrainingJob("CartPole", "PPO", "D"), said.append, stopped), said


def test_a_seed_is_tested_as_it_was_when_its_episodes_were_lived(monkeypatch):
    found, said = count(monkeypatch)
    assert found["D"] == found["R"] == found["E"] == [6.0, 1.0, 2.0]
    assert found["episodes"] == [6.0, 4.0, 6.0] and found["non_finite"] == 1
    assert found["steps"][0] == 3 * found["steps"][2]
    assert said == sorted(said) and said[-1] == 99 and len(said) == 6


def test_a_training_can_be_stopped(monkeypatch):
    assert count(monkeypatch, stopped=lambda: True) == (None, [])


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_the_table_and_keeps_what_it_trained(tmp_path, monkeypatch, capsys):
    def learn(settings, job, report, stopped):
        assert (settings.seeds, settings.smoke) == (3, True)
        report(50)
        return {"D": [1.0] * 3, "R": [0.5] * 3, "E": [0.0] * 3, "steps": [1e6] * 3, "non_finite": 0}

    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.setattr(packer, "run", learn)
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


def test_a_stopped_training_is_not_kept(tmp_path, monkeypatch, capsys):
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
    for found in files:
        assert min(found["episodes"]) >= 64 and found["non_finite"] == 0
        assert all(0 <= share <= 1 for name in "DRE" for share in found[name])


def test_what_was_trained_otherwise_is_not_taken(tmp_path):
    path = tmp_path / "a.json"
    assert packer.load_part(path, "one") is None
    packer.save_part(path, {"D": [1.0], "recipe": "one"})
    assert packer.load_part(path, "one") == {"D": [1.0], "recipe": "one"}
    assert packer.load_part(path, "two") is None
    path.write_text("{")
    assert packer.load_part(path, "one") is None


def test_an_unusable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        main(["--smoke", "--only", "CartPole", "--out", str(tmp_path / "file")])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
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
def test_bad_input_is_refused(wrong, complaint):
    with pytest.raises(UserError, match=complaint):
        check(Settings(**wrong))
