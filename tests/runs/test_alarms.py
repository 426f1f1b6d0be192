"""Foresight: levels and warnings counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.probes.alarms import alarm_metrics, alarm_threshold

level_of = jax.jit(alarm_threshold, static_argnums=2)


@pytest.mark.parametrize(("rate", "level"), [(0.25, 6.0), (0.124, 8.0), (0.5, 4.0), (1.0, 1.0)])
def test_a_level_lets_so_many_calm_steps_pass_and_no_more(rate, level):
    signal = jnp.array([[3.0, 1.0, 8.0, 99.0], [7.0, 5.0, 2.0, 6.0], [4.0, 99.0, 99.0, 99.0]])
    calm = signal < 99
    assert float(level_of(signal, calm, rate)) == level
    above = (np.asarray(signal) > level)[np.asarray(calm)].mean()
    assert above <= rate


def test_ties_never_let_more_pass():
    signal, calm = jnp.array([1.0, 1.0, 1.0, 0.0]), jnp.ones(4, bool)
    assert float(level_of(signal, calm, 0.25)) == 1.0  # none, as one of three would be three


def test_no_level_where_nothing_is_calm_or_known():
    signal = jnp.array([1.0, jnp.nan, 3.0])
    assert np.isnan(level_of(signal, jnp.zeros(3, bool), 0.1))
    assert np.isnan(level_of(signal, jnp.ones(3, bool), 0.1))
    assert float(level_of(signal, jnp.array([True, False, True]), 0.5)) == 1.0


def test_warnings_by_hand():
    """Three episodes: harm at 4 and 7 with an alarm at 2; harm at 4 and none; no harm, an alarm."""
    time = np.arange(6)[:, None]
    ahead = np.stack([[4, 3, 2, 1, 3, 2], [4, 3, 2, 1, 9, 9], [99] * 6], 1)
    due = ahead <= 3
    signal = np.zeros((6, 3), np.float32)
    signal[2, 0] = signal[3, 0] = signal[5, 0] = 1  # the last one warns of a second harm
    signal[1, 2] = signal[0, 1] = 1  # too early to count: a false alarm, and so is the other
    told = jax.jit(alarm_metrics)(signal, jnp.float32(0.5), ahead, due, ~due & (time < 6))
    lead, caught, alarms = map(float, told)
    assert (lead, caught) == (1.0, 0.5)
    assert alarms == pytest.approx(2 / (~due).sum())
    assert np.isnan(jax.jit(alarm_metrics)(signal, jnp.nan, ahead, due, ~due)).all()
    nothing = jax.jit(alarm_metrics)(signal, jnp.float32(0.5), ahead, due & False, ~due)
    assert np.isnan(nothing[:2]).all() and np.isfinite(nothing[2])
