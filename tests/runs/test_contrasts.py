"""Contrasts of arms, Holm-adjusted together, and those of heads with their constant baseline."""

import numpy as np
import pytest

from runs.analysis import stats
from runs.analysis.contrasts import (
    HeadContrasts,
    compared_heads,
    contrast_cells,
    contrast_sentence,
    contrasts,
    head_contrasts,
    potential_sentence,
    rival_contrasts,
)
from runs.analysis.stats import Estimate

SEEDS = np.linspace(-0.02, 0.02, 8)
KINDS = ("", "_sham", "_untrained", "_constant")
ARMS = ("constant_plus", *(head + kind for head in ("fear", "hope") for kind in KINDS))


def scores_by_arm(**better: float) -> dict[str, np.ndarray]:
    """Arm -> scores [seeds]: 0.5, plus the arm's bonus, plus a small seed effect."""
    return {arm: 0.5 + better.get(arm, 0.0) + SEEDS for arm in ARMS}


# --- contrasts of any arms ------------------------------------------------------------------------


@pytest.mark.parametrize("paired", [False, True])
def test_contrasts_are_those_of_scipy_with_holm_over_the_family(paired):
    from scipy import stats as tests

    rng = np.random.default_rng(0)
    scores = {arm: rng.normal(size=12) + shift for arm, shift in (("a", 0), ("b", 1), ("c", 0.2))}
    rows = contrasts(scores, [("b", "a"), ("c", "a")], paired)
    test = tests.ttest_rel if paired else lambda x, y: tests.ttest_ind(x, y, equal_var=False)
    p_values = [float(test(scores[arm], scores["a"]).pvalue) for arm in "bc"]
    assert [(row.arm, row.reference) for row in rows] == [("b", "a"), ("c", "a")]
    assert [row.p_value for row in rows] == pytest.approx(p_values)
    assert [row.p_holm for row in rows] == pytest.approx(
        [2 * p_values[0], max(2 * p_values[0], p_values[1])]
    )
    difference = stats.paired if paired else stats.difference
    assert rows[0].estimate == difference(scores["b"], scores["a"])


def test_seeds_that_are_not_finite_are_left_out_in_pairs_or_alone():
    scores = {"x": np.array([1.0, np.nan, 3.0, 4.0]), "y": np.array([0.0, 0.0, np.nan, 1.0])}
    assert contrasts(scores, [("x", "y")], paired=True)[0].estimate is None  # two pairs are left
    unpaired = contrasts(scores, [("x", "y")], paired=False)[0]
    assert unpaired.estimate == stats.difference(np.array([1.0, 3, 4]), np.array([0.0, 0, 1]))
    longer = {name: np.append(x, [2.0, 2.0]) for name, x in scores.items()}
    paired = contrasts(longer, [("x", "y")], paired=True)[0]
    assert paired.estimate == stats.mean(np.array([1.0, 3.0, 0.0, 0.0]))


@pytest.mark.parametrize("paired", [False, True])
def test_a_contrast_without_enough_seeds_is_outside_the_family(paired):
    scores = {
        ("Drive", "fear"): 0.6 + SEEDS,
        ("Drive", "none"): 0.5 + SEEDS[::-1],
        "few": SEEDS[:2],
    }
    pairs = [("few", "few"), (("Drive", "fear"), ("Drive", "none")), ("missing", "few")]
    few, tested, missing = contrasts(scores, pairs, paired)
    assert few.estimate is None and missing.estimate is None
    assert np.isnan([few.p_value, few.p_holm, missing.p_value, missing.p_holm]).all()
    assert tested.p_holm == tested.p_value and tested.estimate.value == pytest.approx(0.1)
    assert contrasts(scores, [], paired) == []


def test_paired_arms_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="4 and 3 seeds cannot be paired"):
        contrasts({"x": SEEDS[:4], "y": SEEDS[:3]}, [("x", "y")], paired=True)


def test_rivals_are_one_family_and_the_verdict_follows_its_p_values():
    rng = np.random.default_rng(0)
    scores = {arm: x + rng.normal(size=9) for arm, x in (("a", 0), ("b", 9), ("c", -9), ("d", 0))}
    family = rival_contrasts(scores, "a", ("b", "c", "d"))
    verbs = {arm: row.verdict("beats", "loses to") for arm, row in family.items()}
    assert verbs == {"b": "loses to", "c": "beats", "d": "is not told apart from"}
    estimate = f"{stats.paired(scores['a'], scores['b'])}"
    assert contrast_cells(family["b"]) == (estimate, f"{family['b'].p_holm:.2g}")
    assert contrast_cells(None) == ("", "")


# --- heads and their controls ---------------------------------------------------------------------


def test_head_plus_constant_is_compared_with_the_constant():
    better = {"constant_plus": 0.1, "fear_constant": 0.3, "fear": 0.05}
    (row,) = head_contrasts({"Drive": scores_by_arm(**better)}, ["fear"])
    assert row.on_constant.value == pytest.approx(0.2) and row.p_value < 1e-6
    assert row.over_sham.value == pytest.approx(0.05)
    assert row.over_untrained.value == pytest.approx(0.05)


def test_p_values_are_corrected_over_all_heads_and_environments():
    by_env = {"Drive": scores_by_arm(fear_constant=0.02), "Timid": scores_by_arm()}
    rows = head_contrasts(by_env, ["fear", "hope"])
    unadjusted = stats.p_value(0.52 + SEEDS, 0.5 + SEEDS)
    assert [(item.env, item.head) for item in rows] == [
        (env, head) for env in by_env for head in ("fear", "hope")
    ]
    assert rows[0].p_value == pytest.approx(4 * unadjusted)
    assert [item.p_value for item in rows[1:]] == [1.0] * 3
    assert head_contrasts(by_env, []) == []


def test_compared_heads_have_all_their_controls():
    arms = ["none", *ARMS[:5], "hope", "hope_constant"]
    assert compared_heads(arms) == ["fear"]
    assert compared_heads(arms[2:]) == []


def test_the_best_constant_potential_is_a_control_and_the_constant_alone_is_one_of_0():
    better = {"fear_constant": 0.3, "constant_plus": 0.1}
    scores = scores_by_arm(**better)
    assert head_contrasts({"Drive": scores}, ["fear"])[0].over_potential is None
    scores["potential_-1"] = 0.9 + SEEDS  # without the constant: another reward
    scores["potential_-1_constant"] = 0.55 + SEEDS
    (row,) = head_contrasts({"Drive": scores}, ["fear"])
    assert row.potential == "constant_plus" and row.over_potential == row.on_constant
    scores["potential_-2_constant"] = 0.75 + SEEDS
    (row,) = head_contrasts({"Drive": scores}, ["fear"])
    assert row.potential == "potential_-2_constant"
    assert row.over_potential.value == pytest.approx(0.05)
    text = potential_sentence([row])
    assert text.startswith("Drive: the best of the constant potentials beside the constant is ")
    assert "potential_-2_constant; constant + head less it: fear +0.050 [" in text
    assert potential_sentence([make_contrasts(0.2, 0.01)]) == ""


def make_contrasts(value: float, p_value: float) -> HeadContrasts:
    zero = Estimate(0, 0, 0)
    return HeadContrasts("Drive", "hope", Estimate(value, value, value), p_value, zero, zero)


@pytest.mark.parametrize(
    ("value", "p_value", "start"),
    [
        (0.2, 0.01, "Drive: on top of a constant, hope adds +0.200 [+0.200, +0.200]."),
        (-0.2, 0.01, "Drive: on top of a constant, hope costs -0.200 [-0.200, -0.200]."),
        (0.2, 0.9, "Drive: no head adds significantly to a constant (not significant: hope +0.2"),
    ],
)
def test_contrast_sentence_follows_sign_and_p_value(value, p_value, start):
    assert contrast_sentence([make_contrasts(value, p_value)]).startswith(start)
