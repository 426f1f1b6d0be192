"""PPO learns CartPole: a test of the whole path from world to agent."""

import jax
import numpy as np
import pytest

from agents.ppo import PPO
from envs.worlds.classic.cartpole import CartPole
from runs.engine.seeds import vmap_seeds
from runs.theory.simulation import Training

ENVS, STEPS = 4, 128


def returns(num_steps: int, seeds: int, chunks: int) -> np.ndarray:
    """Mean return [chunks, seeds] of the episodes that end in each chunk of training.

    Args:
        num_steps: training steps, over all environments of a seed.
        seeds: number of seeds.
        chunks: number of chunks of training.
    """
    updates = num_steps // (ENVS * STEPS) // chunks
    training = Training(CartPole(horizon=500), PPO(anneal=chunks * updates), ENVS, STEPS)

    def train_chunk(run, _):
        run, metrics = training.train(run, updates)
        return run, metrics["return"]

    def train_seed(key):
        return jax.lax.scan(train_chunk, training.init(key), length=chunks)[1]

    with jax.debug_key_reuse(False):  # false alarm: a scan over keys split under vmap
        keys = jax.random.split(jax.random.key(0), seeds)
        return np.asarray(vmap_seeds(train_seed, seeds)(keys)).T


@pytest.mark.slow
def test_ppo_improves_on_cartpole_in_100_000_steps():
    """A random policy has a mean return of 22."""
    early, *_, late = returns(100_000, seeds=4, chunks=10).mean(1)
    assert early < 60
    assert late > 150


@pytest.mark.slow
def test_ppo_solves_cartpole_in_500_000_steps():
    assert (returns(500_000, seeds=20, chunks=20)[-1] > 475).sum() >= 18
