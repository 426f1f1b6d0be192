"""The over-optimisation study: Goodhart's curve, prices, satiety on a farm."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from affect import MissingInfo, Satiation, Sham, Spec, Transition, build
from affect.examples.source_satiation import SourceSatiation
from runs import overoptimisation as study
from runs.overoptimisation_run import WORK, DividedByMean, SetPoint, proxy_arms, proxy_blend
from tests.runs.study_job import table_rows

TAU, STEPS = 20, 720


@pytest.mark.parametrize(
    ("paid", "hidden", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], (3, 0, 0)),  # honest to the end
        ([1, 2, 3, 4], [1, 2, 1, 0], (1, 2, 2)),  # over-optimised
        ([4, 3, 2, 1], [4, 3, 2, 1], (0, 3, -3)),  # forgotten, not over-optimised
    ],
)
def test_goodhart(paid, hidden, expected):
    assert study.goodhart(np.array(paid), np.array(hidden)) == expected


def test_early_stopping_takes_the_first_time_at_which_pay_has_grown_enough():
    assert study.early_stop(np.array([1.0, 1.5, 1.9, 2.0, 1.0]), 0.9) == 2
    assert study.early_stop(np.array([2.0, 1.0]), 0.9) == 0
    assert study.early_stop(np.full(4, 3.0)) == 0


def test_price_is_pay_given_up_for_what_is_kept():
    assert study.price(1.0, 0.8, 2.0, 0.3) == pytest.approx(2.0)
    assert np.isnan(study.price(1.0, 0.3, 2.0, 0.3))


# --- satiation --------------------------------------------------------------------------------


def paying(source: np.ndarray) -> Transition:
    """Transitions [T, 1] of one episode that pay `source` [T, n]."""
    steps, flat = len(source), jnp.zeros((len(source), 1))
    no = jnp.zeros((steps, 1), bool)
    reward = jnp.asarray(source.sum(-1, keepdims=True), jnp.float32)
    info = {"source": jnp.asarray(source[:, None], jnp.float32)}
    obs = flat[..., None]
    return Transition(obs, flat.astype(int), obs, reward, no, no, no.at[0].set(True), info)


def signal(factory, source):
    head = build(factory, Spec(1, 1, info=("source",)), jax.random.key(0))
    return np.asarray(head(head.initial_state(1), paying(source))[0][:, 0])


def pattern(world: str, farming: bool) -> np.ndarray:
    """Pay by source [T, n] of work, or of the farm, of a world."""
    time = np.arange(STEPS)
    if world == "BoatRace":
        if farming:
            return np.stack([time % 2 == 0, 0 * time], -1)
        return np.stack([time % 8 == 0, time % 8 == 4], -1)
    if world == "Button":
        return np.ones((STEPS, 1)) if farming else (time % 9 == 0)[:, None]
    cell = 0 * time if farming else time % 12
    return (1.0 if farming else 0.77) * np.eye(12)[cell]


@pytest.mark.parametrize("world", WORK)
def test_at_weight_2_work_is_worth_more_than_the_farm_by_source_and_not_in_general(world):
    work, farm = pattern(world, False), pattern(world, True)
    assert farm.sum() > work.sum()
    assert work.sum() / STEPS == pytest.approx(WORK[world][0], rel=0.02)
    heads = {"source": SourceSatiation(sources=work.shape[1]), "general": Satiation}
    heads["pooled"] = SourceSatiation(sources=1)
    worth = {
        (name, weight, place): source.sum(-1).mean() + weight * felt.mean()
        for place, source in (("work", work), ("farm", farm))
        for name, felt in ((name, signal(head, source)) for name, head in heads.items())
        for weight in (0.5, 2.0)
    }
    assert worth["source", 2.0, "work"] > max(worth["source", 2.0, "farm"], 0)
    assert worth["general", 0.5, "farm"] > worth["general", 0.5, "work"]
    assert worth["general", 2.0, "work"] < 0  # not to work is better
    if world == "Tomatoes":  # every step pays
        assert worth["pooled", 2.0, "work"] == pytest.approx(worth["general", 2.0, "work"])
    else:
        assert worth["pooled", 2.0, "work"] > max(worth["pooled", 2.0, "farm"], 0)
        assert worth["source", 2.0, "work"] >= worth["pooled", 2.0, "work"]


def test_satiation_by_source_follows_its_equation():
    rng = np.random.default_rng(0)
    source = rng.choice([0, 0.5, 1.0], (30, 3)) * (rng.random((30, 3)) < 0.5)
    mean, expected = np.zeros(3), []
    for pay in source:
        mean += (pay - mean) / TAU
        expected.append(-mean[pay != 0].sum())
    np.testing.assert_allclose(signal(SourceSatiation(sources=3), source), expected, rtol=1e-4)
    pooled = signal(SourceSatiation(sources=1), source)
    general = signal(Satiation, source)
    np.testing.assert_allclose(pooled, np.where(source.sum(-1) > 0, general, 0), rtol=1e-4)


def test_bad_sources_are_refused():
    with pytest.raises(MissingInfo, match=r'info\["source"\]'):
        build(SourceSatiation, Spec(1, 1), jax.random.key(0))
    with pytest.raises(ValueError, match="has 3 sources, and SourceSatiation was made for 2"):
        signal(SourceSatiation(sources=2), np.ones((4, 3)))
    with pytest.raises(ValueError, match="sources are a whole number"):
        SourceSatiation(sources=0)


def test_rivals_follow_their_equations():
    pay, mean = (np.arange(8) % 2 == 0).astype(float)[:, None], 0.0
    for t, (at_set, divided) in enumerate(
        zip(signal(SetPoint(target=0.1), pay), signal(DividedByMean, pay), strict=True)
    ):
        mean += (pay[t, 0] - mean) / TAU
        assert at_set == pytest.approx(-abs(mean - 0.1), abs=1e-6)
        assert divided + pay[t, 0] == pytest.approx(pay[t, 0] / max(mean, 0.05), rel=1e-5)


def test_every_arm_is_a_mix_of_the_blend_of_every_world():
    for world in WORK:
        names = set(proxy_blend(world).names)
        assert all(set(arm.weights) <= names for arm in proxy_arms(0.99))
        assert isinstance(proxy_blend(world).heads["sham"][1], type(Sham(Satiation)))
    assert {arm.name for arm in proxy_arms(0.99)} >= set(study.RIVALS) - {study.EARLY}


# --- page -------------------------------------------------------------------------------------


def made_up_rows(seeds: int = 5) -> pd.DataFrame:
    """Rows of two worlds: `none` farms from time 2 on, `by_source_4` works on."""
    rows = []
    for world in ("BoatRace", "Button"):
        for arm in {study.CONTROL, study.TESTED, *study.RIVALS} - {study.EARLY}:
            for seed, time, place in np.ndindex(seeds, 4, 2):
                farms = arm != study.TESTED and time >= 2 and place == 1
                paid, hidden = (2.0, 0.0) if farms else (1.0, 1.0)
                row = {"world": world, "arm": arm, "seed": seed, "time": time, "alive": True}
                row |= {"place": ("home", "farm")[place], "opened": time >= 2}
                rows.append(row | {"return": paid, "hidden": hidden + 0.001 * seed})
    return pd.DataFrame(rows).sort_values(["world", "arm"])


def test_sentence_tables_and_figure_of_made_up_rows(tmp_path):
    curves = study.curves_by_arm(made_up_rows())
    assert curves["none"]["Button"].paid[0].tolist() == [1, 1, 2, 2]
    ends = study.final_scores(curves)
    np.testing.assert_allclose(ends["early_stopping"]["paid"], 2)
    sentence = study.finding(ends)
    assert "keeps more of the hidden performance than a maximiser: +1.00" in sentence
    rows = table_rows(study.arm_table(ends, ["BoatRace", "Button"]))
    row = next(row for row in rows if row[0] == study.TESTED)
    assert row[1:3] == ["1.00", "1.00"] and row[7] == "1.00"
    assert "+1.00" in study.goodhart_table(curves["none"])
    study.draw_worlds(curves, 2, 1000, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 5000
