"""Advantages against a double loop, and what a potential does to them (T1 of the science)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Fear, Potential, build
from agents.gae import gae
from tests.affect.cases import SPEC, experience, feel

GAMMA, LAM = 0.99, 0.95


def by_hand(reward, value, next_value, terminated, truncated, gamma, lam):
    """Each channel of each environment by itself, backwards."""
    advantage = np.zeros_like(reward)
    steps, envs, channels = reward.shape
    for b in range(envs):
        for c in range(channels):
            after = 0.0
            for t in reversed(range(steps)):
                beyond = 0.0 if terminated[t, b] else gamma[c] * next_value[t, b, c]
                delta = reward[t, b, c] + beyond - value[t, b, c]
                ended = terminated[t, b] or truncated[t, b]
                after = delta + (0.0 if ended else gamma[c] * lam * after)
                advantage[t, b, c] = after
    return advantage


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("gamma", [(0.99,), (0.99, 0.5, 1.0)])
def test_advantages_equal_a_double_loop(gamma, lam):
    rng = np.random.default_rng(0)
    batch = experience(steps=40, envs=5)
    reward, value, next_value = rng.normal(size=(3, 40, 5, len(gamma))).astype(np.float32)
    ends = np.asarray(batch.terminated), np.asarray(batch.truncated)
    assert all(end.any() for end in ends)
    args = reward, value, next_value, *ends
    ours = jax.jit(gae, static_argnums=6)(*map(jnp.asarray, args), jnp.array(gamma), lam)
    np.testing.assert_allclose(ours, by_hand(*args, gamma, lam), atol=2e-5)


@pytest.fixture(scope="module")
def shaped():
    """Advantages of the task, and under a potential that a head emits, and under two wrong ones."""
    batch = experience(seed=1, steps=16)
    rng = np.random.default_rng(1)
    value, next_value = map(jnp.asarray, rng.normal(size=(2, *batch.reward.shape), scale=0.3))
    head = build(Potential(Fear, gamma=GAMMA), SPEC, jax.random.key(0))
    signal, _ = feel(head, head.initial_state(batch.reward.shape[1]), batch)
    ahead, _ = feel(head.inner, (), batch)
    here, _ = feel(head.inner, (), batch._replace(next_obs=batch.obs))

    def advantage(reward, value, next_value):
        channels = (x[..., None].astype(jnp.float32) for x in (reward, value, next_value))
        return gae(*channels, batch.terminated, batch.truncated, jnp.array([GAMMA]), LAM)

    def with_potential(signal):
        return advantage(batch.reward + signal, value - here, next_value - ahead)

    at_end = GAMMA * ahead * batch.terminated
    at_cut = GAMMA * ahead * batch.truncated
    plain = advantage(batch.reward, value, next_value)
    return plain, *map(with_potential, (signal, signal + at_end, signal - at_cut))


def test_a_potential_leaves_advantages_as_they_are_if_the_critic_knows_it(shaped):
    plain, with_potential, *_ = shaped
    assert jnp.abs(plain - with_potential).max() < 1e-6


def test_a_potential_that_is_not_0_beyond_the_end_does_not(shaped):
    plain, _, at_end, _ = shaped
    assert jnp.abs(plain - at_end).max() > 0.1


def test_a_potential_that_is_0_beyond_a_cut_does_not(shaped):
    plain, _, _, at_cut = shaped
    assert jnp.abs(plain - at_cut).max() > 0.1
