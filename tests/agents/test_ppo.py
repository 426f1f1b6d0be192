"""PPO: the clipped ratio, the entropy bonus, minibatches, and the order of samples."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.ppo import PPO, random_permutation
from tests.affect.cases import SPEC, experience

BATCH = experience(seed=3, steps=8)
NO_SIGNALS = jnp.zeros((*BATCH.reward.shape, 0))


@cache
def log_probs_before_and_after(entropy: float):
    """(log-probability, entropy) of an agent before and after 200 epochs on one batch."""
    agent = PPO(width=8, epochs=200, minibatches=1, lr=1e-2, entropy=entropy)
    before = agent.init(jax.random.key(0), SPEC)
    after, _ = jax.jit(agent.update)(before, jax.random.key(1), BATCH, NO_SIGNALS)
    return [
        state.train_state.net.actor.log_prob(BATCH.obs, BATCH.action) for state in (before, after)
    ]


def test_the_clipped_ratio_bounds_the_change_of_the_policy():
    """Beyond the clip there is no gradient, however many epochs there are."""
    (old, _), (new, _) = log_probs_before_and_after(entropy=0.0)
    assert 0.1 < np.abs(np.exp(new - old) - 1).mean() < 0.5


def test_the_entropy_bonus_keeps_entropy_high():
    low, high = (log_probs_before_and_after(entropy)[1][1].mean() for entropy in (0.0, 1.0))
    assert low < high - 0.01


def test_minibatches_must_divide_the_samples():
    agent = PPO(width=8, minibatches=5)
    state = agent.init(jax.random.key(0), SPEC)
    with pytest.raises(ValueError, match="32 samples do not divide into 5 minibatches"):
        agent.update(state, jax.random.key(0), BATCH, NO_SIGNALS)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 513])
def test_a_shuffle_is_a_permutation(size):
    order = random_permutation(jax.random.key(size), size)
    assert order.dtype == jnp.int32
    assert sorted(order.tolist()) == list(range(size))


def test_each_sample_is_equally_likely_in_each_place():
    """Chi-square test of places in 6,000 permutations of 6, with 25 degrees of freedom."""
    keys = jax.random.split(jax.random.key(0), 6000)
    orders = jax.jit(jax.vmap(partial(random_permutation, size=6)))(keys)
    counts = np.stack([np.bincount(place, minlength=6) for place in np.asarray(orders).T])
    assert ((counts - 1000) ** 2 / 1000).sum() < 52.6  # exceeded by chance once in a thousand
