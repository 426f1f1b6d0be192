"""Advantages against a double loop; that a potential leaves them is T1 of `runs.theory.shaping`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.gae import gae
from tests.affect.cases import experience


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
