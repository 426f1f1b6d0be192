"""Advantages against a double loop, and invariance under a potential (target T1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Fear, Potential, build
from agents.gae import gae
from tests.affect.cases import SPEC, apply_head, experience

GAMMA, LAM = 0.99, 0.95


def loop_advantages(reward, value, next_value, terminated, truncated, gamma, lam):
    """Advantages by a loop over each channel of each environment, backwards."""
    advantage = np.zeros_like(reward)
    steps, envs, channels = reward.shape
    for b in range(envs):
        for c in range(channels):
            next_advantage = 0.0
            for t in reversed(range(steps)):
                bootstrap = 0.0 if terminated[t, b] else gamma[c] * next_value[t, b, c]
                delta = reward[t, b, c] + bootstrap - value[t, b, c]
                ended = terminated[t, b] or truncated[t, b]
                next_advantage = delta + (0.0 if ended else gamma[c] * lam * next_advantage)
                advantage[t, b, c] = next_advantage
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
    actual = jax.jit(gae, static_argnums=6)(*map(jnp.asarray, args), jnp.array(gamma), lam)
    np.testing.assert_allclose(actual, loop_advantages(*args, gamma, lam), atol=2e-5)


@pytest.fixture(scope="module")
def advantages():
    """Advantages of the task, with a head's potential, and with two wrong potentials."""
    batch = experience(seed=1, steps=16)
    rng = np.random.default_rng(1)
    value, next_value = map(jnp.asarray, rng.normal(size=(2, *batch.reward.shape), scale=0.3))
    head = build(Potential(Fear, gamma=GAMMA), SPEC, jax.random.key(0))
    signal, _ = apply_head(head, head.initial_state(batch.reward.shape[1]), batch)
    next_phi, _ = apply_head(head.inner, (), batch)
    phi, _ = apply_head(head.inner, (), batch._replace(next_obs=batch.obs))

    def advantage(reward, value, next_value):
        channels = (x[..., None].astype(jnp.float32) for x in (reward, value, next_value))
        return gae(*channels, batch.terminated, batch.truncated, jnp.array([GAMMA]), LAM)

    def with_potential(signal):
        return advantage(batch.reward + signal, value - phi, next_value - next_phi)

    at_end = GAMMA * next_phi * batch.terminated
    at_cut = GAMMA * next_phi * batch.truncated
    plain = advantage(batch.reward, value, next_value)
    return plain, *map(with_potential, (signal, signal + at_end, signal - at_cut))


def test_a_potential_leaves_advantages_unchanged_if_the_critic_includes_it(advantages):
    plain, with_potential, *_ = advantages
    assert jnp.abs(plain - with_potential).max() < 1e-6


def test_a_potential_not_0_after_termination_changes_advantages(advantages):
    plain, _, at_end, _ = advantages
    assert jnp.abs(plain - at_end).max() > 0.1


def test_a_potential_0_after_truncation_changes_advantages(advantages):
    plain, _, _, at_cut = advantages
    assert jnp.abs(plain - at_cut).max() > 0.1
