"""Targets of shaping and mood: T1, T3, T4, T14, T15. And that each can fail."""

import jax
import numpy as np
import pytest

import affect.mood
from runs.theory import mood, shaping


@pytest.fixture(autouse=True)
def without_key_check():
    with jax.debug_key_reuse(False):  # it takes a scan over keys split under vmap for a reuse
        yield


@pytest.mark.parametrize(
    ("study", "numbers"), [(shaping, {"T1", "T3", "T4", "T14"}), (mood, {"T15"})]
)
def test_every_target_is_met(study, numbers):
    rows = list(study.targets(smoke=True))
    assert {row.number for row in rows} == numbers
    missed = [row for row in rows if not row.passed]
    assert not missed, missed
    assert all(row.expected and row.ours for row in rows)


def test_debts_that_are_forgiven_are_seen(monkeypatch):
    """A coupling that does not take back what it lends misses T3."""
    monkeypatch.setattr(affect, "GRM", lambda head, delay, gamma: head)
    assert not shaping.grm_sums().passed


def test_a_potential_of_another_discount_is_seen(monkeypatch):
    monkeypatch.setattr(shaping, "GAMMA", 0.9)
    kept = affect.Potential
    monkeypatch.setattr(affect, "Potential", lambda head, gamma: kept(head, gamma=0.99))
    assert not next(shaping.advantages()).passed
    assert not shaping.drive().passed


def test_a_mood_that_does_not_colour_expectation_is_seen(monkeypatch):
    swing = affect.mood.swing

    def unmoved(state, reward, first, rate, bias=0.0):
        return swing(state, reward, first, rate, 0.0 * bias)

    monkeypatch.setattr(affect.mood, "swing", unmoved)
    lag, lead = mood.drift_lag()
    assert lag.passed and not lead.passed
    assert not mood.bias_bound().passed
    assert not mood.noise_cost(smoke=True).passed


def test_a_swing_begins_small_and_mood_of_its_own_bias_dies():
    early, late = mood.mood_amplitudes(3.0, np.float32([1.0, 1.9]))
    assert late[0] < 1e-9
    assert early[1] < 0.05 < late[1]
