"""GRM sums to 0 over an episode (target T3); potentials at the first step of an episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import GRM, Homeostasis, Innate, Mood, Potential, Satiation, Transition, build
from tests.affect.cases import SPEC, apply_head, chunk, experience, same_bits

KEY = jax.random.key(0)
GAMMA = 0.9
LENGTHS = (1, 2, 3, 5, 8, 13, 30)  # steps of the episodes, shorter and longer than any delay


def reward_head(spec, *, rngs):
    """Factory of a head whose signal is the reward."""
    return Innate(spec, fn=lambda batch: batch.reward, rngs=rngs)


def episodes_batch(seed: int, envs: int = 4) -> Transition:
    """Batch of episodes of LENGTHS in random order, terminated or truncated."""
    rng = np.random.default_rng(seed)
    ended = np.zeros((sum(LENGTHS), envs), bool)
    for b in range(envs):
        ended[np.cumsum(rng.permutation(LENGTHS)) - 1, b] = True
    cut = rng.random(ended.shape) < 0.5
    batch = experience(seed, *ended.shape)
    first = np.concatenate([np.ones((1, envs), bool), ended[:-1]])
    ends = {"terminated": ended & ~cut, "truncated": ended & cut, "first": first}
    reward = rng.normal(0.3, 1.0, ended.shape).astype(np.float32)
    return batch._replace(reward=jnp.asarray(reward), **jax.tree.map(jnp.asarray, ends))


def signal_of(head, batch, size) -> np.ndarray:
    """Signal [T, B] of a head on a batch, evaluated in chunks of `size` steps."""
    state, signals = head.initial_state(batch.reward.shape[1]), []
    for start in range(0, len(batch.reward), size):
        signal, state = apply_head(head, state, chunk(batch, start, start + size))
        signals.append(np.asarray(signal, np.float64))
    return np.concatenate(signals)


def episode_sums(signal, batch):
    """Yields (discounted sum, discounted absolute sum, truncated?) of each episode's signal."""
    ended = np.asarray(batch.terminated | batch.truncated)
    for b in range(ended.shape[1]):
        start = 0
        for t in np.flatnonzero(ended[:, b]):
            discount = GAMMA ** np.arange(t + 1 - start)
            episode = discount * signal[start : t + 1, b]
            yield episode.sum(), np.abs(episode).sum(), bool(batch.truncated[t, b])
            start = t + 1


@pytest.mark.parametrize("delay", range(1, 9))
def test_grm_sums_to_0_over_every_episode(delay):
    """To float32 precision, for terminated and truncated episodes and any size of chunks."""
    batch = episodes_batch(seed=delay)
    head = build(GRM(reward_head, delay=delay, gamma=GAMMA), SPEC, KEY)
    whole = signal_of(head, batch, size=len(batch.reward))
    sums, sizes, cut = map(np.array, zip(*episode_sums(whole, batch), strict=True))
    assert (np.abs(sums) < 1e-6 * np.maximum(sizes, 1e-3)).all()
    assert sizes[sizes > 0].size >= 4 * (len(LENGTHS) - 1)
    assert 0 < cut.sum() < cut.size
    np.testing.assert_allclose(signal_of(head, batch, size=2), whole, atol=1e-6)


def test_grm_subtracts_each_signal_after_the_delay():
    batch = episodes_batch(seed=0)
    head = build(GRM(reward_head, delay=3, gamma=GAMMA), SPEC, KEY)
    signal, reward = signal_of(head, batch, len(batch.reward)), np.asarray(batch.reward)
    ends = np.flatnonzero(np.asarray(batch.terminated | batch.truncated)[:, 0])
    longest = np.diff(ends, prepend=-1).argmax()
    b, stop = 0, ends[longest] + 1
    start = stop - max(LENGTHS)
    np.testing.assert_allclose(
        signal[start : start + 3, b], reward[start : start + 3, b], rtol=1e-5
    )
    inside = slice(start + 3, stop - 1)
    due = GAMMA**-3 * reward[start : stop - 4, b]
    np.testing.assert_allclose(signal[inside, b], reward[inside, b] - due, rtol=1e-4, atol=1e-5)
    remaining = sum(GAMMA**-k * reward[stop - 1 - k, b] for k in range(4))
    np.testing.assert_allclose(signal[stop - 1, b], reward[stop - 1, b] - remaining, rtol=1e-5)


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
        build(GRM(reward_head, **options), SPEC, KEY)


# --- potentials of heads that read reward or info ---------------------------------------------


def homeostasis_head(spec, *, rngs):
    return Homeostasis(spec, setpoint=0.5, rngs=rngs)


@pytest.mark.parametrize("factory", [Mood, Satiation, homeostasis_head, reward_head])
def test_the_first_potential_does_not_depend_on_the_first_step(factory):
    """Otherwise it would reward the first action and change the optimal policy."""
    head = build(Potential(factory, gamma=GAMMA), SPEC, KEY)
    bare = build(factory, SPEC, KEY)
    batch = episodes_batch(seed=3)
    signal = signal_of(head, batch, len(batch.reward))
    phi, _ = apply_head(bare, bare.initial_state(4), batch)
    phi_before = GAMMA * np.where(batch.terminated, 0.0, phi) - signal
    first_phi = phi_before[np.asarray(batch.first)]
    np.testing.assert_allclose(first_phi, first_phi[0], atol=1e-6)


@pytest.mark.parametrize("factory", [Mood, Satiation])
def test_the_potential_of_a_moving_average_uses_its_previous_value(factory):
    head, bare = build(Potential(factory, gamma=GAMMA), SPEC, KEY), build(factory, SPEC, KEY)
    batch = episodes_batch(seed=4)
    signal = signal_of(head, batch, size=9)
    phi, _ = apply_head(bare, bare.initial_state(4), batch)
    last_phi = np.where(batch.first, 0.0, np.concatenate([np.zeros((1, 4)), phi[:-1]]))
    next_phi = np.where(batch.terminated, 0.0, phi)
    np.testing.assert_allclose(signal, GAMMA * next_phi - last_phi, atol=1e-6)


def test_the_potential_of_a_stateless_head_needs_no_scan():
    batch = episodes_batch(seed=5)
    head = build(Potential(homeostasis_head, gamma=GAMMA), SPEC, KEY)
    assert "scan" not in str(jax.make_jaxpr(head)(head.initial_state(4), batch))
    assert same_bits(signal_of(head, batch, 7), signal_of(head, batch, len(batch.reward)))
