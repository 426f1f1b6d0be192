"""A2C: its targets and one update by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.a2c import A2C
from agents.gae import gae
from agents.nets import padded_channels
from tests.affect.cases import SPEC, experience, same_bits

GAMMA = 0.9
AGENT = A2C(width=8, gamma=GAMMA, max_norm=math.inf, entropy=0.0, lr=1e-3)
CHANNELS = padded_channels(1)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=3, steps=8)


@pytest.fixture(scope="module")
def inputs(batch):
    """An untrained agent, its networks, and signals of no heads."""
    state = AGENT.init(jax.random.key(0), SPEC)
    return state, state.train_state.net, jnp.zeros((*batch.reward.shape, 0))


def test_targets_are_bootstrapped_returns(inputs, batch):
    """With a trace of 1, the target is the return of the batch, bootstrapped at its end."""
    state, net, no_signals = inputs
    _, samples = jax.jit(AGENT.samples)(state, batch, no_signals)
    steps, envs = batch.reward.shape
    target = np.asarray(samples.target).reshape(steps, envs, CHANNELS)[..., 0]
    next_value = np.asarray(net.critic(batch.next_obs))[..., 0]
    expected = np.zeros((steps, envs))
    for t in reversed(range(steps)):
        cut = np.asarray(batch.truncated[t]) | (t == steps - 1)
        next_return = np.where(cut, next_value[t], expected[min(t + 1, steps - 1)])
        expected[t] = batch.reward[t] + GAMMA * np.where(batch.terminated[t], 0.0, next_return)
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)


def test_an_update_is_one_rmsprop_step_along_the_policy_gradient(inputs, batch):
    """The last layer's bias moves by the mean of (chosen - pi) times advantage.

    RMSProp's first step is g / sqrt((1 - decay) g^2 + eps) times the step size, so its sign is
    that of the gradient.
    """
    state, net, no_signals = inputs
    update = jax.jit(AGENT.update)
    (after, metrics), (again, _) = (
        update(state, jax.random.key(k), batch, no_signals) for k in (0, 1)
    )
    channels = jnp.pad(batch.reward[..., None], ((0, 0), (0, 0), (0, CHANNELS - 1)))
    ends = batch.terminated, batch.truncated
    values = net.critic(batch.obs), net.critic(batch.next_obs)
    advantage = gae(channels, *values, *ends, jnp.full(CHANNELS, GAMMA), 1.0).sum(-1)
    chosen = jax.nn.one_hot(batch.action, SPEC.num_actions)
    gradient = (chosen - jax.nn.softmax(net.actor(batch.obs))) * advantage[..., None]
    gradient = np.asarray(gradient.mean((0, 1)))
    change = np.asarray(after.train_state.net.actor.out.bias - net.actor.out.bias)
    expected = AGENT.lr * gradient / np.sqrt((1 - AGENT.decay) * gradient**2 + 1e-5)
    np.testing.assert_allclose(change, expected, rtol=0.02, atol=1e-6)
    assert set(metrics) == {"loss", "critic", "entropy"}
    assert same_bits(after, again)  # whatever the key: nothing is random
