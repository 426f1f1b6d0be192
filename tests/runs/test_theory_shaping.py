"""Targets of shaping, control and mood (T1 to T4, T14, T15), and that each can fail."""

import numpy as np
import pytest

import affect.mood
from runs.theory import control, mood, shaping
from tests.runs.small_study import without_key_check

unchecked = pytest.fixture(autouse=True)(without_key_check)


@pytest.mark.parametrize(
    ("module", "numbers"),
    [
        (shaping, {"T1", "T2", "T3", "T4"}),
        pytest.param(control, {"T14"}, marks=pytest.mark.slow),
        pytest.param(mood, {"T15"}, marks=pytest.mark.slow),
    ],
)
def test_every_target_passes(module, numbers):
    rows = list(module.targets(smoke=True))
    assert {row.number for row in rows} == numbers
    missed = [row for row in rows if not row.passed]
    assert not missed, missed
    assert all(row.expected and row.ours for row in rows)


def test_a_grm_that_is_never_paid_back_is_detected(monkeypatch):
    """A wrapper that does not subtract the signal later fails T3."""
    monkeypatch.setattr(shaping, "GRM", lambda head, delay, gamma: head)
    assert not shaping.grm_sums().passed


def test_a_potential_with_another_discount_is_detected(monkeypatch):
    monkeypatch.setattr(shaping, "GAMMA", 0.9)
    potential = affect.Potential
    monkeypatch.setattr(shaping, "Potential", lambda head, gamma: potential(head, gamma=0.99))
    assert not next(shaping.advantages()).passed
    assert not shaping.drive_reduction().passed


def test_experience_of_q_learning_has_ends_of_both_kinds():
    batch = shaping.random_walk(0)
    assert batch.terminated.sum() > 500 and batch.truncated.sum() > 500


def test_a_mood_without_bias_on_expectation_is_detected(monkeypatch):
    recursion = affect.mood.mood_recursion

    def without_bias(state, reward, first, rate, bias=0.0):
        return recursion(state, reward, first, rate, 0.0 * bias)

    monkeypatch.setattr(affect.mood, "mood_recursion", without_bias)
    lag, lead = mood.drift_lag()
    assert lag.passed and not lead.passed
    assert not mood.bias_bound().passed
    assert not mood.noise_cost(smoke=True).passed


def test_oscillations_grow_above_the_largest_stable_bias_and_decay_below():
    early, late = mood.mood_amplitudes(3.0, np.float32([1.0, 1.9]))
    assert late[0] < 1e-9
    assert early[1] < 0.05 < late[1]
