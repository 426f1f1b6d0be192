"""Exact signals and training of each wrapper."""

import jax
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
    build,
)
from tests.affect.cases import SPEC, B, apply_head, chunk, experience, same_bits

KEY = jax.random.key(3)
GAMMA = 0.9
STEPS = 12


@pytest.fixture(scope="module")
def batch():
    return experience(seed=5, steps=STEPS)


def evaluate(factory, batch):
    """A wrapped head, its signal on the batch, and the signal of its inner head."""
    head = build(factory, SPEC, KEY)
    signal, _ = apply_head(head, head.initial_state(B), batch)
    inner, _ = apply_head(head.inner, head.inner.initial_state(B), batch)
    return head, np.asarray(signal), np.asarray(inner)


def episodes(batch):
    """Yields (environment, first step, step after the last) of every episode that ends."""
    ended = np.asarray(batch.terminated | batch.truncated)
    for b in range(ended.shape[1]):
        start = 0
        for t in np.flatnonzero(ended[:, b]):
            yield b, start, t + 1
            start = t + 1


def test_a_potential_is_the_discounted_difference(batch):
    head, signal, phi = evaluate(Potential(Fear, gamma=GAMMA), batch)
    at_obs, _ = apply_head(head.inner, (), batch._replace(next_obs=batch.obs))
    beyond = np.where(batch.terminated, 0.0, phi)
    np.testing.assert_allclose(signal, GAMMA * beyond - at_obs, atol=1e-6)
    assert np.abs(signal).max() > 0.1


def test_a_potential_telescopes_along_an_episode(batch):
    head, signal, phi = evaluate(Potential(Hope, gamma=GAMMA), batch)
    at_obs, _ = apply_head(head.inner, (), batch._replace(next_obs=batch.obs))
    kinds = set()
    for b, start, stop in episodes(batch):
        discount = GAMMA ** np.arange(stop - start)
        total = (discount * signal[start:stop, b]).sum()
        terminated = bool(batch.terminated[stop - 1, b])
        final_phi = 0.0 if terminated else GAMMA ** (stop - start) * phi[stop - 1, b]
        np.testing.assert_allclose(total, final_phi - at_obs[start, b], atol=1e-5)
        kinds.add(terminated)
    assert kinds == {True, False}


def test_a_potential_subtracts_the_value_from_before_training(batch):
    early, late = chunk(batch, 0, STEPS // 2), chunk(batch, STEPS // 2, STEPS)
    head = build(Potential(Fear, gamma=GAMMA), SPEC, KEY)
    trained = build(Potential(Fear, gamma=GAMMA), SPEC, jax.random.key(4))
    _, state = apply_head(head, head.initial_state(B), early)
    signal, _ = apply_head(trained, state, late)
    early_phi, _ = apply_head(head.inner, (), early)
    next_phi, _ = apply_head(trained.inner, (), late)
    phi_at_obs, _ = apply_head(trained.inner, (), late._replace(next_obs=late.obs))
    discounted = np.where(late.terminated, 0.0, next_phi)[0]
    phi = np.where(late.first[0], phi_at_obs[0], early_phi[-1])
    assert 0 < late.first[0].sum() < B
    np.testing.assert_allclose(signal[0], GAMMA * discounted - phi, atol=1e-6)


def test_normalised_has_unit_deviation_and_keeps_the_sign(batch):
    _, signal, raw = evaluate(Normalised(Fear), batch)
    deviation = np.array([raw[: t + 1].std() for t in range(STEPS)])
    np.testing.assert_allclose(signal, np.clip(raw / deviation[:, None], -5, 5), rtol=1e-4)
    assert (np.sign(signal) == np.sign(raw)).all()


def test_normalised_is_clipped_at_5(batch):
    outlier = batch._replace(next_obs=batch.next_obs.at[:-1].set(0.0).at[-1].set(1e6))
    _, signal, raw = evaluate(Normalised(Curiosity), outlier)
    assert raw[-1].max() / raw.std() > 1
    assert np.abs(signal).max() == 5.0


def test_the_signal_of_a_lesion_is_0(batch):
    _, signal, raw = evaluate(Lesion(Fear), batch)
    assert (signal == 0).all()
    assert (raw != 0).all()


@pytest.mark.parametrize("wrap", [Lesion, ConstantOf, Normalised, Sham, Potential])
def test_a_wrapped_head_is_trained_as_the_head_alone(wrap, batch):
    results = []
    for factory in (Fear, wrap(Fear)):
        blend = Blend(fear=(1.0, factory))
        blend_state, metrics = blend.learn(blend.init(KEY, SPEC, B), batch)
        net = blend_state.heads["fear"].net
        results.append((jax.tree.leaves(net), metrics))
    assert same_bits(*results)
    untrained = blend.init(KEY, SPEC, B).heads["fear"].net
    assert not same_bits(jax.tree.leaves(untrained), results[0][0])


def test_a_wrapper_passes_the_state_of_the_head_to_its_loss(batch):
    """Curiosity is trained on observations whitened by the moments in its state."""
    head = build(Curiosity, SPEC, KEY)
    for wrap in (Lesion, ConstantOf, Normalised, Sham, Potential):
        wrapped = build(wrap(Curiosity), SPEC, KEY)
        _, inner_state = apply_head(head, head.initial_state(B), batch)
        _, state = apply_head(wrapped, wrapped.initial_state(B), batch)
        assert wrapped.loss(state, batch)[0] == head.loss(inner_state, batch)[0]


def test_constant_of_is_the_running_mean(batch):
    _, signal, raw = evaluate(ConstantOf(Hope), batch)
    means = np.array([raw[: t + 1].mean() for t in range(STEPS)])
    np.testing.assert_allclose(signal, np.broadcast_to(means[:, None], raw.shape), atol=1e-6)


def test_a_sham_is_the_signal_of_the_neighbouring_environment(batch):
    _, signal, raw = evaluate(Sham(Fear), batch)
    assert (signal == np.roll(raw, -1, axis=1)).all()


def test_a_centred_sham_has_no_drift(batch):
    _, signal, raw = evaluate(Sham(Potential(Fear), centred=True), batch)
    means = np.array([raw[: t + 1].mean() for t in range(STEPS)])
    np.testing.assert_allclose(signal, np.roll(raw, -1, axis=1) - means[:, None], atol=1e-6)
    assert abs(raw.mean()) > 0.05


def test_a_sham_keeps_the_distribution_and_breaks_the_correlation():
    batch = experience(seed=6, steps=64, envs=32)
    head = build(Sham(Hope), SPEC, KEY)
    sham, _ = apply_head(head, head.initial_state(32), batch)
    own, _ = apply_head(head.inner, (), batch)
    assert (np.sort(sham, axis=1) == np.sort(own, axis=1)).all()
    assert abs(np.corrcoef(np.ravel(sham), np.ravel(own))[0, 1]) < 0.1


def test_a_sham_needs_2_environments():
    with pytest.raises(ValueError, match="at least 2 environments"):
        build(Sham(Fear), SPEC, KEY).initial_state(1)
    with pytest.raises(ValueError, match="at least 2 environments"):
        Blend(sham=(1.0, Sham(Fear))).init(KEY, SPEC, 1)


def test_an_untrained_head_is_never_trained(batch):
    blend = Blend(scrambled=(1.0, Untrained(Fear)))
    blend_state = blend.init(KEY, SPEC, B)
    after, metrics = blend.learn(blend_state, batch)
    assert same_bits(after.heads["scrambled"].net, blend_state.heads["scrambled"].net)
    assert metrics == {}
    _, signal, raw = evaluate(Untrained(Fear), batch)
    assert same_bits(signal, raw)
