"""`python -m runs.export`: a head or a critic of a finished study becomes a file."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest

from affect import Distilled, Fear, Hope, Potential, Value, load, read_card
from runs import compare, export, parents
from runs.engine.arms import CONSTANT_POTENTIALS
from runs.errors import UserError
from tests.runs.small_study import without_key_check_in_threads

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)
CONTROLS = ("random", "constant_plus", "constant_minus")
FEAR_CONTROLS = ("fear_sham", "fear_untrained", "fear_constant")
FLAGS = ["--smoke", "--env", "CartPole", "--heads", "fear", "--shifts", "force"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of a finished smoke run, and its command."""
    out = tmp_path_factory.mktemp("study") / "a study"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr("runs.engine.devices.prepare_devices", lambda: None)
        without = ["--without", *CONTROLS, *FEAR_CONTROLS, *CONSTANT_POTENTIALS, "lesion"]
        argv = [*FLAGS, *without, "--out", str(out)]
        assert compare.main(argv) == 0
    return out, (out / "command").read_text().strip()


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)


def exported(study, path, *flags):
    assert export.main([str(study), "--save", str(path), *flags]) == 0
    return load(path), read_card(path)


def test_the_critic_of_an_arm_is_exported_with_both_commands(study, tmp_path, capsys):
    folder, command = study
    head, card = exported(folder, tmp_path / "value.safetensors", "--seed", "1")
    assert isinstance(head, Value) and (card.world, card.seeds) == ("CartPole", (1,))
    assert command.startswith("python -m runs.compare --smoke --env CartPole")
    assert card.commands[0] == command
    assert card.commands[1].startswith("python -m runs.export ") and "--seed 1" in card.commands[1]
    assert "value.safetensors: Value of none, seed 1" in capsys.readouterr().out
    again, _ = exported(folder, tmp_path / "again.safetensors", "--seed", "1")
    np.testing.assert_array_equal(*(x.value(np.ones((3, 4), "f")) for x in (head, again)))


def test_a_head_is_exported_and_distilled(study, tmp_path, capsys):
    head, card = exported(study[0], tmp_path / "a.safetensors", "--arm", "fear", "--head", "fear")
    assert isinstance(head, Fear) and card.wrappers == ()
    flags = ["--arm", "fear", "--head", "fear", "--distil", "2x4", "--licence", "MIT"]
    small, card = exported(study[0], tmp_path / "b.safetensors", *flags)
    assert isinstance(small, Distilled) and small.factory().settings["bits"] == 4
    assert card.world == "CartPole" and card.licence == "MIT"
    assert {"r2", "rank_home", "rank_shift"} <= card.measures.keys()
    printed = capsys.readouterr().out
    assert "11 bytes of weights, R2 " in printed and "rank_home" in printed
    assert card.scale == 2 and "99th percentile at home" in card.chosen
    assert abs(card.shift) < 2 and Potential.from_card(small).settings["shift"] == card.shift


def test_the_shift_of_a_potential_is_minus_the_highest_signal_at_home(study):
    """Oracle: 99 of 100 steps that went on have a signal of at most minus the shift."""
    result = export.open_study(study[0], study[1])
    batch, alive = home = next(export.seed_recordings(result, "fear", 0))
    head = result.value("none")
    advice = export.recommended(head, *home)
    values = np.asarray(head.value(batch.next_obs))[np.asarray(alive & ~batch.terminated)]
    assert np.mean(values <= -advice["shift"] + 1e-3) == pytest.approx(0.99, abs=0.005)


@pytest.mark.slow
def test_a_head_beside_a_parent_is_exported(tmp_path):
    out = tmp_path / "parents"
    with redirect_stdout(io.StringIO()):
        flags = ["--smoke", "--env", "CartPole", "--heads", "hope-20", "--out", str(out)]
        assert parents.main(flags) == 0
    head, card = exported(
        out, tmp_path / "hope.safetensors", "--arm", "parent", "--head", "hope_20"
    )
    assert head.factory() == Hope(horizon=20) and card.commands[0].startswith(parents.COMMAND)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{study}"], "--save: name a file in a folder that exists"),
        (["{study}", "--save", "no/such/file"], "--save: name a file in a folder that exists"),
        (["{study}", "--save", "{out}", "--distil", "2"], "--distil 2: write UNITSxBITS, such as"),
        (["{study}", "--save", "{out}", "--distil", "0x4"], "none, value: units are whole numbers"),
        (["{study}", "--save", "{out}", "--arm", "hope"], "unknown arm 'hope'"),
        (["{study}", "--save", "{out}", "--head", "hope"], "unknown head 'hope'"),
        (["{study}", "--save", "{out}", "--seed", "9"], "seed 9: the experiment has seeds 0 to 2"),
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
    with pytest.raises(UserError) as caught:
        export.main([flag.format(**paths) for flag in flags])
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
