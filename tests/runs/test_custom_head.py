"""Custom heads loaded from a file: their arms, identity, errors and a run of the command."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from affect import Spec, Transition, build
from envs import load_suite
from runs.cli.study import identity
from runs.compare import Settings, main
from runs.engine import custom_head
from runs.engine.arms import check_arms, comparison_arms
from runs.errors import UserError
from tests.runs.small_study import CONFIG, without_key_check_in_threads

no_key_check = pytest.fixture(autouse=True)(without_key_check_in_threads)
HEAD = """
from affect import Head


class Dread(Head):
    sign = -1

    def __init__(self, spec, *, rngs):
        pass

    def __call__(self, state, batch):
        return -batch.reward, state


def nothing(spec, *, rngs):
    return None
"""


@pytest.fixture
def head_file(tmp_path: Path) -> str:
    path = tmp_path / "my_head.py"
    path.write_text(HEAD)
    return str(path)


def test_custom_head_computes_what_its_file_defines(head_file):
    name = f"{head_file}:Dread"
    head = build(custom_head.load_callable(name), Spec(obs_dim=2, num_actions=2), jax.random.key(0))
    ones, zeros = np.ones((3, 1), np.float32), np.zeros((3, 1), bool)
    batch = Transition(np.zeros((3, 1, 2)), zeros, np.zeros((3, 1, 2)), ones, zeros, zeros, zeros)
    assert custom_head.is_custom(name) and custom_head.short_name(name) == "dread"
    assert (np.asarray(head((), batch)[0]) == -1).all()


def test_custom_head_gets_its_control_arms(head_file):
    suite = load_suite("CartPole")
    arms = comparison_arms((f"{head_file}:Dread", "fear"), 0.99, suite)
    names = [arm.name for arm in arms]
    assert {"dread", "dread_sham", "dread_untrained", "dread_constant", "fear"} <= set(names)
    check_arms(arms, suite, CONFIG)


def test_editing_the_head_file_changes_the_identity_of_the_study(head_file):
    settings = Settings(heads=(f"{head_file}:Dread",))
    before = identity(settings)
    Path(head_file).write_text(HEAD + "\n# edited\n")
    assert identity(settings) != before
    assert identity(Settings()) == identity(replace(settings, heads=Settings().heads))


def test_editing_the_environments_file_changes_the_identity_of_the_study(tmp_path):
    file = tmp_path / "world.py"
    file.write_text("class World: ...")
    settings = Settings(env=f"{file}:World")
    before = identity(settings)
    assert identity(replace(settings, env_kwargs='{"size": 1}')) != before
    assert identity(replace(settings, not_reproducible=True)) != before
    file.write_text("class World: size = 3")
    assert identity(settings) != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{file}:Angst", "has no class or function 'Angst'; it has Head, Dread, nothing"),
        ("nowhere.py:Dread", "no such file nowhere.py; write it as"),
        ("{folder}/broken.py:Dread", r"\(ZeroDivisionError: .* by zero, broken.py:1\); fix it"),
        ("{folder}/exits.py:Dread", r"fails when imported \(SystemExit: 5, exits.py:1\); fix it"),
    ],
)
def test_missing_or_broken_file_is_a_user_error(head_file, tmp_path, name, message):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(5)\n")
    with pytest.raises(UserError, match=message):
        custom_head.load_callable(name.format(file=head_file, folder=tmp_path))


def test_factory_that_returns_no_head_is_refused(head_file):
    suite = load_suite("CartPole")
    with pytest.raises(UserError, match="nothing in CartPole: .*sign"):
        check_arms(comparison_arms((f"{head_file}:nothing",), 0.99, suite), suite, CONFIG)


@pytest.mark.slow
def test_command_compares_a_custom_head(head_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    argv = ["--smoke", "--env", "CartPole", "--heads", f"{head_file}:Dread", "--shifts", "force"]
    assert main([*argv, "--out", str(tmp_path / "study")]) == 0
    output = capsys.readouterr().out
    assert "dread" in output and "dread_constant" in output
    assert "dread" in (tmp_path / "study" / "scores.csv").read_text()


def test_two_heads_with_the_same_name_are_refused(head_file):
    with pytest.raises(UserError, match="two of them go by one name"):
        comparison_arms((f"{head_file}:Dread", f"{head_file}:Dread"), 0.99, load_suite("CartPole"))
