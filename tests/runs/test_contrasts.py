"""Contrasts of a head with its constant baseline, with Holm-corrected p values."""

import numpy as np
import pytest

from runs.analysis import stats
from runs.analysis.contrasts import HeadContrasts, compared_heads, contrast_sentence, head_contrasts
from runs.analysis.stats import Estimate

SEEDS = np.linspace(-0.02, 0.02, 8)


def scores_by_arm(**better: float):
    """Function arm -> scores [seeds]: 0.5, plus the arm's bonus, plus a small seed effect."""
    return lambda arm: 0.5 + better.get(arm, 0.0) + SEEDS


def test_head_plus_constant_is_compared_with_the_constant():
    better = {"constant_plus": 0.1, "fear_constant": 0.3, "fear": 0.05}
    (contrasts,) = head_contrasts({"Drive": scores_by_arm(**better)}, ["fear"])
    assert contrasts.on_constant.value == pytest.approx(0.2) and contrasts.p_value < 1e-6
    assert contrasts.over_sham.value == pytest.approx(0.05)
    assert contrasts.over_untrained.value == pytest.approx(0.05)


def test_p_values_are_corrected_over_all_heads_and_environments():
    by_env = {"Drive": scores_by_arm(fear_constant=0.02), "Timid": scores_by_arm()}
    contrasts = head_contrasts(by_env, ["fear", "hope"])
    unadjusted = stats.p_value(0.52 + SEEDS, 0.5 + SEEDS)
    assert [(item.env, item.head) for item in contrasts] == [
        (env, head) for env in by_env for head in ("fear", "hope")
    ]
    assert contrasts[0].p_value == pytest.approx(4 * unadjusted)
    assert [item.p_value for item in contrasts[1:]] == [1.0] * 3
    assert head_contrasts(by_env, []) == []


def test_compared_heads_have_all_their_controls():
    kinds = ("", "_sham", "_untrained", "_constant")
    arms = ["none", "constant_plus", *(f"fear{kind}" for kind in kinds), "hope", "hope_constant"]
    assert compared_heads(arms) == ["fear"]
    assert compared_heads(arms[2:]) == []


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
