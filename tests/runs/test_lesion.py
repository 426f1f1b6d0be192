"""The lesion study: its finding for made-up data, arms, the learner of Ponder, and command."""

import numpy as np
import pytest

from runs import lesion
from runs.lesion import LesionResults, finding, main
from runs.theory import gamblers, ponder
from runs.theory.gambling_scores import OrderScores
from runs.theory.ponder import Choices, decision_times
from tests.runs.small_study import without_key_check_in_threads

unchecked = pytest.fixture(autouse=True)(without_key_check_in_threads)
PATIENTS = {"losses not felt": -1.0, "afterthought: no reversal": -1.0}
SLOPES = {"intact": 1.0, "sham: no mood": 1.0, "sham: no curiosity": 1.0} | PATIENTS


def made_up_results(slopes: dict[str, float], shuffled: dict[str, float]) -> LesionResults:
    """Results of 50 people of given slopes and totals with shuffled decks, 10 if not given.

    The lesioned learner of Ponder waits up to 20 steps more, at options that are alike.
    """
    noise = np.random.default_rng(0).normal(size=(50, 5))
    scores = {
        name: OrderScores(slope * np.arange(-2, 3) + noise, shuffled.get(name, 10.0) / 5 + noise)
        for name, slope in slopes.items()
    }
    choices = {"intact": made_up_choices(0.0), "lesioned": made_up_choices(20.0)}
    return LesionResults(0.9, scores, {arm: decision_times(x) for arm, x in choices.items()})


def made_up_choices(longer: float) -> Choices:
    rng = np.random.default_rng(1)
    apart = rng.random((4, 100))
    waited = 10 - 5 * apart + rng.normal(size=(4, 100)) * 0.1 + longer * (1 - apart)
    return Choices(waited, 0.2 + 0.01 * waited, apart)


def test_the_finding_states_the_direction_of_each_effect():
    totals = {"losses not felt": -20.0, "afterthought: no reversal": 9.0, "intact": 10.0}
    text = finding(made_up_results(SLOPES, totals))
    assert "no longer rises" in text and "the shams leave it rising" in text
    assert "this one's grows (-30.0" in text and "cannot reverse grows (-1.0" in text
    assert "takes +10" in text or "takes +9" in text
    slopes = SLOPES | {"losses not felt": 0.8, "sham: no mood": -0.5}
    text = finding(made_up_results(slopes, totals | {"losses not felt": 30.0}))
    assert "no longer" not in text and "the shams do not leave it rising" in text
    assert "this one's shrinks (+20.0" in text


def test_decisions_are_averaged_over_fifths_by_the_distance_of_the_options():
    choices = made_up_choices(20.0)
    times = decision_times(choices)
    order = np.argsort(choices.apart, axis=None)
    for k, part in ((0, order[:80]), (-1, order[-80:])):
        assert times.apart[k] == pytest.approx(choices.apart.ravel()[part].mean())
        expected = choices.waited.ravel()[part].mean()
        assert times.by_fifth[k].mean() == pytest.approx(expected, rel=0.05)
    np.testing.assert_allclose(times.waited, choices.waited.mean(1))
    np.testing.assert_allclose(times.regret, choices.regret.mean(1))


def test_each_arm_differs_from_intact_in_one_thing():
    arms = gamblers.lesion_arms(0.9)
    intact, full_weights = arms["intact"]
    changed = [
        [f for f in vars(intact) if getattr(agent, f) != getattr(intact, f)]
        + [
            name
            for name, weight, full in zip(gamblers.HEADS.names, weights, full_weights, strict=True)
            if weight != full
        ]
        for agent, weights in arms.values()
    ]
    assert changed == [[], ["aversion"], ["mood"], ["curiosity"], ["reversal"]]


def test_belief_and_table_rows_of_the_ponder_agent():
    obs = np.array([[0.5, 0.1, 4 / 50], [0.1, 0.5, 4 / 50], [0.0, 0.0, 0.0]], np.float32)
    trust = 4 / (4 + (1 / 0.5) ** 2)
    np.testing.assert_allclose(ponder.belief(obs), [0.4 * trust, -0.4 * trust, 0.0], rtol=1e-5)
    rows = np.asarray(ponder.cell(obs))
    assert (rows // ponder.BINS).tolist() == [4, 4, 0]
    middle = ponder.BINS // 2
    assert rows[2] == middle and (rows[:2] % ponder.BINS - middle).tolist() == [3, -3]


def test_the_page_has_tables_of_people_and_arms_design_and_contrary_evidence(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(lesion, "simulate", lambda sizes: made_up_results(SLOPES, {}))
    assert main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "lesion.md").read_text()
    assert "MacPherson" in text and "56%" in text and "python -m runs.lesion" in text
    assert "Built in: losses weigh" in text and "| people: healthy pool" in text
    assert all(f"\n| {name} " in text for name in (*SLOPES, "lesioned"))
    assert text in capsys.readouterr().out
    assert (tmp_path / "lesion.png").stat().st_size > 20_000


@pytest.mark.slow
def test_a_smoke_run_simulates_both_worlds(monkeypatch, tmp_path):
    """Without the cost of time the learner of Ponder waits longer for the same pairs."""
    decisions = []
    monkeypatch.setattr(
        ponder, "decision_times", lambda x: decisions.append(x) or decision_times(x)
    )
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    assert "| intact " in (tmp_path / "lesion.md").read_text()
    intact, lesioned = decisions
    np.testing.assert_array_equal(intact.apart, lesioned.apart)
    assert intact.waited.max() <= 50 and intact.regret.mean() < 0.5
    assert lesioned.waited.mean() > 1.3 * intact.waited.mean()
