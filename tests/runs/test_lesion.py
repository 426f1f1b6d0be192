"""The lesion study: its finding for made-up data, arms, thinker, tables and command."""

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


def made_up_scores(
    slopes: dict[str, float], shuffled_totals: dict[str, float]
) -> dict[str, GambleScores]:
    """Arms of 50 people of given slopes, and given totals with shuffled decks (10 if not given)."""
    noise = np.random.default_rng(0).normal(size=(50, 5))
    line = np.arange(-2, 3)
    return {
        name: GambleScores(slope * line + noise, shuffled_totals.get(name, 10.0) / 5 + noise)
        for name, slope in slopes.items()
    }


def made_up_choices(longer: float) -> dict[str, Choices]:
    """Choices of both agents; the lesioned one waits up to `longer` steps more."""
    rng = np.random.default_rng(1)
    apart = rng.random((4, 100))
    waited = 10 - 5 * apart + rng.normal(size=(4, 100)) * 0.1
    return {
        "intact": Choices(waited, 0.2 + 0 * apart, apart),
        "lesioned": Choices(waited + longer * (1 - apart), 0.5 + 0.01 * waited, apart),
    }


ARMS = ("intact", "losses not felt", "sham: no mood", "sham: no curiosity")
PATIENT_SLOPES = dict.fromkeys(ARMS, 1.0) | {
    "losses not felt": -1.0,
    "afterthought: no reversal": -1.0,
}


def test_the_finding_states_the_direction_of_each_effect():
    totals = {"losses not felt": -20.0, "afterthought: no reversal": 9.0, "intact": 10.0}
    text = finding(made_up_scores(PATIENT_SLOPES, totals), made_up_choices(20.0))
    assert "no longer rises" in text and "the shams leave it rising" in text
    assert "this one's grows (-30.0" in text
    assert "cannot reverse shrinks" not in text and "cannot reverse grows (-1.0" in text
    slopes = dict(PATIENT_SLOPES) | {"losses not felt": 0.8, "sham: no mood": -0.5}
    text = finding(
        made_up_scores(slopes, totals | {"losses not felt": 30.0}), made_up_choices(20.0)
    )
    assert "no longer" not in text and "the shams do not leave it rising" in text
    assert "this one's shrinks (+20.0" in text


def test_waiting_and_regret_are_averaged_by_difficulty():
    text = finding(made_up_scores(PATIENT_SLOPES, {}), made_up_choices(20.0))
    assert "takes +10" in text or "takes +9" in text
    nearest, farthest = (
        lesion.by_difficulty(made_up_choices(20.0)["lesioned"])[k] for k in (0, -1)
    )
    assert nearest[0] < 0.2 and farthest[0] > 0.8
    choices = made_up_choices(20.0)["lesioned"]
    for distance, part in (nearest, farthest):
        expected = choices.waited.ravel()[part].mean()
        assert lesion.per_seed(choices, "waited", part).mean() == pytest.approx(expected, rel=0.05)
        assert distance == pytest.approx(choices.apart.ravel()[part].mean())


def test_the_band_is_the_pooled_curve_shifted_to_the_totals_of_studies():
    least, most = lesion.healthy_band()
    assert least.sum() == pytest.approx(0.2) and most.sum() == pytest.approx(26.6)
    np.testing.assert_allclose(np.diff(least), np.diff(most))


def test_each_arm_differs_from_intact_in_one_thing():
    arms = lesion.arms(0.9)
    intact = arms["intact"].agent
    changed = {
        name: [f for f in vars(intact) if getattr(arm.agent, f) != getattr(intact, f)]
        + [arm.lesioned] * bool(arm.lesioned)
        for name, arm in arms.items()
    }
    assert list(changed.values()) == [[], ["aversion"], ["mood"], ["curiosity"], ["reversal"]]
    assert lesion.player_blend().names == lesion.player_blend("mood").names == ("mood", "curiosity")


def test_belief_and_table_rows_of_the_ponder_agent():
    obs = np.array([[0.5, 0.1, 4 / 50], [0.1, 0.5, 4 / 50], [0.0, 0.0, 0.0]], np.float32)
    trust = 4 / (4 + (1 / 0.5) ** 2)
    np.testing.assert_allclose(ponder.belief(obs), [0.4 * trust, -0.4 * trust, 0.0], rtol=1e-5)
    rows = np.asarray(ponder.cell(obs))
    assert (rows // ponder.BINS).tolist() == [4, 4, 0]
    middle = ponder.BINS // 2
    assert rows[2] == middle and (rows[:2] % ponder.BINS - middle).tolist() == [3, -3]


def test_without_the_cost_of_time_the_agent_waits_longer():
    intact, lesioned = (ponder.decide(agent, 2, 60, 200) for agent in ("intact", "lesioned"))
    np.testing.assert_array_equal(intact.apart, lesioned.apart)
    assert intact.waited.max() <= 50 and intact.regret.mean() < 0.5
    assert lesioned.waited.mean() > 1.3 * intact.waited.mean()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"people": 99}, "--people 99"), ({"seeds": 2}, "--seeds 2: an interval needs")],
)
def test_bad_input_is_refused(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        check(Settings(**settings))


def test_an_unwritable_folder_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(
        lesion, "run_gamble", lambda people: (0.9, made_up_scores(PATIENT_SLOPES, {}))
    )
    monkeypatch.setattr(lesion, "run_ponder", lambda size: made_up_choices(20.0))
    with pytest.raises(UserError, match="choose another --out"):
        main(["--out", str(tmp_path / "file" / "under")])


def test_tables_and_figure_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        lesion, "run_gamble", lambda people: (0.9, made_up_scores(PATIENT_SLOPES, {}))
    )
    monkeypatch.setattr(lesion, "run_ponder", lambda size: made_up_choices(20.0))
    assert main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "table.md").read_text()
    assert "MacPherson" in text and "56%" in text and "python -m runs.lesion" in text
    assert all(f"\n{name} | " in text for name in (*PATIENT_SLOPES, "lesioned"))
    assert text in capsys.readouterr().out
    assert (tmp_path / "table.png").stat().st_size > 20_000


def test_the_whole_command_runs_with_smoke(tmp_path):
    command = [sys.executable, "-m", "runs.lesion", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| +0.49, +2.41" not in done.stdout and "people: healthy pool" in done.stdout
    assert (tmp_path / "table.png").exists()
