"""The figure of the signals of all heads over one episode."""

import numpy as np
import pytest
from PIL import Image

from envs import load_suite
from runs.errors import UserError
from runs.feelings import available_factories, draw_episode, main
from tests.runs.small_study import without_key_check_in_threads

no_key_check = pytest.fixture(autouse=True)(without_key_check_in_threads)


def test_available_heads_are_those_the_environment_can_feed():
    without_body = {"hope", "fear", "curiosity", "mood", "satiation"}
    assert set(available_factories(load_suite("CartPole"))) == without_body
    assert set(available_factories(load_suite("FoodShare"))) == without_body | {
        "homeostasis",
        "care",
    }


@pytest.mark.slow
def test_smoke_run_draws_an_episode(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    flags = ["--smoke", "--env", "CartPole", "--shift", "force", "--severity", ".5"]
    assert main([*flags, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    heads = ("hope", "fear", "curiosity", "mood", "satiation", "(task reward)")
    assert all(f"| {head} " in printed for head in heads)
    assert min(Image.open(tmp_path / "feelings-CartPole-force.png").size) > 400


def test_different_signals_give_different_figures(tmp_path):
    frames = np.zeros((9, 20, 30, 3), np.uint8)
    for name, signal in {"flat": np.zeros(9), "step": np.arange(9) > 4}.items():
        draw_episode(frames, {"fear": signal.astype(float)}, "X", tmp_path / f"{name}.png")
    flat, step = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("flat", "step"))
    assert (flat != step).any()


def test_an_unknown_shift_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    with pytest.raises(UserError, match="did you mean length"):
        main(["--env", "CartPole", "--shift", "lenght", "--out", str(tmp_path)])
