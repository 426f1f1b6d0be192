"""`python -m runs.export`: a head or a critic of a finished study becomes a file."""

import io
from contextlib import redirect_stdout
from functools import partial

import numpy as np
import pytest

import affect
from affect import Distilled, Fear, Potential, Value, load, read_card
from runs import export, parents
from runs.errors import UserError
from tests.refusal import refused
from tests.runs.small_study import without_key_check_in_threads

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)
OF_PARENT = ["{study}", "--save", "{out}", "--arm", "parent"]
FLAGS = ["--smoke", "--env", "CartPole", "--heads", "fear-20"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of a finished smoke run of parents, and its command."""
    out = tmp_path_factory.mktemp("study") / "a study"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr("runs.engine.devices.prepare_devices", lambda: None)
        assert parents.main([*FLAGS, "--out", str(out)]) == 0
    return out, (out / "command").read_text().strip()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    monkeypatch.setattr(export, "EPISODES", 8)
    monkeypatch.setattr(affect, "distil", partial(affect.distil, steps=200))


def exported(study, path, *flags):
    assert export.main([str(study), "--save", str(path), "--arm", "parent", *flags]) == 0
    return load(path), read_card(path)


@pytest.mark.slow
def test_the_critic_of_an_arm_is_exported_with_both_commands(study, tmp_path, capsys):
    folder, command = study
    head, card = exported(folder, tmp_path / "value.safetensors", "--seed", "1")
    assert isinstance(head, Value) and (card.world, card.seeds) == ("CartPole", (1,))
    assert {"rank_home", "rank_shift"} <= card.measures.keys()
    assert command.startswith("python -m runs.parents --smoke --env CartPole")
    assert card.commands[0] == command
    assert card.commands[1].startswith("python -m runs.export ") and "--seed 1" in card.commands[1]
    assert "value.safetensors: Value of parent, seed 1" in capsys.readouterr().out
    obs = np.ones((3, 4), np.float32)
    values = export.open_study(folder, command).agent("parent", 1).value(obs)
    np.testing.assert_allclose(head.value(obs), values, rtol=1e-5)


@pytest.mark.slow
def test_a_head_is_exported_and_distilled_and_measured(study, tmp_path, capsys):
    flags = ["--head", "fear_20", "--distil", "2x4", "--licence", "MIT"]
    head = export.open_study(*study).head("parent", "fear_20")
    assert head.factory() == Fear(horizon=20, width=16)
    small, card = exported(study[0], tmp_path / "b.safetensors", *flags)
    assert isinstance(small, Distilled) and small.factory().settings["bits"] == 4
    assert (card.world, card.licence, card.wrappers) == ("CartPole", "MIT", ())
    assert {"r2", "auroc_home"} <= card.measures.keys()
    printed = capsys.readouterr().out
    assert "11 bytes of weights, R2 " in printed and "auroc_home" in printed
    assert card.scale == 2 and "99th percentile at home" in card.chosen
    assert abs(card.shift) < 2 and Potential.from_card(small).settings["shift"] == card.shift


@pytest.mark.slow
def test_the_shift_of_a_potential_is_minus_the_highest_signal_at_home(study):
    """Oracle: 99 of 100 steps that went on have a signal of at most minus the shift."""
    result = export.open_study(*study)
    batch, alive = next(export.seed_recordings(result, "parent", 0))
    head = result.value("parent")
    advice = export.recommended(head, batch, alive)
    values = np.asarray(head.value(batch.next_obs))[np.asarray(alive & ~batch.terminated)]
    assert np.mean(values <= -advice["shift"] + 1e-3) == pytest.approx(0.99, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{study}"], "--save: name a file in a folder that exists"),
        (["{study}", "--save", "no/such/file"], "--save: name a file in a folder that exists"),
        (["{study}", "--save", "{out}", "--distil", "2"], "--distil 2: write UNITSxBITS, such as"),
        ([*OF_PARENT, "--distil", "0x4"], "parent, value: units are whole numbers"),
        (["{study}", "--save", "{out}", "--arm", "hope"], "unknown arm 'hope'"),
        ([*OF_PARENT, "--head", "hope"], "unknown head 'hope'"),
        ([*OF_PARENT, "--seed", "9"], "seed 9: the experiment has seeds 0 to 2"),
        (["{other}", "--save", "{out}"], "is no study with its command"),
        (["{credit}", "--save", "{out}"], "only those of runs.compare and runs.parents"),
        (["{begun}", "--save", "{out}"], "is not finished: go on with `python -m runs.compare"),
    ],
)
def test_bad_input_is_refused_in_one_line(flags, message, study, tmp_path):
    names = {"credit": "python -m runs.credit", "begun": "python -m runs.compare --smoke"}
    for name, command in names.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "command").write_text(command + "\n")
    paths = {name: tmp_path / name for name in (*names, "other", "out")} | {"study": study[0]}
    with refused(UserError, message):
        export.main([flag.format(**paths) for flag in flags])
    assert not (tmp_path / "out").exists()
