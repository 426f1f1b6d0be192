"""A head is measured against what it stands on, and the family is paid for."""

import numpy as np
import pytest

from runs.analysis import stats
from runs.analysis.contrasts import HeadContrasts, compared_heads, contrast_sentence, head_contrasts
from runs.analysis.stats import Estimate

SEEDS = np.linspace(-0.02, 0.02, 8)


def scores(**better: float):
    """The scores of an arm: .5, or as much better, and a little a seed."""
    return lambda arm: 0.5 + better.get(arm, 0.0) + SEEDS


def test_a_head_is_measured_against_the_constant_it_stands_on():
    better = {"constant_plus": 0.1, "fear_constant": 0.3, "fear": 0.05}
    (found,) = head_contrasts({"Drive": scores(**better)}, ["fear"])
    assert found.on_constant.value == pytest.approx(0.2) and found.p_value < 1e-6
    assert found.over_sham.value == pytest.approx(0.05)
    assert found.over_scrambled.value == pytest.approx(0.05)


def test_the_p_values_of_all_heads_and_environments_are_one_family():
    of = {"Drive": scores(fear_constant=0.02), "Timid": scores()}
    found = head_contrasts(of, ["fear", "hope"])
    alone = stats.p_value(0.52 + SEEDS, 0.5 + SEEDS)
    assert [(one.env, one.head) for one in found] == [
        (env, head) for env in of for head in ("fear", "hope")
    ]
    assert found[0].p_value == pytest.approx(4 * alone)
    assert [one.p_value for one in found[1:]] == [1.0] * 3
    assert head_contrasts(of, []) == []


def test_heads_are_those_with_all_their_controls():
    kinds = ("", "_sham", "_scrambled", "_constant")
    arms = ["none", "constant_plus", *(f"fear{kind}" for kind in kinds), "hope", "hope_constant"]
    assert compared_heads(arms) == ["fear"]
    assert compared_heads(arms[2:]) == []


def one(value: float, p_value: float) -> HeadContrasts:
    nothing = Estimate(0, 0, 0)
    return HeadContrasts("Drive", "hope", Estimate(value, value, value), p_value, nothing, nothing)


@pytest.mark.parametrize(
    ("value", "p_value", "said"),
    [
        (0.2, 0.01, "Drive: on top of a constant, hope adds +0.200 [+0.200, +0.200]."),
        (-0.2, 0.01, "Drive: on top of a constant, hope costs -0.200 [-0.200, -0.200]."),
        (0.2, 0.9, "Drive: no feeling adds to a constant (not told apart: hope +0.200 [+0.200,"),
    ],
)
def test_the_finding_falls_as_the_contrasts_do(value, p_value, said):
    assert contrast_sentence([one(value, p_value)]).startswith(said)
