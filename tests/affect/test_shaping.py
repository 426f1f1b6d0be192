"""GRM takes back what it lends (T3 of the science); what a potential reads where life begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import GRM, Homeostasis, Innate, Mood, Potential, Satiation, Transition, build
from tests.affect.cases import SPEC, chunk, experience, feel, same_bits

KEY = jax.random.key(0)
GAMMA = 0.9
LENGTHS = (1, 2, 3, 5, 8, 13, 30)  # steps of the episodes, shorter and longer than any delay


def whatever(spec, *, rngs):
    """Any stream of numbers is a feeling."""
    return Innate(spec, fn=lambda batch: batch.reward, rngs=rngs)


def env_states(seed: int, envs: int = 4) -> Transition:
    """Episodes of LENGTHS in another order in each environment, ended in either way."""
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


def paid(head, batch, size) -> np.ndarray:
    """The signal of the batch [T, B], given in chunks of `size` steps."""
    state, signals = head.initial_state(batch.reward.shape[1]), []
    for start in range(0, len(batch.reward), size):
        signal, state = feel(head, state, chunk(batch, start, start + size))
        signals.append(np.asarray(signal, np.float64))
    return np.concatenate(signals)


def debts(signal, batch):
    """Yields (discounted sum of an episode's signal, the same of its size, how it ended)."""
    ended = np.asarray(batch.terminated | batch.truncated)
    for b in range(ended.shape[1]):
        start = 0
        for t in np.flatnonzero(ended[:, b]):
            discount = GAMMA ** np.arange(t + 1 - start)
            episode = discount * signal[start : t + 1, b]
            yield episode.sum(), np.abs(episode).sum(), bool(batch.truncated[t, b])
            start = t + 1


@pytest.mark.parametrize("delay", range(1, 9))
def test_what_is_lent_is_paid_back(delay):
    """To the last digit of float32, however an episode ends and however it is cut in chunks."""
    batch = env_states(seed=delay)
    head = build(GRM(whatever, delay=delay, gamma=GAMMA), SPEC, KEY)
    whole = paid(head, batch, size=len(batch.reward))
    sums, sizes, cut = map(np.array, zip(*debts(whole, batch), strict=True))
    assert (np.abs(sums) < 1e-6 * np.maximum(sizes, 1e-3)).all()
    assert sizes[sizes > 0].size >= 4 * (len(LENGTHS) - 1)
    assert 0 < cut.sum() < cut.size
    np.testing.assert_allclose(paid(head, batch, size=2), whole, atol=1e-6)


def test_it_pays_now_and_takes_back_later():
    batch = env_states(seed=0)
    head = build(GRM(whatever, delay=3, gamma=GAMMA), SPEC, KEY)
    signal, felt = paid(head, batch, len(batch.reward)), np.asarray(batch.reward)
    ends = np.flatnonzero(np.asarray(batch.terminated | batch.truncated)[:, 0])
    longest = np.diff(ends, prepend=-1).argmax()
    b, stop = 0, ends[longest] + 1
    start = stop - max(LENGTHS)
    np.testing.assert_allclose(signal[start : start + 3, b], felt[start : start + 3, b], rtol=1e-5)
    inside = slice(start + 3, stop - 1)
    due = GAMMA**-3 * felt[start : stop - 4, b]
    np.testing.assert_allclose(signal[inside, b], felt[inside, b] - due, rtol=1e-4, atol=1e-5)
    owed = sum(GAMMA**-k * felt[stop - 1 - k, b] for k in range(4))
    np.testing.assert_allclose(signal[stop - 1, b], felt[stop - 1, b] - owed, rtol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "complaint"),
    [
        ({"delay": 0}, "a delay is a whole number of steps, at least 1, not 0"),
        ({"delay": -2}, "a delay is a whole number of steps, at least 1, not -2"),
        ({"delay": 1.5}, "a delay is a whole number of steps, at least 1, not 1.5"),
        ({"gamma": 0.0}, r"a discount in \(0, 1\], not gamma=0.0"),
        ({"gamma": 1.01}, r"a discount in \(0, 1\], not gamma=1.01"),
        ({"gamma": 0.1, "delay": 99}, "0.1.-99 overflows: shorten the delay"),
    ],
)
def test_a_debt_that_makes_no_sense_is_refused(knobs, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(GRM(whatever, **knobs), SPEC, KEY)


# --- potentials of what is not an observation -------------------------------------------------


def homeostatic(spec, *, rngs):
    return Homeostasis(spec, setpoint=0.5, rngs=rngs)


@pytest.mark.parametrize("factory", [Mood, Satiation, homeostatic, whatever])
def test_the_potential_where_life_begins_depends_on_nothing_that_was_done(factory):
    """Else it would pay for the first action, and the optimal policy would not be left alone."""
    head = build(Potential(factory, gamma=GAMMA), SPEC, KEY)
    bare = build(factory, SPEC, KEY)
    batch = env_states(seed=3)
    signal = paid(head, batch, len(batch.reward))
    phi, _ = feel(bare, bare.initial_state(4), batch)
    begun = GAMMA * np.where(batch.terminated, 0.0, phi) - signal
    at_first = begun[np.asarray(batch.first)]
    np.testing.assert_allclose(at_first, at_first[0], atol=1e-6)


@pytest.mark.parametrize("factory", [Mood, Satiation])
def test_the_potential_of_a_trace_is_what_it_was_a_step_ago(factory):
    head, bare = build(Potential(factory, gamma=GAMMA), SPEC, KEY), build(factory, SPEC, KEY)
    batch = env_states(seed=4)
    signal = paid(head, batch, size=9)
    phi, _ = feel(bare, bare.initial_state(4), batch)
    before = np.where(batch.first, 0.0, np.concatenate([np.zeros((1, 4)), phi[:-1]]))
    beyond = np.where(batch.terminated, 0.0, phi)
    np.testing.assert_allclose(signal, GAMMA * beyond - before, atol=1e-6)


def test_a_potential_of_what_carries_nothing_needs_no_scan():
    batch = env_states(seed=5)
    head = build(Potential(homeostatic, gamma=GAMMA), SPEC, KEY)
    assert "scan" not in str(jax.make_jaxpr(head)(head.initial_state(4), batch))
    assert same_bits(paid(head, batch, 7), paid(head, batch, len(batch.reward)))
