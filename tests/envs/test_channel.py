"""Every field of the channel has its documented effect; that it has no other is in `test_shift`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec
from envs.channel import MAX_DELAY, Channel, apply_action, noisy_reward, observe, reset_obs

DISCRETE, CONTINUOUS = Spec(obs_dim=2, num_actions=4), Spec(obs_dim=2, action_dim=3)
SCALE, OBS = jnp.array([1.0, 10.0]), jnp.array([3.0, -4.0])
NUM = 20_000


def over_keys(fn, num=NUM, seed=0):
    """Results of fn for `num` keys."""
    return jax.jit(jax.vmap(fn))(jax.random.split(jax.random.key(seed), num))


def start_episode(channel, spec=DISCRETE):
    """First observation of an episode, and the empty queue of actions."""
    return reset_obs(jax.random.key(99), channel, spec, SCALE, OBS)


def applied_actions(channel, spec, actions, seed=0):
    """Actions [T, ...] that take effect if these are chosen in one episode."""

    def step(queue, inputs):
        key, first, action = inputs
        applied, queue = apply_action(key, channel, queue, spec, first, action, OBS)
        return queue, applied

    first = jnp.arange(len(actions)) == 0
    keys = jax.random.split(jax.random.key(seed), len(actions))
    _, queue = start_episode(channel, spec)
    return np.asarray(jax.lax.scan(step, queue, (keys, first, actions))[1])


@pytest.mark.parametrize("gain", [0.0, 0.3, -2.0])
def test_gain_multiplies_the_observation_exactly(gain):
    channel = Channel(gain=gain)
    sensed, _ = reset_obs(jax.random.key(0), channel, DISCRETE, SCALE, OBS)
    np.testing.assert_array_equal(sensed, gain * OBS)
    scheduled = observe(jax.random.key(1), channel, DISCRETE, sensed, SCALE, 2 * OBS)
    np.testing.assert_array_equal(scheduled, gain * 2 * OBS)


def test_observation_noise_is_gaussian_in_units_of_obs_scale():
    channel = Channel(noise=0.5)
    first = over_keys(lambda key: reset_obs(key, channel, DISCRETE, SCALE, OBS)[0])
    scheduled = over_keys(lambda key: observe(key, channel, DISCRETE, OBS, SCALE, OBS), seed=1)
    for sensed in (first, scheduled):
        error = (np.asarray(sensed) - np.asarray(OBS)) / np.asarray(SCALE)
        np.testing.assert_allclose(error.mean(0), 0.0, atol=0.02)
        np.testing.assert_allclose(error.std(0), 0.5, rtol=0.03)
        assert abs(np.corrcoef(error.T)[0, 1]) < 0.03
        assert (np.abs(error) < 0.5).mean() == pytest.approx(0.683, abs=0.02)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_dropout_repeats_the_last_observation_at_its_rate(rate):
    channel = Channel(dropout=rate)
    sensed = np.asarray(over_keys(lambda key: observe(key, channel, DISCRETE, OBS, SCALE, 7 * OBS)))
    dropped = (sensed == np.asarray(OBS)).all(1)
    assert ((sensed == 7 * np.asarray(OBS)).all(1) | dropped).all()
    assert dropped.mean() == pytest.approx(rate, abs=0.015)


def test_dropout_repeats_the_noisy_observation_and_not_the_true_one():
    channel = Channel(dropout=0.6, noise=0.1)

    def step(last, key):
        sensed = observe(key, channel, DISCRETE, last, SCALE, OBS)
        return sensed, sensed

    start, _ = start_episode(channel)
    keys = jax.random.split(jax.random.key(0), 2000)
    sensed = np.asarray(jax.lax.scan(step, start, keys)[1])
    frames = np.concatenate([start[None], sensed])
    repeated = (frames[1:] == frames[:-1]).all(1)  # noise is drawn anew only with a new frame
    assert repeated.mean() == pytest.approx(0.6, abs=0.04)


@pytest.mark.parametrize("delay", [0, 1, 3, MAX_DELAY])
def test_delay_shifts_actions_and_repeats_the_first_one(delay):
    actions = jnp.arange(5, 30)
    applied = applied_actions(Channel(delay=float(delay)), DISCRETE, actions)
    np.testing.assert_array_equal(applied[delay:], actions[: len(actions) - delay])
    np.testing.assert_array_equal(applied[:delay], np.full(delay, 5))


@pytest.mark.parametrize(("delay", "steps"), [(0.4, 0), (0.6, 1), (2.9, 3), (99.0, MAX_DELAY)])
def test_delay_is_rounded_and_bounded(delay, steps):
    actions = jnp.arange(20)
    rounded = applied_actions(Channel(delay=float(steps)), DISCRETE, actions)
    np.testing.assert_array_equal(applied_actions(Channel(delay=delay), DISCRETE, actions), rounded)


def test_delay_shifts_continuous_actions_too():
    actions = jax.random.uniform(jax.random.key(3), (12, 3), minval=-1.0)
    applied = applied_actions(Channel(delay=2.0), CONTINUOUS, actions)
    np.testing.assert_array_equal(applied[2:], actions[:-2])
    np.testing.assert_array_equal(applied[:2], actions[jnp.zeros(2, int)])


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_flip_replaces_a_discrete_action_by_a_uniform_one(rate):
    applied = applied_actions(Channel(flip=rate), DISCRETE, jnp.full(NUM, 2))
    shares = np.bincount(applied, minlength=4) / NUM
    expected = np.full(4, rate / 4)
    expected[2] += 1 - rate
    np.testing.assert_allclose(shares, expected, atol=0.015)
    assert applied.max() < 4


def test_flip_replaces_a_continuous_action_by_a_uniform_one():
    applied = applied_actions(Channel(flip=0.4), CONTINUOUS, jnp.full((NUM, 3), 0.25))
    flipped = (applied != 0.25).all(1)
    assert flipped.mean() == pytest.approx(0.4, abs=0.015)
    assert (applied[~flipped] == np.float32(0.25)).all()
    np.testing.assert_allclose(applied[flipped].mean(0), 0.0, atol=0.03)
    np.testing.assert_allclose(applied[flipped].std(0), 1 / 3**0.5, rtol=0.03)
    assert (np.abs(applied[flipped]) <= 1).all()


def test_action_noise_is_gaussian_and_only_for_continuous_actions():
    channel = Channel(action_noise=0.2)
    applied = applied_actions(channel, CONTINUOUS, jnp.full((NUM, 3), 0.25))
    np.testing.assert_allclose(applied.mean(0), 0.25, atol=0.01)
    np.testing.assert_allclose(applied.std(0), 0.2, rtol=0.03)
    actions = jnp.arange(100) % 4
    np.testing.assert_array_equal(applied_actions(channel, DISCRETE, actions), actions)


def test_reward_noise_is_gaussian_around_the_reward():
    channel, reward = Channel(reward_noise=0.5), jnp.float32(3.0)
    rewards = np.asarray(over_keys(lambda key: noisy_reward(key, channel, reward)))
    assert rewards.mean() == pytest.approx(3.0, abs=0.02)
    assert rewards.std() == pytest.approx(0.5, rel=0.03)
