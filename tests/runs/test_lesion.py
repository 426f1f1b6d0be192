"""The lesion study: the command, its tables, its refusals, what it says of made-up data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runs import lesion
from runs.errors import UserError
from runs.lesion import GambleScores, Settings, check, finding, main
from runs.theory import ponder
from runs.theory.ponder import Choices
from tests.runs.small_study import without_key_check

ROOT = Path(__file__).parents[2]
unchecked = pytest.fixture(autouse=True)(without_key_check)


def made_up(slopes: dict[str, float], shuffled: dict[str, float]) -> dict[str, GambleScores]:
    """Arms of 50 people with these slopes, and these totals where early losses lie on top."""
    noise = np.random.default_rng(0).normal(size=(50, 5))
    line = np.arange(-2, 3)
    return {
        name: GambleScores(slope * line + noise, shuffled.get(name, 10.0) / 5 + noise)
        for name, slope in slopes.items()
    }


def thinkers(longer: float) -> dict[str, Choices]:
    rng = np.random.default_rng(1)
    apart = rng.random((4, 100))
    waited = 10 - 5 * apart + rng.normal(size=(4, 100)) * 0.1
    return {
        "intact": Choices(waited, 0.2 + 0 * apart, apart),
        "lesioned": Choices(waited + longer * (1 - apart), 0.5 + 0.01 * waited, apart),
    }


ARMS = ("intact", "losses not felt", "sham: no mood", "sham: no curiosity")
PATIENT = dict.fromkeys(ARMS, 1.0) | {"losses not felt": -1.0, "afterthought: no reversal": -1.0}


def test_the_finding_says_which_way_it_fell():
    totals = {"losses not felt": -20.0, "afterthought: no reversal": 9.0, "intact": 10.0}
    said = finding(made_up(PATIENT, totals), thinkers(20.0))
    assert "no longer rises" in said and "the shams leave it rising" in said
    assert "this one's grows (-30.0" in said
    assert "cannot reverse shrinks" not in said and "cannot reverse grows (-1.0" in said
    other = dict(PATIENT) | {"losses not felt": 0.8, "sham: no mood": -0.5}
    said = finding(made_up(other, totals | {"losses not felt": 30.0}), thinkers(20.0))
    assert "no longer" not in said and "the shams do not leave it rising" in said
    assert "this one's shrinks (+20.0" in said


def test_time_and_regret_are_told_by_likeness():
    said = finding(made_up(PATIENT, {}), thinkers(20.0))
    assert "takes +10" in said or "takes +9" in said
    alike, apart = (lesion.by_difficulty(thinkers(20.0)["lesioned"])[k] for k in (0, -1))
    assert alike[0] < 0.2 and apart[0] > 0.8
    found = thinkers(20.0)["lesioned"]
    for distance, part in (alike, apart):
        wanted = found.waited.ravel()[part].mean()
        assert lesion.per_seed(found, "waited", part).mean() == pytest.approx(wanted, rel=0.05)
        assert distance == pytest.approx(found.apart.ravel()[part].mean())


def test_the_band_is_the_pooled_curve_moved_to_the_totals_of_studies():
    least, most = lesion.healthy_band()
    assert least.sum() == pytest.approx(0.2) and most.sum() == pytest.approx(26.6)
    np.testing.assert_allclose(np.diff(least), np.diff(most))


def test_arms_differ_in_one_thing_each():
    arms = lesion.arms(0.9)
    intact = arms["intact"].agent
    changed = {
        name: [f for f in vars(intact) if getattr(arm.agent, f) != getattr(intact, f)]
        + [arm.lost] * bool(arm.lost)
        for name, arm in arms.items()
    }
    assert list(changed.values()) == [[], ["aversion"], ["mood"], ["curiosity"], ["reversal"]]
    assert lesion.player_blend().names == lesion.player_blend("mood").names == ("mood", "curiosity")


def test_belief_and_rows_of_the_thinker():
    obs = np.array([[0.5, 0.1, 4 / 50], [0.1, 0.5, 4 / 50], [0.0, 0.0, 0.0]], np.float32)
    trust = 4 / (4 + (1 / 0.5) ** 2)
    np.testing.assert_allclose(ponder.belief(obs), [0.4 * trust, -0.4 * trust, 0.0], rtol=1e-5)
    rows = np.asarray(ponder.cell(obs))
    assert (rows // ponder.BINS).tolist() == [4, 4, 0]
    middle = ponder.BINS // 2
    assert rows[2] == middle and (rows[:2] % ponder.BINS - middle).tolist() == [3, -3]


def test_who_does_not_feel_the_cost_of_time_takes_more_of_it():
    felt, unfelt = (ponder.decide(who, 2, 60, 200) for who in ("intact", "lesioned"))
    np.testing.assert_array_equal(felt.apart, unfelt.apart)
    assert felt.waited.max() <= 50 and felt.regret.mean() < 0.5
    assert unfelt.waited.mean() > 1.3 * felt.waited.mean()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [({"people": 99}, "--people 99"), ({"seeds": 2}, "--seeds 2: an interval needs")],
)
def test_bad_input_is_refused(wrong, complaint):
    with pytest.raises(UserError, match=complaint):
        check(Settings(**wrong))


def test_an_unwritable_folder_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(lesion, "run_gamble", lambda people: (0.9, made_up(PATIENT, {})))
    monkeypatch.setattr(lesion, "run_ponder", lambda size: thinkers(20.0))
    with pytest.raises(UserError, match="choose another --out"):
        main(["--out", str(tmp_path / "file" / "under")])


def test_tables_and_figure_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lesion, "run_gamble", lambda people: (0.9, made_up(PATIENT, {})))
    monkeypatch.setattr(lesion, "run_ponder", lambda size: thinkers(20.0))
    assert main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "table.md").read_text()
    assert "MacPherson" in text and "56%" in text and "python -m runs.lesion" in text
    assert all(f"\n{name} | " in text for name in (*PATIENT, "lesioned"))
    assert text in capsys.readouterr().out
    assert (tmp_path / "table.png").stat().st_size > 20_000


def test_the_whole_command_in_smoke(tmp_path):
    command = [sys.executable, "-m", "runs.lesion", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| +0.49, +2.41" not in done.stdout and "people: healthy pool" in done.stdout
    assert (tmp_path / "table.png").exists()
