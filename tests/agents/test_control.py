"""The control is exact (T14 of the science): what is not felt changes no bit of an agent."""

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
    """(keys [S], weights [K]) -> runs [S], and what four updates on CartPole make of them.

    Compiled once for all weights, and apart, as a study does. There is a device for each seed, so
    XLA may take the axis of seeds away; that is where one more channel of the critic once changed
    the order of a sum.
    """
    env = CartPole()
    world = World(env.get_default_params())
    blend = Blend(**{name: (1.0, head) for name, head in heads.items()})
    config = TrainConfig(PPO(width=16, epochs=2, lr=1e-3), blend, num_envs=4, num_steps=32)

    def start(key, weights):
        run = init_runner(key, config, env, lambda key: world)
        blend_state = run.learner.blend_state._replace(weights=weights)
        return run._replace(learner=run.learner._replace(blend_state=blend_state))

    def live(run):
        return train(run, config, env, lambda key: world, num_updates=4)[0]

    return vmap_seeds(start, SEEDS, shared=1, optimise=False), vmap_seeds(live, SEEDS)


def lived(weights: tuple[float, ...], **heads):
    """The runs of an agent that gives its heads these weights."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    start, live = programs(**heads)
    with jax.debug_key_reuse(False):  # it takes a scan over keys split under vmap for a reuse
        return live(start(keys, jnp.array(weights)))


def shared(runs):
    """What there is with feelings and without: policy, critic, lives and returns."""
    return runs.learner.agent.trained.net, runs.env_states, runs.episode_stats


def channels(runs) -> jax.Array:
    """Weights of the critic's channels [room], whether any of them is not 0."""
    out = runs.learner.agent.trained.net.critic.out
    return (out.kernel[...] != 0).any((0, 1)) | (out.bias[...] != 0).any(0)


@pytest.fixture(scope="module")
def unfeeling():
    return shared(lived(()))


def test_a_weight_of_0_and_a_lesion_are_no_feelings_at_all(unfeeling):
    runs = lived((0.0, 0.0, 1.0), **HEADS)
    assert same_bits(shared(runs), unfeeling)
    assert channels(runs).tolist() == [True] + 7 * [False]


def test_a_feeling_is_one(unfeeling):
    runs = lived((0.1, 0.1, 1.0), **HEADS)
    for ours, theirs in zip(shared(runs), unfeeling, strict=True):
        assert not same_bits(ours, theirs)
    task, fear, hope, lesion, *unused = channels(runs).tolist()
    assert task and fear and hope
    assert not lesion and not any(unused)
