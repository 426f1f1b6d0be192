"""The study of constant rewards: arms, paired differences, sentences and the command."""

import numpy as np
import pytest

from affect import Constant, ConstantOf
from runs.constant import (
    LEVELS,
    UNITS,
    Settings,
    arms,
    draw_scores,
    finding,
    main,
    score_world,
    summarise,
    table_row,
)
from runs.errors import Interrupted
from runs.theory.deep_sea import CURIOSITY, run_dives
from tests.runs.small_study import without_key_check_in_threads
from tests.runs.study_job import make_job, table_rows

no_key_check = pytest.fixture(autouse=True)(without_key_check_in_threads)


def rows_of(feeling=5.0, constant=3.0, world="DeepSea"):
    """Make the rows of four arms that share the noise of their runs."""
    noise = np.array([0.0, 10.0, -10.0, 3.0])
    small = np.array([0.1, -0.1, 0.1, -0.1])
    scores = [
        ("none", "none", 1.0 + noise),
        ("curiosity", "feeling", feeling + noise + small),
        ("mean of curiosity", "constant", 0.0 + noise),
        ("constant -0.01", "constant", constant + noise - small),
    ]
    return summarise(world, scores)


def test_differences_are_paired_by_run_and_beyond_the_best_constant():
    rows = {row.arm: row for row in rows_of()}
    assert rows["none"].gain is None and rows["none"].beyond is None
    gain = rows["curiosity"].gain
    assert gain.value == pytest.approx(4.0) and gain.high - gain.low < 0.5  # the noise is shared
    assert rows["curiosity"].beyond.value == pytest.approx(2.0)
    assert rows["constant -0.01"].gain.value == pytest.approx(2.0)
    assert rows["constant -0.01"].beyond is None
    beyond_the_mean = next(row.beyond for row in rows_of(constant=-1.0) if row.arm == "curiosity")
    assert beyond_the_mean.value == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("feeling", "level", "words"),
    [
        (5.0, 3.0, "1 of 1 intrinsic rewards gained anything over none, and 1 of these 1 went"),
        (5.0, 9.0, "1 of 1 intrinsic rewards gained anything over none, and 0 of these 1 went"),
        (1.0, 9.0, "0 of 1 intrinsic rewards gained anything over none, so there is nothing"),
    ],
)
def test_finding_counts_gains_over_none_and_beyond_constants(feeling, level, words):
    sentence = finding(rows_of(feeling, level))
    assert words in sentence
    if feeling > 1:
        assert "curiosity in DeepSea +4.000 [" in sentence and "constant -0.01 there" in sentence


def test_finding_compares_each_world_with_its_own_best_constant():
    sentence = finding(rows_of() + rows_of(8.0, 4.0, "CartPole"))
    assert "2 of 2 intrinsic rewards" in sentence
    assert "curiosity in CartPole +7.0 [" in sentence and "constant -0.01 there +3.0 [" in sentence


def test_table_and_figure(tmp_path):
    rows = rows_of()
    assert table_row(rows[0])[:3] == ["DeepSea", "none", "4"]
    assert table_row(rows[0])[4:] == ["-", "-"]
    assert table_row(rows[1])[4].startswith("+4.000 [+3.")
    draw_scores(rows + rows_of(world="CartPole"), tmp_path / "constant.png")
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
    assert weight == CURIOSITY[0] and mean == ConstantOf(CURIOSITY[1])
    assert arm_list[-1][2].heads["constant"][1].func is Constant
    assert [name for name, _, _ in arms({}, levels=(0.5,))] == ["none", "constant +0.5"]


@pytest.mark.slow
def test_negative_constant_solves_deep_sea():
    """To a Q-table initialised at 0, a negative constant makes untried actions look better."""
    by_name = {name: blend for name, _, blend in arms({})}
    below, above = (run_dives(8, by_name[f"constant {c:+}"], 3, 400) for c in (-0.01, 0.01))
    assert below.solved.all() and not above.solved.any()


@pytest.mark.slow
@pytest.mark.parametrize("worlds", [("HungryThirsty", "DeepSea"), tuple(UNITS)], ids=len)
def test_command_writes_the_page_and_keeps_finished_worlds(worlds, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    command = ["--smoke", "--out", str(tmp_path), "--worlds", *worlds]
    assert main(command) == 0
    text = (tmp_path / "constant.md").read_text()
    printed = capsys.readouterr()
    assert "Finding: " in text and text in printed.out
    assert f"`python -m runs.constant --smoke --out {tmp_path} --worlds HungryThirsty" in text
    assert all(f"{world}  none: " in printed.err for world in worlds)
    assert [world for world, arm, *_ in table_rows(text) if arm == "none"] == [*worlds]
    assert (tmp_path / "constant.png").exists()
    monkeypatch.setattr("runs.constant.score_world", pytest.fail)  # nothing is computed again
    assert main(command) == 0 and capsys.readouterr().out == printed.out


@pytest.mark.slow
def test_a_stopped_world_is_not_kept(tmp_path):
    job = make_job(Settings(), tmp_path, stop_at=0)
    with pytest.raises(Interrupted):
        score_world(job, Settings(seeds=3, smoke=True), "HungryThirsty")
    assert list(tmp_path.iterdir()) == []
