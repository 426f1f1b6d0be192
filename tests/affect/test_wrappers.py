"""Exact signals and training of each wrapper but those of `affect.shaping` and `Care`."""

import numpy as np
import pytest

from affect import (
    Blend,
    ConstantOf,
    Curiosity,
    Fear,
    Hope,
    Lesion,
    Normalised,
    Potential,
    Sham,
    Untrained,
)
from tests.affect.cases import KEY, SPEC, B, apply_head, experience, run_head, same_bits

STEPS = 12
WRAPPERS = (Lesion, ConstantOf, Normalised, Sham, Potential)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=5, steps=STEPS)


def evaluate(factory, batch):
    """The signal [T, B] of a wrapped head on a batch, and that of its inner head."""
    head, signal, _ = run_head(factory, batch)
    inner, _ = apply_head(head.inner, head.inner.initial_state(batch.reward.shape[1]), batch)
    return np.asarray(signal), np.asarray(inner)


def running(statistic, raw):
    """A statistic of all environments and steps so far, [T, 1]."""
    return np.array([statistic(raw[: t + 1]) for t in range(len(raw))])[:, None]


def test_normalised_has_unit_deviation_and_keeps_the_sign(batch):
    signal, raw = evaluate(Normalised(Fear), batch)
    np.testing.assert_allclose(signal, np.clip(raw / running(np.std, raw), -5, 5), rtol=1e-4)
    assert (np.sign(signal) == np.sign(raw)).all()


def test_normalised_is_clipped_at_5(batch):
    outlier = batch._replace(next_obs=batch.next_obs.at[:-1].set(0.0).at[-1].set(1e6))
    signal, raw = evaluate(Normalised(Curiosity), outlier)
    assert raw[-1].max() / raw.std() > 1
    assert np.abs(signal).max() == 5.0


def test_the_signal_of_a_lesion_is_0(batch):
    signal, raw = evaluate(Lesion(Fear), batch)
    assert (signal == 0).all()
    assert (raw != 0).all()


def test_constant_of_is_the_running_mean(batch):
    signal, raw = evaluate(ConstantOf(Hope), batch)
    expected = np.broadcast_to(running(np.mean, raw), raw.shape)
    np.testing.assert_allclose(signal, expected, atol=1e-6)


def test_a_sham_is_the_signal_of_the_neighbouring_environment(batch):
    signal, raw = evaluate(Sham(Fear), batch)
    assert (signal == np.roll(raw, -1, axis=1)).all()


def test_a_centred_sham_has_no_drift(batch):
    signal, raw = evaluate(Sham(Potential(Fear), centred=True), batch)
    expected = np.roll(raw, -1, axis=1) - running(np.mean, raw)
    np.testing.assert_allclose(signal, expected, atol=1e-6)
    assert abs(raw.mean()) > 0.05


def test_a_sham_needs_2_environments():
    with pytest.raises(ValueError, match="at least 2 environments"):
        Blend(sham=(1.0, Sham(Fear))).init(KEY, SPEC, 1)


def train(factory, batch):
    """Trains a head on a batch -> (the head before, the head after, metrics)."""
    blend = Blend(it=(1.0, factory))
    before = blend.init(KEY, SPEC, B)
    after, metrics = blend.learn(before, batch)
    return before.heads["it"].net, after.heads["it"].net, metrics


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapped_head_is_trained_as_the_head_alone(wrap, batch):
    before, after, metrics = train(wrap(Fear), batch)
    assert same_bits((before.inner, after.inner, metrics), train(Fear, batch))
    assert not same_bits(before, after)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapper_passes_the_state_of_the_head_to_its_loss(wrap, batch):
    """Curiosity is trained on observations whitened by the moments in its state."""
    head, _, state = run_head(Curiosity, batch)
    wrapped, _, wrapped_state = run_head(wrap(Curiosity), batch)
    assert wrapped.loss(wrapped_state, batch)[0] == head.loss(state, batch)[0]


def test_an_untrained_head_is_never_trained(batch):
    before, after, metrics = train(Untrained(Fear), batch)
    assert same_bits(before, after)
    assert set(metrics) == {"heads/skipped"}
    assert same_bits(*evaluate(Untrained(Fear), batch))
