"""The study of constant rewards: arms, paired differences, sentences and the command."""

import jax
import numpy as np
import pytest

from affect import Constant, ConstantOf
from runs import constant
from runs.constant import (
    LEVELS,
    WORLDS,
    ArmScores,
    Settings,
    arms,
    best_constant,
    check,
    figure,
    finding,
    main,
    markdown,
    summarise,
    table_row,
)
from runs.errors import UserError
from runs.theory.deep_sea import CURIOSITY, run_dives


@pytest.fixture(autouse=True)
def without_key_check():
    with jax.debug_key_reuse(False):  # false alarm: a scan over keys split under vmap
        yield


def arm_scores(feeling=5.0, constant=3.0, world="DeepSea"):
    """Make scores of four arms that share the noise of their seeds."""
    noise = np.array([0.0, 10.0, -10.0, 3.0])
    small = np.array([0.1, -0.1, 0.1, -0.1])
    return [
        ArmScores(world, "none", "none", 1.0 + noise),
        ArmScores(world, "curiosity", "feeling", feeling + noise + small),
        ArmScores(world, "mean of curiosity", "constant", 0.0 + noise),
        ArmScores(world, "constant -0.01", "constant", constant + noise - small),
    ]


def test_differences_are_paired_by_seed_and_beyond_the_best_constant():
    lines = {line.scores.arm: line for line in summarise(arm_scores())}
    assert lines["none"].gain is None and lines["none"].beyond is None
    gain = lines["curiosity"].gain
    assert gain.value == pytest.approx(4.0) and gain.high - gain.low < 0.5  # the noise is shared
    assert lines["curiosity"].beyond.value == pytest.approx(2.0)
    assert lines["constant -0.01"].gain.value == pytest.approx(2.0)
    assert lines["constant -0.01"].beyond is None
    assert best_constant(arm_scores()).arm == "constant -0.01"
    assert best_constant(arm_scores(constant=-1.0)).arm == "mean of curiosity"


@pytest.mark.parametrize(
    ("feeling", "level", "words"),
    [
        (
            5.0,
            3.0,
            "1 of 1 intrinsic rewards gained anything over none, and 1 of these 1 went beyond",
        ),
        (
            5.0,
            9.0,
            "1 of 1 intrinsic rewards gained anything over none, and 0 of these 1 went beyond",
        ),
        (1.0, 9.0, "0 of 1 intrinsic rewards gained anything over none, so there is nothing"),
    ],
)
def test_finding_counts_gains_over_none_and_beyond_constants(feeling, level, words):
    sentence = finding(summarise(arm_scores(feeling, level)))
    assert words in sentence
    if feeling > 1:
        assert "curiosity in DeepSea +4.000 [" in sentence and "constant -0.01 there" in sentence


def test_worlds_are_summarised_separately():
    lines = summarise(arm_scores() + arm_scores(8.0, 4.0, "CartPole"))
    gains = {(line.scores.world, line.scores.arm): line.gain for line in lines}
    assert gains["DeepSea", "curiosity"].value == pytest.approx(4.0)
    assert gains["CartPole", "curiosity"].value == pytest.approx(7.0)
    assert "2 of 2 intrinsic rewards" in finding(lines)


def test_table_and_figure(tmp_path):
    lines = summarise(arm_scores())
    text = markdown(lines, Settings(worlds=("DeepSea",)), "python -m runs.constant", "a box")
    assert text.count("\n| DeepSea |") == 4 and "`python -m runs.constant`\n\na box" in text
    assert "DeepSea: share of life" in text and finding(lines) in text
    assert table_row(lines[0])[4:] == ["-", "-"]
    figure(lines, tmp_path / "constant.png")
    assert (tmp_path / "constant.png").stat().st_size > 5000


def test_arms_are_each_head_its_mean_and_the_constants():
    arm_list = list(arms({"curiosity": CURIOSITY, "other": CURIOSITY}))
    kinds = [kind for _, kind, _ in arm_list]
    assert kinds == ["none", *["feeling", "constant"] * 2, *["constant"] * len(LEVELS)]
    names = [name for name, _, _ in arm_list]
    assert names[:3] == ["none", "curiosity", "mean of curiosity"]
    assert names[-4:] == ["constant -0.1", "constant -0.01", "constant +0.01", "constant +0.1"]
    assert arm_list[0][2].names == ()
    (weight, mean) = arm_list[2][2].heads["curiosity"]
    assert weight == CURIOSITY[0] and mean.func is ConstantOf(CURIOSITY[1]).func
    assert arm_list[-1][2].heads["constant"][1].func is Constant
    assert [name for name, _, _ in arms({}, levels=(0.5,))] == ["none", "constant +0.5"]


def test_negative_constant_solves_deep_sea():
    """To a Q-table initialised at 0, a negative constant makes untried actions look better."""
    by_name = {name: blend for name, _, blend in arms({})}
    below, above = (run_dives(8, by_name[f"constant {c:+}"], 3, 400) for c in (-0.01, 0.01))
    assert below.solved.all() and not above.solved.any()


@pytest.mark.parametrize(
    "worlds", [("HungryThirsty", "DeepSea"), pytest.param(WORLDS, marks=pytest.mark.slow)], ids=len
)
def test_command_writes_table_figure_and_finding(worlds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    assert main(["--smoke", "--worlds", *worlds]) == 0
    out, err = capsys.readouterr()
    assert "Finding: " in out and "runs/logs/constant/constant.md" in out
    assert all(f"{world}  none: " in err for world in worlds)
    folder = tmp_path / "runs/logs/constant"
    text = (folder / "constant.md").read_text()
    assert "`python -m runs.constant --smoke --worlds HungryThirsty" in text
    assert all(f"| {world} | none | " in text for world in worlds)
    assert (folder / "constant.png").exists()


def test_interrupt_reports_that_nothing_was_written(tmp_path, monkeypatch, capsys):
    def interrupted_study(settings, report):
        raise KeyboardInterrupt
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constant, "study", interrupted_study)
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    assert main([]) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(worlds=("Deepsea",)), "unknown world 'Deepsea'; did you mean DeepSea"),
        (Settings(worlds=()), "one at least"),
        (Settings(worlds=("DeepSea", "DeepSea")), "at most once"),
        (Settings(seeds=2), "--seeds 2: must be at least 3"),
        (Settings(steps=0), "--steps 0"),
        (Settings(episodes=0), "--episodes 0"),
        (Settings(size=1), "--size 1: must be at least 2"),
        (Settings(smoke=True, record=True), "leave --smoke out"),
    ],
)
def test_bad_input_is_named(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        check(settings)
