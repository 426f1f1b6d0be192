"""`python -m runs.zoo` and `runs.parents`: the files of the zoo, and how they are made."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affect import Fear, Hope, Lesion, load, read_card, zoo
from runs import parents
from runs import zoo as remake
from runs.cli.settings import parse_settings
from runs.errors import UserError
from tests.refusal import refused

ROOT = Path(__file__).resolve().parents[2]
REMADE = "cartpole-value"


def test_the_files_are_those_of_the_list_and_their_cards_hold_its_commands():
    assert zoo.names() == tuple(sorted(remake.ENTRIES))
    for name in zoo.names():
        assert read_card(zoo.path(name)).commands == remake.entry_commands(name)


def test_every_command_runs_once_and_studies_before_their_exports():
    commands = remake.commands(tuple(remake.ENTRIES))
    studies = [command for command in commands if "runs.parents" in command]
    assert len(commands) == len(set(commands)) == len(remake.ENTRIES) + len(studies)
    for command in commands:
        if "runs.export" in command:
            folder = shlex.split(command)[3]
            (study,) = (i for i, other in enumerate(studies) if other.endswith(f"--out {folder}"))
            assert commands.index(studies[study]) < commands.index(command)


def settings(*flags: str) -> parents.Settings:
    return parse_settings(parents.Settings, ["--env", "CartPole", "--smoke", *flags], "")


def test_parents_have_heads_beside_them_that_do_not_pay():
    experiment = parents.make_experiment(settings("--heads", "hope-20", "fear-5", "fear"))
    (arm,) = experiment.all_arms
    heads = {name: factory for name, (_, factory) in arm.blend.heads.items()}
    assert heads["hope_20"] == Lesion(Hope(horizon=20)) and heads["fear_5"].cls is Lesion
    assert heads["fear_5"].settings["head"] == Fear(horizon=5)
    assert all(factory.cls is Lesion for factory in heads.values())
    assert list(heads) == ["hope_20", "fear_5", "fear"]
    (arm,) = parents.make_experiment(settings()).all_arms
    assert not arm.blend.heads


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--heads", "hope-0"], "--heads hope-0: a horizon is at least 1 step, not 0"),
        (["--heads", "joy"], "unknown head 'joy'"),
        (["--heads", "hope-5", "hope-5"], "name each head once"),
        (["--seeds", "2"], "an interval needs at least 3 seeds"),
        (["--record"], "parents have no result to record"),
    ],
)
def test_bad_input_of_parents_is_refused_in_one_line(flags, message):
    with refused(UserError, message):
        given = settings(*flags)
        parents.check(given)
        parents.make_experiment(given)


def test_bad_input_of_the_zoo_is_refused_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="unknown file 'drive-valu'; did you mean drive-value"):
        remake.main(["--only", "drive-valu"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run this in the root of the checkout"):
        remake.main([])


def signal_of(head, obs):
    return np.asarray(head.net(obs))


@pytest.mark.slow
def test_an_entry_is_made_again_by_the_commands_of_its_card(tmp_path):
    """Of the same kind, with the same measures; to the last bit only on the same machine."""
    (tmp_path / "affect" / "zoo").mkdir(parents=True)
    shipped = read_card(zoo.path(REMADE))
    for command in shipped.commands:
        done = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, done.stderr[-4000:]
    path = tmp_path / "affect" / "zoo" / f"{REMADE}.safetensors"
    card = read_card(path)
    for field in ("head", "settings", "reads", "world", "steps", "seeds", "scale", "commands"):
        assert getattr(card, field) == getattr(shipped, field), field
    assert card.measures.keys() == shipped.measures.keys()
    for name, value in shipped.measures.items():
        assert card.measures[name] == pytest.approx(value, abs=0.15), name
    obs = np.random.default_rng(0).normal(scale=0.1, size=(500, 4)).astype(np.float32)
    values = [signal_of(head, obs) for head in (load(path), zoo.load(REMADE))]
    assert np.corrcoef(*values)[0, 1] > 0.5
