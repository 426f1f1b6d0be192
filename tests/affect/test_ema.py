"""Feelings that linger: moving averages, satiation and mood in closed form (T15 of the science)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Mood, Satiation, Transition, build
from affect.ema import ema, ema_rate
from affect.mood import BIAS, mood_recursion
from tests.affect.cases import SPEC, assert_close, experience, feel, same_bits

KEY = jax.random.key(0)
TAU = 5.0
ALPHA = 1 / TAU


def satiable(spec, *, rngs):
    return Satiation(spec, tau=TAU, rngs=rngs)


def moody(spec, *, rngs):
    return Mood(spec, tau=TAU, rngs=rngs)


def paid(reward, first=()) -> Transition:
    """The experience [T, B] of being paid `reward` [T, B] in episodes that begin at `first`."""
    reward = jnp.asarray(reward, jnp.float32)
    begins = jnp.zeros(reward.shape, bool).at[jnp.array([0, *first])].set(True)
    obs, never = jnp.zeros((*reward.shape, 3)), jnp.zeros(reward.shape, bool)
    return Transition(obs, jnp.zeros(reward.shape, int), obs, reward, never, never, begins)


def felt(factory, batch):
    """(signal [T, B], what is carried after it)."""
    head = build(factory, SPEC, KEY)
    return feel(head, head.initial_state(batch.reward.shape[1]), batch)


# --- the primitive ----------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [0.1, 1.0])
def test_an_average_equals_a_double_loop(pace):
    rng = np.random.default_rng(0)
    x, first = rng.normal(size=(20, 3)).astype(np.float32), rng.random((20, 3)) < 0.2
    start = np.array([5.0, -2.0, 0.0], np.float32)
    by_hand = np.zeros_like(x)
    for b in range(3):
        mean = start[b]
        for t in range(20):
            mean = 0.0 if first[t, b] else mean
            mean = by_hand[t, b] = (1 - pace) * mean + pace * x[t, b]
    each, last = jax.jit(ema)(*map(jnp.asarray, (start, x, first)), pace)
    np.testing.assert_allclose(each, by_hand, atol=1e-6)
    assert same_bits(last, each[-1])


@pytest.mark.parametrize("feeling", [Satiation, Mood])
@pytest.mark.parametrize("tau", [0.99, 0, -3, float("nan")])
def test_a_tau_below_1_is_refused(feeling, tau):
    with pytest.raises(ValueError, match=f"a tau is at least 1 step, not {tau}"):
        build(lambda spec, rngs: feeling(spec, tau=tau, rngs=rngs), SPEC, KEY)
    assert ema_rate(1) == 1


def test_a_mood_of_one_step_is_refused():
    with pytest.raises(ValueError, match="swings for ever: give it a longer one"):
        build(lambda spec, rngs: Mood(spec, tau=1, rngs=rngs), SPEC, KEY)


@pytest.mark.parametrize("factory", [satiable, moody])
def test_single_steps_are_a_chunk_bit_for_bit_and_episodes_are_apart(factory):
    batch = experience(seed=1, steps=12)
    head = build(factory, SPEC, KEY)
    whole, last = feel(head, head.initial_state(4), batch)
    state, signals = head.initial_state(4), []
    for t in range(12):
        signal, state = feel(head, state, jax.tree.map(lambda x, t=t: x[t : t + 1], batch))
        signals.append(signal)
    assert same_bits((jnp.concatenate(signals), state), (whole, last))
    once = paid([[1.0], [0.3], [-2.0]])
    twice = paid([[9.0], [-4.0], [1.0], [0.3], [-2.0]], first=[2])
    assert_close(felt(factory, once), (felt(factory, twice)[0][2:], felt(factory, twice)[1]))


# --- satiation --------------------------------------------------------------------------------


def test_satiation_grows_with_what_is_paid_and_fades_without():
    fed, hungry = 15, 10
    signal, _ = felt(satiable, paid([[2.0]] * fed + [[0.0]] * hungry))
    eaten = -2 * (1 - (1 - ALPHA) ** np.arange(1, fed + 1))
    faded = eaten[-1] * (1 - ALPHA) ** np.arange(1, hungry + 1)
    np.testing.assert_allclose(signal[:, 0], [*eaten, *faded], rtol=1e-5)


# --- mood -------------------------------------------------------------------------------------


def test_a_mood_equals_a_loop_over_its_equations():
    batch = experience(seed=2, steps=30)
    by_hand = np.zeros(batch.reward.shape)
    for b in range(by_hand.shape[1]):
        for t in range(len(by_hand)):
            reward = float(batch.reward[t, b])
            if batch.first[t, b]:
                expected, trace = reward, 0.0
            surprise = reward + np.tanh(trace) - expected
            expected, trace = expected + ALPHA * surprise, trace + ALPHA * (surprise - trace)
            by_hand[t, b] = np.tanh(trace)
    signal, _ = felt(moody, batch)
    np.testing.assert_allclose(signal, by_hand, atol=1e-6)
    assert signal.min() < -0.1 < 0.1 < signal.max()


def test_a_constant_added_to_reward_changes_no_mood():
    batch = experience(seed=3, steps=30)
    signal, _ = felt(moody, batch)
    richer, _ = felt(moody, batch._replace(reward=batch.reward + 3))
    np.testing.assert_allclose(richer, signal, atol=2e-6)
    steady, _ = felt(moody, paid(np.full((30, 1), 3.0)))
    assert (steady == 0).all()


@pytest.mark.parametrize("drift", [0.01, -0.01, 0.2, -0.5])
def test_mood_is_the_drift_and_expectation_follows_that_much_closer(drift):
    """A plain average lags by b / alpha; with mood by tanh(b / alpha) less, exactly."""
    reward = drift * np.arange(200)[:, None]
    plain, _ = felt(satiable, paid(reward))
    mood, state = felt(moody, paid(reward))
    bias = -plain[-2, 0] - reward[-1, 0]
    np.testing.assert_allclose(bias, -drift / ALPHA, rtol=1e-4)
    np.testing.assert_allclose(mood[-1, 0], np.tanh(drift / ALPHA), rtol=1e-4)
    with_mood = float(state.baseline[0]) - reward[-1, 0] - drift
    lead = with_mood - bias
    np.testing.assert_allclose(lead, np.tanh(drift / ALPHA), rtol=2e-3)


def test_good_news_lifts_the_mood_and_it_returns_to_0():
    """A jump to a better level, without drift: surprise, elation, a swing below, and calm."""
    signal, _ = felt(moody, paid([[0.0]] * 5 + [[0.5]] * 200))
    assert (signal[:5] == 0).all()
    assert signal[5:10].min() > 0.05
    assert signal[10:40].min() < -0.01
    assert abs(signal[-1, 0]) < 1e-6


@pytest.mark.parametrize("tau", [1.5, 5.0, 50.0])
def test_mood_swings_die_out_below_the_bound_and_never_beyond_it(tau):
    """The coupled recursion is stable if and only if its bias is below 2 - 1 / tau."""
    bound, calm = 2 - 1 / tau, jnp.zeros((1,))
    steps = int(1000 * tau)
    reward = jnp.zeros((steps, 1)).at[1].set(1e-2)
    begun = jnp.zeros((steps, 1), bool).at[0].set(True)
    start = build(Mood, SPEC, KEY).initial_state(1)._replace(baseline=calm)

    def last_swings(bias):
        mood, _ = jax.jit(mood_recursion)(start, reward, begun, 1 / tau, bias)
        return float(jnp.abs(mood[-int(10 * tau) :]).max())

    assert bound > BIAS
    assert last_swings(BIAS) < 1e-6
    assert last_swings(0.97 * bound) < 1e-5
    assert 0.05 < last_swings(1.03 * bound) <= 1
