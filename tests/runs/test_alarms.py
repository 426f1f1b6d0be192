"""Alarm thresholds and alarm metrics equal values counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.probes.alarms import alarm_metrics, alarm_threshold

threshold_of = jax.jit(alarm_threshold, static_argnums=2)


@pytest.mark.parametrize(("rate", "threshold"), [(0.25, 6.0), (0.124, 8.0), (0.5, 4.0), (1.0, 1.0)])
def test_threshold_is_exceeded_by_at_most_the_given_rate_of_calm_steps(rate, threshold):
    signal = jnp.array([[3.0, 1.0, 8.0, 99.0], [7.0, 5.0, 2.0, 6.0], [4.0, 99.0, 99.0, 99.0]])
    calm = signal < 99
    assert float(threshold_of(signal, calm, rate)) == threshold
    above = (np.asarray(signal) > threshold)[np.asarray(calm)].mean()
    assert above <= rate


def test_ties_never_exceed_the_rate():
    signal, calm = jnp.array([1.0, 1.0, 1.0, 0.0]), jnp.ones(4, bool)
    assert (
        float(threshold_of(signal, calm, 0.25)) == 1.0
    )  # no step exceeds it; three exceed any lower threshold


def test_threshold_is_nan_without_calm_steps_or_with_a_nan_signal():
    signal = jnp.array([1.0, jnp.nan, 3.0])
    assert np.isnan(threshold_of(signal, jnp.zeros(3, bool), 0.1))
    assert np.isnan(threshold_of(signal, jnp.ones(3, bool), 0.1))
    assert float(threshold_of(signal, jnp.array([True, False, True]), 0.5)) == 1.0


def test_alarm_metrics_match_hand_counts():
    """Three episodes: harm at 4 and 7, alarm at 2; harm at 4, no alarm; no harm, alarm."""
    time = np.arange(6)[:, None]
    ahead = np.stack([[4, 3, 2, 1, 3, 2], [4, 3, 2, 1, 9, 9], [99] * 6], 1)
    due = ahead <= 3
    signal = np.zeros((6, 3), np.float32)
    signal[2, 0] = signal[3, 0] = signal[5, 0] = 1  # the last one warns of a second harm
    signal[1, 2] = signal[0, 1] = 1  # too early to count: a false alarm, and so is the other
    metrics = jax.jit(alarm_metrics)(signal, jnp.float32(0.5), ahead, due, ~due & (time < 6))
    lead, caught, alarms = map(float, metrics)
    assert (lead, caught) == (1.0, 0.5)
    assert alarms == pytest.approx(2 / (~due).sum())
    assert np.isnan(jax.jit(alarm_metrics)(signal, jnp.nan, ahead, due, ~due)).all()
    without_events = jax.jit(alarm_metrics)(signal, jnp.float32(0.5), ahead, due & False, ~due)
    assert np.isnan(without_events[:2]).all() and np.isfinite(without_events[2])
