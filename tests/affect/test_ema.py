"""Moving averages, satiation and mood against closed forms.

How mood changes the lag of expected reward, and its stability, is T15 of `runs.theory.mood`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Mood, Satiation, Transition, build
from affect.ema import ema, ema_rate
from tests.affect.cases import KEY, SPEC, experience, run_head, same_bits

TAU = 5.0
ALPHA = 1 / TAU
SATIATION, MOOD = partial(Satiation, tau=TAU), partial(Mood, tau=TAU)


def one_episode(reward) -> Transition:
    """Batch of rewards [T, 1] in one episode without an end."""
    reward = jnp.asarray(reward, jnp.float32).reshape(-1, 1)
    obs, false = jnp.zeros((*reward.shape, 3)), jnp.zeros(reward.shape, bool)
    first = false.at[0].set(True)
    return Transition(obs, jnp.zeros(reward.shape, int), obs, reward, false, false, first)


# --- moving averages --------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_ema_equals_a_double_loop(rate):
    rng = np.random.default_rng(0)
    x, first = rng.normal(size=(20, 3)).astype(np.float32), rng.random((20, 3)) < 0.2
    start = np.array([5.0, -2.0, 0.0], np.float32)
    expected = np.zeros_like(x)
    for b in range(3):
        mean = start[b]
        for t in range(20):
            mean = 0.0 if first[t, b] else mean
            mean = expected[t, b] = (1 - rate) * mean + rate * x[t, b]
    means, last = jax.jit(ema)(*map(jnp.asarray, (start, x, first)), rate)
    np.testing.assert_allclose(means, expected, atol=1e-6)
    assert same_bits(last, means[-1])


@pytest.mark.parametrize("head_class", [Satiation, Mood])
@pytest.mark.parametrize("tau", [0.99, 0, -3, float("nan")])
def test_a_tau_below_1_is_refused(head_class, tau):
    with pytest.raises(ValueError, match=f"a tau is at least 1 step, not {tau}"):
        build(partial(head_class, tau=tau), SPEC, KEY)
    assert ema_rate(1) == 1


def test_mood_refuses_a_tau_of_1():
    with pytest.raises(ValueError, match="oscillates for ever: set tau above 1"):
        build(partial(Mood, tau=1), SPEC, KEY)


@pytest.mark.parametrize("factory", [SATIATION, MOOD])
def test_steps_equal_a_chunk(factory):
    batch = experience(seed=1, steps=12)
    steps, chunk = run_head(factory, batch, size=1)[1:], run_head(factory, batch)[1:]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), steps, chunk)


# --- satiation --------------------------------------------------------------------------------


def test_satiation_grows_with_reward_and_decays_without():
    num_paid, num_unpaid = 15, 10
    _, signal, _ = run_head(SATIATION, one_episode([2.0] * num_paid + [0.0] * num_unpaid))
    growth = -2 * (1 - (1 - ALPHA) ** np.arange(1, num_paid + 1))
    decay = growth[-1] * (1 - ALPHA) ** np.arange(1, num_unpaid + 1)
    np.testing.assert_allclose(signal[:, 0], [*growth, *decay], rtol=1e-5)


# --- mood -------------------------------------------------------------------------------------


def test_mood_equals_a_loop_over_its_equations():
    batch = experience(seed=2, steps=30)
    expected = np.zeros(batch.reward.shape)
    for b in range(expected.shape[1]):
        for t in range(len(expected)):
            reward = float(batch.reward[t, b])
            if batch.first[t, b]:
                baseline, trace = reward, 0.0
            surprise = reward + np.tanh(trace) - baseline
            baseline, trace = baseline + ALPHA * surprise, trace + ALPHA * (surprise - trace)
            expected[t, b] = np.tanh(trace)
    _, signal, _ = run_head(MOOD, batch)
    np.testing.assert_allclose(signal, expected, atol=1e-6)
    assert signal.min() < -0.1 < 0.1 < signal.max()


def test_a_constant_added_to_reward_does_not_change_mood():
    batch = experience(seed=3, steps=30)
    _, signal, _ = run_head(MOOD, batch)
    _, shifted, _ = run_head(MOOD, batch._replace(reward=batch.reward + 3))
    np.testing.assert_allclose(shifted, signal, atol=2e-6)
    assert (run_head(MOOD, one_episode([3.0] * 30))[1] == 0).all()


@pytest.mark.parametrize("drift", [0.01, -0.01, 0.2, -0.5])
def test_mood_measures_the_drift_of_reward(drift):
    _, signal, _ = run_head(MOOD, one_episode(drift * np.arange(200)))
    np.testing.assert_allclose(signal[-1, 0], np.tanh(drift / ALPHA), rtol=1e-4)


def test_a_jump_in_reward_raises_mood_which_returns_to_0():
    """After a jump to a higher level, mood rises, undershoots and returns to 0."""
    _, signal, _ = run_head(MOOD, one_episode([0.0] * 5 + [0.5] * 200))
    assert (signal[:5] == 0).all()
    assert signal[5:10].min() > 0.05
    assert signal[10:40].min() < -0.01
    assert abs(signal[-1, 0]) < 1e-6
