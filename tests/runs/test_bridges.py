"""Study of other libraries' agents: contrasts and page from numbers, bad input, runs with SB3."""

import re

import numpy as np
import pandas as pd
import pytest

from affect import Potential, load
from runs import bridges
from runs.analysis.scores import COLUMNS
from runs.bridges import PARTS, Settings, best_constant, check, finding, main, table
from runs.errors import UserError
from tests.refusal import refused
from tests.runs.small_study import without_key_check_in_threads

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)


def rows(**means):
    """Score rows of three seeds an arm, .1 apart."""
    return [
        {"arm": arm, "seed": seed, "area": mean + 0.1 * (seed - 1), "home": mean, "shifted": 0.0}
        for arm, mean in means.items()
        for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        (0.9, "learn faster: area under the learning curve +0.900 [+0.673, +1.127] (p 0.00077)"),
        (0.9, "the best constant, potential_-1, +0.500 [+0.273, +0.727] (p 0.0036), more than it"),
        (0.0, "does not differ measurably from no signal"),
        (-0.9, "learn more slowly"),
        (-0.9, "less than it"),
        (0.4, "not told apart from it"),
    ],
)
def test_the_finding_is_the_two_declared_contrasts(signal, words):
    """Oracle: Welch of two arms with a spread of .1 has 4 degrees of freedom, t = 2.776."""
    scores = rows(none=0.0, **{"potential_-1": 0.4, "potential_-2": 0.3}, signal=signal)
    assert words in finding("curiosity", scores)
    assert best_constant(bridges.by_arm(scores, "area")) == "potential_-1"
    cells = table(scores)
    assert [row[0] for row in cells] == ["none", "potential_-1", "potential_-2", "signal"]
    assert cells[0][-1] == "-" and cells[1][-1] == "+0.400 [+0.173, +0.627]"


def test_where_no_episode_ended_the_finding_says_so():
    scores = rows(none=np.nan, **{"potential_-1": np.nan}, signal=np.nan)
    text = finding("curiosity", scores)
    assert text.count("unknown (episodes ended in fewer than 3 seeds)") == 2
    assert table(scores)[0][-1] == "-"
    areas = {
        "a": np.full(3, np.nan),
        "b": np.array([1.0, 2.0, 3.0]),
        "c": np.array([0.0, 1.0, 2.0]),
    }
    assert best_constant(areas) == "b"


def test_the_figure_takes_curves_in_which_no_episode_ended(tmp_path):
    curves = [
        {"arm": arm, "seed": seed, "step": step, "return": None if step == 1 else seed}
        for arm in ("none", "signal")
        for seed in range(3)
        for step in range(1, 45)
    ]
    bridges.draw_areas(pd.DataFrame(curves), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_returns_of_parents_are_those_at_home(tmp_path):
    rows = [(1, "none", 1.0), (0, "none", 0.5), (0, "noise", 0.9), (2, "none", -1.0)]
    other = dict.fromkeys(COLUMNS, 0.0)
    dicts = [other | {"seed": i, "episodes": 2, "shift": at, "return": x} for i, at, x in rows]
    pd.DataFrame(dicts).to_csv(tmp_path / "scores.csv", index=False)
    returns = bridges.home_returns(tmp_path)
    np.testing.assert_allclose(returns, [0.5, 1.0, -1.0])
    assert bridges.best_parent(returns) == 1
    with pytest.raises(UserError, match="return 0.00 at most.*choose another --base"):
        bridges.best_parent(np.array([-0.5, 0.0, -1.0]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(part="deepsea"), "unknown part 'deepsea'; did you mean deep_sea"),
        (Settings(seeds=2), "--seeds 2"),
        (Settings(smoke=True, record=True), "leave --smoke out"),
    ],
)
def test_bad_input_is_refused_in_one_line(settings, words):
    with refused(UserError, words):
        check(settings)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_run_and_reported(part, tmp_path, monkeypatch, capsys):
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    assert main(["--smoke", "--part", part, "--out", str(tmp_path)]) == 0
    text = (tmp_path / f"bridges-{part}.md").read_text()
    assert "Finding: " in text and text in capsys.readouterr().out
    assert len(re.findall(r"\[", text)) > 10 and (tmp_path / f"bridges-{part}.png").exists()
    lines = (tmp_path / f"bridges-{part}.csv").read_text().splitlines()
    arms = (*PARTS[part].controls, "signal", *["stale"] * (part == "replay"))
    assert [line.split(",")[1] for line in lines[1:]] == list(np.repeat(arms, 3))
    if part == "timid_ours":
        head = load(tmp_path / "value.safetensors")
        assert Potential.from_card(head).settings["scale"] == 2 and "The parent" in text
        assert np.isfinite(head.value(np.zeros((1, 37), np.float32))).all()
