"""A head of one's own from a file: found, named, compared, and refused in one line."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from affect import Spec, Transition, build
from envs import load_suite
from runs.compare import Settings, identity, main
from runs.engine import custom_head
from runs.engine.arms import check_arms, comparison_arms
from runs.errors import UserError
from tests.runs.small_study import without_key_check_in_threads

unchecked = pytest.fixture(autouse=True)(without_key_check_in_threads)
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
def file(tmp_path: Path) -> str:
    path = tmp_path / "my_head.py"
    path.write_text(HEAD)
    return str(path)


def test_it_is_what_the_file_says(file):
    name = f"{file}:Dread"
    head = build(custom_head.load_head(name), Spec(obs_dim=2, num_actions=2), jax.random.key(0))
    ones, no = np.ones((3, 1), np.float32), np.zeros((3, 1), bool)
    batch = Transition(np.zeros((3, 1, 2)), no, np.zeros((3, 1, 2)), ones, no, no, no)
    assert custom_head.is_custom(name) and custom_head.short_name(name) == "dread"
    assert (np.asarray(head((), batch)[0]) == -1).all()


def test_it_comes_with_its_controls(file):
    suite = load_suite("CartPole")
    found = comparison_arms((f"{file}:Dread", "fear"), 0.99, suite)
    names = [arm.name for arm in found]
    assert {"dread", "dread_sham", "dread_scrambled", "dread_constant", "fear"} <= set(names)
    check_arms(found, suite, 2)


def test_a_head_that_was_edited_is_another_study(file):
    settings = Settings(heads=(f"{file}:Dread",))
    before = identity(settings)
    Path(file).write_text(HEAD + "\n# edited\n")
    assert identity(settings) != before
    assert identity(Settings()) == identity(replace(settings, heads=Settings().heads))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("{file}:Angst", "has no 'Angst'; it has Head, Dread"),
        ("nowhere.py:Dread", "no such file nowhere.py; write it as"),
        ("{folder}/broken.py:Dread", r"fails \(ZeroDivisionError: division by zero\); mend it"),
    ],
)
def test_what_is_not_there_is_one_line(file, tmp_path, what, said):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=said):
        custom_head.load_head(what.format(file=file, folder=tmp_path))


def test_what_is_no_head_is_refused_before_anything_is_compiled(file):
    suite = load_suite("CartPole")
    with pytest.raises(UserError, match="nothing in CartPole: .*sign"):
        check_arms(comparison_arms((f"{file}:nothing",), 0.99, suite), suite, 2)


@pytest.mark.slow
def test_it_is_compared_by_the_command(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    words = ["--smoke", "--env", "CartPole", "--heads", f"{file}:Dread", "--shifts", "force"]
    assert main([*words, "--out", str(tmp_path / "here")]) == 0
    said = capsys.readouterr().out
    assert "dread" in said and "dread_constant" in said
    assert "dread" in (tmp_path / "here" / "scores.csv").read_text()


def test_two_heads_of_one_name_are_refused(file):
    with pytest.raises(UserError, match="two of them go by one name"):
        comparison_arms((f"{file}:Dread", f"{file}:Dread"), 0.99, load_suite("CartPole"))
