"""PPO learns to balance a pole: the golden test of the whole path from world to agent."""

import jax
import numpy as np
import pytest

from affect import Blend
from agents.ppo import PPO
from envs.world import World
from envs.worlds.classic.cartpole import CartPole
from runs.engine.train import TrainConfig, init_runner, train, vmap_seeds

ENVS, STEPS = 4, 128


def returns(num_steps: int, seeds: int, chunks: int) -> np.ndarray:
    """The mean return of the episodes that end in each chunk of training, [chunks, seeds].

    Args:
        num_steps: of training, over all environments of a seed.
        seeds: how many.
        chunks: into which training is divided.
    """
    updates = num_steps // (ENVS * STEPS) // chunks
    env = CartPole(horizon=500)
    world = World(env.get_default_params())
    config = TrainConfig(PPO(anneal=chunks * updates), Blend(), ENVS, STEPS)

    def one(key):
        run = init_runner(key, config, env, lambda key: world)

        def go(run, _):
            run, metrics, _ = train(run, config, env, lambda key: world, updates)
            return run, metrics["return"]

        return jax.lax.scan(go, run, length=chunks)[1]

    with jax.debug_key_reuse(False):  # it takes a scan over keys split under vmap for a reuse
        return np.asarray(vmap_seeds(one, seeds)(jax.random.split(jax.random.key(0), seeds))).T


def test_ppo_begins_to_balance():
    """Acting at random lasts 22 steps."""
    early, *_, late = returns(100_000, seeds=4, chunks=10).mean(1)
    assert early < 60
    assert late > 150


@pytest.mark.slow
def test_ppo_balances_for_as_long_as_it_is_asked_to():
    assert (returns(500_000, seeds=20, chunks=20)[-1] > 475).sum() >= 18
