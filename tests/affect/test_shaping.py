"""Potentials telescope along an episode and GRM sums to 0 over it (target T3)."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import (
    GRM,
    Blend,
    ConstantPotential,
    Fear,
    Homeostasis,
    Hope,
    Innate,
    Mood,
    Potential,
    Satiation,
    build,
)
from tests.affect.cases import (
    KEY,
    SPEC,
    B,
    apply_head,
    chunk,
    episodes,
    experience,
    run_head,
    same_bits,
)
from tests.refusal import refused
from tests.tiers import slow

GAMMA = 0.9
LENGTHS = (1, 2, 3, 5, 8, 13, 30)  # steps of the episodes, shorter and longer than any delay
REWARD = partial(Innate, fn=lambda batch: batch.reward)
HOMEOSTASIS = partial(Homeostasis, setpoint=0.5)


def episodes_batch(seed: int):
    """Batch of episodes of LENGTHS in random order, terminated or truncated."""
    rng = np.random.default_rng(seed)
    ended = np.zeros((sum(LENGTHS), B), bool)
    for b in range(B):
        ended[np.cumsum(rng.permutation(LENGTHS)) - 1, b] = True
    cut = rng.random(ended.shape) < 0.5
    first = np.concatenate([np.ones((1, B), bool), ended[:-1]])
    reward = rng.normal(0.3, 1.0, ended.shape).astype(np.float32)
    fields = {"terminated": ended & ~cut, "truncated": ended & cut, "first": first}
    fields = jax.tree.map(jnp.asarray, fields | {"reward": reward})
    return experience(seed, *ended.shape)._replace(**fields)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=5, steps=12)


def phi_of(head, batch):
    """Signals [T, B] of a stateless inner head at `next_obs`, and at `obs`."""
    at_obs = batch._replace(next_obs=batch.obs)
    return tuple(np.asarray(apply_head(head.inner, (), x)[0]) for x in (batch, at_obs))


# --- the discount -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [Potential, GRM])
def test_the_discount_is_that_of_the_spec_unless_one_is_given(wrap, batch):
    def signal_of(factory, discount):
        head = build(factory, replace(SPEC, discount=discount), KEY)
        return apply_head(head, head.initial_state(B), batch)[0]

    given = signal_of(wrap(Fear, gamma=GAMMA), None)
    assert same_bits(given, signal_of(wrap(Fear, gamma=GAMMA), 0.5))
    assert same_bits(given, signal_of(wrap(Fear), GAMMA))
    assert not same_bits(given, signal_of(wrap(Fear), 0.5))


@pytest.mark.parametrize("wrap", [Potential, GRM])
def test_without_any_discount_it_is_refused_in_one_line(wrap):
    name = wrap.__name__
    with refused(ValueError, match=rf"{name}\(Hope, gamma=0.99\), or a Spec with a") as error:
        build(wrap(Mood), replace(SPEC, discount=None), KEY)
    assert str(error.value).startswith(f"{name} of Mood needs the discount of the critic")


# --- potentials -------------------------------------------------------------------------------


def test_a_potential_is_the_discounted_difference(batch):
    head, signal, _ = run_head(Potential(Fear, gamma=GAMMA), batch)
    phi, at_obs = phi_of(head, batch)
    beyond = np.where(batch.terminated, 0.0, phi)
    np.testing.assert_allclose(signal, GAMMA * beyond - at_obs, atol=1e-6)
    assert np.abs(signal).max() > 0.1


def test_a_potential_telescopes_along_an_episode(batch):
    head, signal, _ = run_head(Potential(Hope, gamma=GAMMA), batch)
    phi, at_obs = phi_of(head, batch)
    kinds = set()
    for b, steps, terminated in episodes(batch):
        discount = GAMMA ** np.arange(steps.stop - steps.start + 1)
        total = (discount[:-1] * signal[steps, b]).sum()
        final_phi = 0.0 if terminated else discount[-1] * phi[steps.stop - 1, b]
        np.testing.assert_allclose(total, final_phi - at_obs[steps.start, b], atol=1e-5)
        kinds.add(terminated)
    assert kinds == {True, False}


def test_a_potential_subtracts_the_value_from_before_training(batch):
    early, late = chunk(batch, 0, 6), chunk(batch, 6, 12)
    head, _, state = run_head(Potential(Fear, gamma=GAMMA), early)
    trained = build(Potential(Fear, gamma=GAMMA), SPEC, jax.random.key(4))
    signal, _ = apply_head(trained, state, late)
    early_phi, _ = phi_of(head, early)
    next_phi, phi_at_obs = phi_of(trained, late)
    discounted = np.where(late.terminated, 0.0, next_phi)[0]
    phi = np.where(late.first[0], phi_at_obs[0], early_phi[-1])
    assert 0 < late.first[0].sum() < B
    np.testing.assert_allclose(signal[0], GAMMA * discounted - phi, atol=1e-6)


@pytest.mark.parametrize(
    ("factory", "first_phi"),
    [(Mood, 0.0), (Satiation, 0.0), (REWARD, 0.0), (HOMEOSTASIS, -0.5 * np.sqrt(2))],
)
def test_the_potential_before_a_step_is_the_last_value_or_at_first_that_of_no_experience(
    factory, first_phi
):
    """Were the first potential that of the first step, it would reward the first action."""
    batch = episodes_batch(seed=4)
    _, signal, _ = run_head(Potential(factory, gamma=GAMMA), batch, size=9)
    _, phi, _ = run_head(factory, batch)
    last_phi = np.where(batch.first, first_phi, np.roll(phi, 1, axis=0))
    next_phi = np.where(batch.terminated, 0.0, phi)
    np.testing.assert_allclose(signal, GAMMA * next_phi - last_phi, atol=1e-6)


def test_scale_and_shift_make_phi_and_1_and_0_change_no_bit(batch):
    head, signal, _ = run_head(Potential(Hope, scale=2.0, shift=-1.0, gamma=GAMMA), batch)
    phi, at_obs = phi_of(head, batch)
    beyond = np.where(batch.terminated, 0.0, 2 * phi - 1)
    np.testing.assert_allclose(signal, GAMMA * beyond - (2 * at_obs - 1), atol=1e-6)
    plain = run_head(Potential(Hope, gamma=GAMMA), batch)
    assert same_bits(plain, run_head(Potential(Hope, scale=1.0, shift=0, gamma=GAMMA), batch))
    scaled = partial(Innate, fn=lambda batch: 3 * batch.reward)
    np.testing.assert_allclose(
        run_head(Potential(REWARD, scale=3.0), batch, size=5)[1],
        run_head(Potential(scaled), batch)[1],
        atol=1e-6,
    )


def test_scale_and_shift_are_never_trained_and_share_programs(batch):
    blends = [Blend(it=(1.0, Potential(Hope, scale=s, shift=-1.0))) for s in (0.0, 2.0)]
    states = [blend.init(KEY, SPEC, B) for blend in blends]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    after, _ = blends[1].learn(states[1], batch)
    net = after.heads["it"].net
    assert (float(net.scale[...]), float(net.shift[...])) == (2.0, -1.0)
    assert net.factory() == Potential(Hope(50, 16), scale=2.0, shift=-1.0, gamma=None)


def advantages(reward, value, next_value, batch, trace=0.95):
    """Generalised advantages [T, B] (Schulman et al., 2016), in float64."""
    error = reward + GAMMA * np.where(batch.terminated, 0.0, next_value) - value
    advantage, total = np.zeros_like(error), np.zeros(error.shape[1])
    for t in reversed(range(len(error))):
        ended = np.asarray(batch.terminated | batch.truncated)[t]
        total = error[t] + GAMMA * trace * np.where(ended, 0.0, total)
        advantage[t] = total
    return advantage


@pytest.mark.parametrize("k", [-2.0, -1.0, -0.5, 0.5])
def test_a_constant_potential_is_a_shift_of_the_critics_values(k):
    """Target T1: with the potential and values lower by k, every advantage is as without both."""
    batch, rng = episodes_batch(seed=2), np.random.default_rng(0)
    head, signal, _ = run_head(ConstantPotential(k, gamma=GAMMA), batch)
    assert float(head.k[...]) == k and head.factory() == ConstantPotential(k, gamma=GAMMA)
    reward = np.asarray(batch.reward, np.float64)
    value, next_value = rng.normal(size=(2, *reward.shape))
    plain = advantages(reward, value, next_value, batch)
    shaped = advantages(reward + np.asarray(signal), value - k, next_value - k, batch)
    np.testing.assert_allclose(shaped, plain, atol=1e-6)
    kept_at_end = np.where(batch.terminated, GAMMA * k, 0.0)  # phi not 0 beyond a terminal step
    wrong = advantages(reward + signal + kept_at_end, value - k, next_value - k, batch)
    assert np.abs(wrong - plain).max() > 0.1
    dropped = np.where(batch.truncated, -GAMMA * k, 0.0)  # phi zeroed at a truncation
    wrong = advantages(reward + signal + dropped, value - k, next_value - k, batch)
    assert np.abs(wrong - plain).max() > 0.1


def test_a_constant_potential_sums_to_minus_k_up_to_a_terminal_step():
    batch = episodes_batch(seed=3)
    _, signal, _ = run_head(ConstantPotential(-1.5, gamma=GAMMA), batch)
    for b, steps, terminated in episodes(batch):
        length = steps.stop - steps.start
        total = (GAMMA ** np.arange(length) * np.asarray(signal)[steps, b]).sum()
        expected = 1.5 if terminated else -1.5 * GAMMA**length + 1.5
        np.testing.assert_allclose(total, expected, atol=1e-5)
    inner = np.asarray(~(batch.terminated | batch.truncated))
    np.testing.assert_allclose(np.asarray(signal)[inner], (1 - GAMMA) * 1.5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Potential(Hope, scale=np.nan), "Potential has a scale of nan: it is a finite"),
        (lambda: Potential(Hope, shift=np.inf), "Potential has a shift of inf: it is a finite"),
        (lambda: Potential(Hope, shift=np.nan), "Potential has a shift of nan: it is a finite"),
        (lambda: Potential(Hope, scale="2"), "Potential has a scale of '2': it is a finite number"),
        (lambda: ConstantPotential(np.nan), "ConstantPotential has a k of nan: it is a finite"),
        (lambda: ConstantPotential(1.0, gamma=2), r"a discount in \(0, 1\], not gamma=2"),
        (lambda: ConstantPotential(), "missing a required argument: 'k'"),
        (
            lambda: build(ConstantPotential(1.0), replace(SPEC, discount=None), KEY),
            "ConstantPotential of Constant needs the discount of the critic",
        ),
    ],
)
def test_a_wrong_scale_shift_or_k_is_refused(call, message):
    with refused(ValueError, match=message):
        call()


# --- GRM --------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [1, *map(slow, range(2, 8)), 8])
def test_grm_sums_to_0_over_every_episode(delay):
    """To float32 precision, for terminated and truncated episodes and any size of chunks."""
    batch, factory = episodes_batch(seed=delay), GRM(REWARD, delay=delay, gamma=GAMMA)
    whole = np.asarray(run_head(factory, batch)[1], np.float64)
    nonzero, kinds = 0, set()
    for b, steps, terminated in episodes(batch):
        discounted = GAMMA ** np.arange(steps.stop - steps.start) * whole[steps, b]
        size = np.abs(discounted).sum()
        assert abs(discounted.sum()) < 1e-6 * max(size, 1e-3)
        nonzero += size > 0
        kinds.add(terminated)
    assert nonzero >= B * (len(LENGTHS) - 1)
    assert kinds == {True, False}
    np.testing.assert_allclose(run_head(factory, batch, size=2)[1], whole, atol=1e-6)


def test_grm_subtracts_each_signal_after_the_delay():
    batch = episodes_batch(seed=0)
    _, signal, _ = run_head(GRM(REWARD, delay=3, gamma=GAMMA), batch)
    spans = [steps for b, steps, _ in episodes(batch) if b == 0]
    longest = max(spans, key=lambda steps: steps.stop - steps.start)
    signal, reward = np.asarray(signal)[longest, 0], np.asarray(batch.reward)[longest, 0]
    due = GAMMA**-3 * reward[:-4]
    remaining = sum(GAMMA**-k * reward[-1 - k] for k in range(4))
    np.testing.assert_allclose(signal[:3], reward[:3], rtol=1e-5)
    np.testing.assert_allclose(signal[3:-1], reward[3:-1] - due, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(signal[-1], reward[-1] - remaining, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 0}, "a delay is a whole number of steps, at least 1, not 0"),
        ({"delay": -2}, "a delay is a whole number of steps, at least 1, not -2"),
        ({"delay": 1.5}, "a delay is a whole number of steps, at least 1, not 1.5"),
        ({"gamma": 0.0}, r"a discount in \(0, 1\], not gamma=0.0"),
        ({"gamma": 1.01}, r"a discount in \(0, 1\], not gamma=1.01"),
        ({"gamma": 0.1, "delay": 99}, "0.1.-99 overflows: shorten the delay"),
    ],
)
def test_an_invalid_delay_or_gamma_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(GRM(REWARD, **options), SPEC, KEY)
