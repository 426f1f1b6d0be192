"""Moving averages, satiation and mood against closed forms (target T15)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Mood, Satiation, Transition, build
from affect.ema import ema, ema_rate
from affect.mood import BIAS, mood_recursion
from tests.affect.cases import SPEC, apply_head, assert_close, experience, same_bits

KEY = jax.random.key(0)
TAU = 5.0
ALPHA = 1 / TAU


def satiation_head(spec, *, rngs):
    return Satiation(spec, tau=TAU, rngs=rngs)


def mood_head(spec, *, rngs):
    return Mood(spec, tau=TAU, rngs=rngs)


def reward_batch(reward, first=()) -> Transition:
    """Batch of rewards [T, B] in episodes that begin at the steps `first`."""
    reward = jnp.asarray(reward, jnp.float32)
    first_steps = jnp.zeros(reward.shape, bool).at[jnp.array([0, *first])].set(True)
    obs, false = jnp.zeros((*reward.shape, 3)), jnp.zeros(reward.shape, bool)
    return Transition(obs, jnp.zeros(reward.shape, int), obs, reward, false, false, first_steps)


def evaluate(factory, batch):
    """Signal [T, B] and final state of a new head on the batch."""
    head = build(factory, SPEC, KEY)
    return apply_head(head, head.initial_state(batch.reward.shape[1]), batch)


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
        build(lambda spec, rngs: head_class(spec, tau=tau, rngs=rngs), SPEC, KEY)
    assert ema_rate(1) == 1


def test_mood_refuses_a_tau_of_1():
    with pytest.raises(ValueError, match="oscillates for ever: set tau above 1"):
        build(lambda spec, rngs: Mood(spec, tau=1, rngs=rngs), SPEC, KEY)


@pytest.mark.parametrize("factory", [satiation_head, mood_head])
def test_steps_equal_a_chunk_bit_for_bit_and_episodes_are_independent(factory):
    batch = experience(seed=1, steps=12)
    head = build(factory, SPEC, KEY)
    whole, last = apply_head(head, head.initial_state(4), batch)
    state, signals = head.initial_state(4), []
    for t in range(12):
        signal, state = apply_head(head, state, jax.tree.map(lambda x, t=t: x[t : t + 1], batch))
        signals.append(signal)
    assert same_bits((jnp.concatenate(signals), state), (whole, last))
    one_episode = reward_batch([[1.0], [0.3], [-2.0]])
    two_episodes = reward_batch([[9.0], [-4.0], [1.0], [0.3], [-2.0]], first=[2])
    assert_close(
        evaluate(factory, one_episode),
        (evaluate(factory, two_episodes)[0][2:], evaluate(factory, two_episodes)[1]),
    )


# --- satiation --------------------------------------------------------------------------------


def test_satiation_grows_with_reward_and_decays_without():
    num_paid, num_unpaid = 15, 10
    signal, _ = evaluate(satiation_head, reward_batch([[2.0]] * num_paid + [[0.0]] * num_unpaid))
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
    signal, _ = evaluate(mood_head, batch)
    np.testing.assert_allclose(signal, expected, atol=1e-6)
    assert signal.min() < -0.1 < 0.1 < signal.max()


def test_a_constant_added_to_reward_does_not_change_mood():
    batch = experience(seed=3, steps=30)
    signal, _ = evaluate(mood_head, batch)
    shifted, _ = evaluate(mood_head, batch._replace(reward=batch.reward + 3))
    np.testing.assert_allclose(shifted, signal, atol=2e-6)
    constant, _ = evaluate(mood_head, reward_batch(np.full((30, 1), 3.0)))
    assert (constant == 0).all()


@pytest.mark.parametrize("drift", [0.01, -0.01, 0.2, -0.5])
def test_mood_measures_drift_and_reduces_the_lag_of_expected_reward(drift):
    """A plain average lags by b / alpha; with mood, the lag is exactly tanh(b / alpha) smaller."""
    reward = drift * np.arange(200)[:, None]
    plain, _ = evaluate(satiation_head, reward_batch(reward))
    mood, state = evaluate(mood_head, reward_batch(reward))
    bias = -plain[-2, 0] - reward[-1, 0]
    np.testing.assert_allclose(bias, -drift / ALPHA, rtol=1e-4)
    np.testing.assert_allclose(mood[-1, 0], np.tanh(drift / ALPHA), rtol=1e-4)
    with_mood = float(state.baseline[0]) - reward[-1, 0] - drift
    lead = with_mood - bias
    np.testing.assert_allclose(lead, np.tanh(drift / ALPHA), rtol=2e-3)


def test_a_jump_in_reward_raises_mood_which_returns_to_0():
    """After a jump to a higher level, mood rises, undershoots and returns to 0."""
    signal, _ = evaluate(mood_head, reward_batch([[0.0]] * 5 + [[0.5]] * 200))
    assert (signal[:5] == 0).all()
    assert signal[5:10].min() > 0.05
    assert signal[10:40].min() < -0.01
    assert abs(signal[-1, 0]) < 1e-6


@pytest.mark.parametrize("tau", [1.5, 5.0, 50.0])
def test_mood_is_stable_exactly_below_the_bound_on_bias(tau):
    """The coupled recursion is stable if and only if its bias is below 2 - 1 / tau."""
    bound, zeros = 2 - 1 / tau, jnp.zeros((1,))
    steps = int(1000 * tau)
    reward = jnp.zeros((steps, 1)).at[1].set(1e-2)
    first = jnp.zeros((steps, 1), bool).at[0].set(True)
    start = build(Mood, SPEC, KEY).initial_state(1)._replace(baseline=zeros)

    def final_amplitude(bias):
        mood, _ = jax.jit(mood_recursion)(start, reward, first, 1 / tau, bias)
        return float(jnp.abs(mood[-int(10 * tau) :]).max())

    assert bound > BIAS
    assert final_amplitude(BIAS) < 1e-6
    assert final_amplitude(0.97 * bound) < 1e-5
    assert 0.05 < final_amplitude(1.03 * bound) <= 1
