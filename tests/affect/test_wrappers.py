"""What each coupling does to a feeling, exactly."""

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
from tests.affect.cases import SPEC, B, chunk, experience, feel, same_bits

KEY = jax.random.key(3)
GAMMA = 0.9
STEPS = 12


@pytest.fixture(scope="module")
def batch():
    return experience(seed=5, steps=STEPS)


def coupled(factory, batch):
    """The coupling, its signal on the batch, and that of the head it was built around."""
    head = build(factory, SPEC, KEY)
    signal, _ = feel(head, head.initial_state(B), batch)
    inner, _ = feel(head.inner, head.inner.initial_state(B), batch)
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
    head, signal, phi = coupled(Potential(Fear, gamma=GAMMA), batch)
    at_obs, _ = feel(head.inner, (), batch._replace(next_obs=batch.obs))
    beyond = np.where(batch.terminated, 0.0, phi)
    np.testing.assert_allclose(signal, GAMMA * beyond - at_obs, atol=1e-6)
    assert np.abs(signal).max() > 0.1


def test_a_potential_telescopes_along_an_episode(batch):
    head, signal, phi = coupled(Potential(Hope, gamma=GAMMA), batch)
    at_obs, _ = feel(head.inner, (), batch._replace(next_obs=batch.obs))
    kinds = set()
    for b, start, stop in episodes(batch):
        discount = GAMMA ** np.arange(stop - start)
        total = (discount * signal[start:stop, b]).sum()
        terminated = bool(batch.terminated[stop - 1, b])
        left = 0.0 if terminated else GAMMA ** (stop - start) * phi[stop - 1, b]
        np.testing.assert_allclose(total, left - at_obs[start, b], atol=1e-5)
        kinds.add(terminated)
    assert kinds == {True, False}


def test_a_potential_goes_on_from_what_was_emitted_before_it_learned(batch):
    early, late = chunk(batch, 0, STEPS // 2), chunk(batch, STEPS // 2, STEPS)
    head = build(Potential(Fear, gamma=GAMMA), SPEC, KEY)
    wiser = build(Potential(Fear, gamma=GAMMA), SPEC, jax.random.key(4))
    _, state = feel(head, head.initial_state(B), early)
    signal, _ = feel(wiser, state, late)
    emitted, _ = feel(head.inner, (), early)
    ahead, _ = feel(wiser.inner, (), late)
    read, _ = feel(wiser.inner, (), late._replace(next_obs=late.obs))
    beyond = np.where(late.terminated, 0.0, ahead)[0]
    here = np.where(late.first[0], read[0], emitted[-1])
    assert 0 < late.first[0].sum() < B
    np.testing.assert_allclose(signal[0], GAMMA * beyond - here, atol=1e-6)


def test_the_normalised_has_unit_deviation_and_keeps_its_sign(batch):
    _, signal, raw = coupled(Normalised(Fear), batch)
    deviation = np.array([raw[: t + 1].std() for t in range(STEPS)])
    np.testing.assert_allclose(signal, np.clip(raw / deviation[:, None], -5, 5), rtol=1e-4)
    assert (np.sign(signal) == np.sign(raw)).all()


def test_the_normalised_is_clipped(batch):
    sudden = batch._replace(next_obs=batch.next_obs.at[:-1].set(0.0).at[-1].set(1e6))
    _, signal, raw = coupled(Normalised(Curiosity), sudden)
    assert raw[-1].max() / raw.std() > 1
    assert np.abs(signal).max() == 5.0


def test_a_lesion_feels_nothing(batch):
    _, signal, raw = coupled(Lesion(Fear), batch)
    assert (signal == 0).all()
    assert (raw != 0).all()


@pytest.mark.parametrize("couple", [Lesion, ConstantOf, Normalised, Sham, Potential])
def test_a_coupling_learns_what_the_head_alone_would(couple, batch):
    learned = []
    for factory in (Fear, couple(Fear)):
        blend = Blend(fear=(1.0, factory))
        blend_state, metrics = blend.learn(blend.init(KEY, SPEC, B), batch)
        net = blend_state.heads["fear"].net
        learned.append((jax.tree.leaves(net), metrics))
    assert same_bits(*learned)
    untrained = blend.init(KEY, SPEC, B).heads["fear"].net
    assert not same_bits(jax.tree.leaves(untrained), learned[0][0])


def test_a_coupling_hands_on_what_the_head_carries(batch):
    """Curiosity learns from observations whitened by what it carries."""
    head = build(Curiosity, SPEC, KEY)
    for couple in (Lesion, ConstantOf, Normalised, Sham, Potential):
        outer = build(couple(Curiosity), SPEC, KEY)
        _, carried = feel(head, head.initial_state(B), batch)
        _, state = feel(outer, outer.initial_state(B), batch)
        assert outer.loss(state, batch)[0] == head.loss(carried, batch)[0]


def test_constant_of_is_the_running_mean(batch):
    _, signal, raw = coupled(ConstantOf(Hope), batch)
    means = np.array([raw[: t + 1].mean() for t in range(STEPS)])
    np.testing.assert_allclose(signal, np.broadcast_to(means[:, None], raw.shape), atol=1e-6)


def test_a_sham_is_the_neighbours_feeling(batch):
    _, signal, raw = coupled(Sham(Fear), batch)
    assert (signal == np.roll(raw, -1, axis=1)).all()


def test_a_centred_sham_has_no_drift(batch):
    _, signal, raw = coupled(Sham(Potential(Fear), centred=True), batch)
    means = np.array([raw[: t + 1].mean() for t in range(STEPS)])
    np.testing.assert_allclose(signal, np.roll(raw, -1, axis=1) - means[:, None], atol=1e-6)
    assert abs(raw.mean()) > 0.05


def test_a_sham_keeps_the_distribution_and_breaks_the_correlation():
    batch = experience(seed=6, steps=64, envs=32)
    head = build(Sham(Hope), SPEC, KEY)
    sham, _ = feel(head, head.initial_state(32), batch)
    own, _ = feel(head.inner, (), batch)
    assert (np.sort(sham, axis=1) == np.sort(own, axis=1)).all()
    assert abs(np.corrcoef(np.ravel(sham), np.ravel(own))[0, 1]) < 0.1


def test_a_sham_needs_a_neighbour():
    with pytest.raises(ValueError, match="at least 2 environments"):
        build(Sham(Fear), SPEC, KEY).initial_state(1)
    with pytest.raises(ValueError, match="at least 2 environments"):
        Blend(sham=(1.0, Sham(Fear))).init(KEY, SPEC, 1)


def test_the_scrambled_never_learns(batch):
    blend = Blend(scrambled=(1.0, Untrained(Fear)))
    blend_state = blend.init(KEY, SPEC, B)
    learned, metrics = blend.learn(blend_state, batch)
    assert same_bits(learned.heads["scrambled"].net, blend_state.heads["scrambled"].net)
    assert metrics == {}
    _, signal, raw = coupled(Untrained(Fear), batch)
    assert same_bits(signal, raw)
