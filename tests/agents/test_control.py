"""Exact control (target T14): a head of weight 0 or a lesion does not change a bit of an agent."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from affect import Blend, Curiosity, Fear, Hope, Lesion
from agents.ppo import PPO
from envs.world import World
from envs.worlds.classic.cartpole import CartPole
from runs.engine.train import TrainConfig, init_runner, train, vmap_seeds
from tests.affect.cases import same_bits

HEADS = {"fear": Fear, "hope": Hope, "curiosity": Lesion(Curiosity)}
SEEDS = 2


@cache
def programs(**heads):
    """Compiled functions (keys [S], weights [K]) -> runs [S] and runs -> runs after four updates.

    Compiled once for all weights, and separately, as in a study. There is a device for each seed,
    so XLA may remove the axis of seeds; there, one more channel of the critic once changed the
    order of a sum.
    """
    env = CartPole()
    world = World(env.get_default_params())
    blend = Blend(**{name: (1.0, head) for name, head in heads.items()})
    config = TrainConfig(PPO(width=16, epochs=2, lr=1e-3), blend, num_envs=4, num_steps=32)

    def start(key, weights):
        run = init_runner(key, config, env, lambda key: world)
        blend_state = run.learner.blend_state._replace(weights=weights)
        return run._replace(learner=run.learner._replace(blend_state=blend_state))

    def run_updates(run):
        return train(run, config, env, lambda key: world, num_updates=4)[0]

    return vmap_seeds(start, SEEDS, shared=1, optimise=False), vmap_seeds(run_updates, SEEDS)


def trained_runs(weights: tuple[float, ...], **heads):
    """Runs on CartPole after training with these weights of the heads."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    start, run_updates = programs(**heads)
    with jax.debug_key_reuse(False):  # false alarm: a scan over keys split under vmap
        return run_updates(start(keys, jnp.array(weights)))


def without_heads(runs):
    """Networks, environments and returns, the parts of runs that exist without heads."""
    return runs.learner.agent.train_state.net, runs.env_states, runs.episode_stats


def nonzero_channels(runs) -> jax.Array:
    """Whether any weight of each critic channel is not 0, [padded channels]."""
    out = runs.learner.agent.train_state.net.critic.out
    return (out.kernel[...] != 0).any((0, 1)) | (out.bias[...] != 0).any(0)


@pytest.fixture(scope="module")
def control():
    return without_heads(trained_runs(()))


def test_weight_0_and_lesion_equal_no_heads_bit_for_bit(control):
    runs = trained_runs((0.0, 0.0, 1.0), **HEADS)
    assert same_bits(without_heads(runs), control)
    assert nonzero_channels(runs).tolist() == [True] + 7 * [False]


def test_a_nonzero_weight_changes_the_agent(control):
    runs = trained_runs((0.1, 0.1, 1.0), **HEADS)
    for part, control_part in zip(without_heads(runs), control, strict=True):
        assert not same_bits(part, control_part)
    task, fear, hope, lesion, *unused = nonzero_channels(runs).tolist()
    assert task and fear and hope
    assert not lesion and not any(unused)
