"""A2C: values and actions learned on probes, and one update by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend
from agents.a2c import A2C
from agents.gae import gae
from agents.nets import padded_channels
from agents.ppo import PPO
from tests.affect.cases import SPEC, experience, same_bits
from tests.agents.probe_envs import Liking, Probe, Steer, train_on_probes, value

GAMMA, SIGNAL_GAMMA = 0.9, 0.5
AGENT = A2C(width=16, gamma=GAMMA, signal_gamma=SIGNAL_GAMMA, lr=1e-2, anneal=600)
PROBES = {
    "one step": Probe(last=1.0),
    "a cue": Probe(cued=1.0, shown=1.0),
    "two steps": Probe(length=2.0, last=1.0),
    "a choice": Probe(chosen=1.0),
    "a match": Probe(matched=1.0, shown=1.0),
    "endless": Probe(length=jnp.inf, each=1.0),
}


# --- probes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results():
    return train_on_probes(AGENT, PROBES)


def test_values_match_the_probes(results):
    assert value(results["one step"]) == pytest.approx(1.0, abs=0.03)
    for cue in (-1.0, 1.0):
        assert value(results["a cue"], cue) == pytest.approx(cue, abs=0.03)
    assert value(results["two steps"], time=1.0) == pytest.approx(1.0, abs=0.03)
    assert value(results["two steps"], time=0.0) == pytest.approx(GAMMA, abs=0.03)
    assert value(results["endless"]) == pytest.approx(1 / (1 - GAMMA), rel=0.03)


def test_rewarded_actions_are_chosen(results):
    assert results["a choice"][0.0, 0.0][1] == 1
    for cue, action in ((-1.0, 0), (1.0, 1)):
        assert results["a match"][cue, 0.0][1] == action
        assert value(results["a match"], cue) > 0.9


def test_a_continuous_action_is_learned():
    results = train_on_probes(AGENT, {"steer": Probe(shown=1.0)}, env=Steer())["steer"]
    for cue in (-1.0, 1.0):
        assert results[cue, 0.0][1] == pytest.approx(cue / 2, abs=0.1)


def test_a_signal_has_its_own_channel_and_discount():
    results = train_on_probes(
        AGENT, {"endless": Probe(length=jnp.inf)}, blend=Blend(liking=(1.0, Liking))
    )
    endless = results["endless"]
    assert value(endless, channel=1) == pytest.approx(1 / (1 - SIGNAL_GAMMA), abs=0.05)
    assert endless[0.0, 0.0][1] == 1
    assert value(endless) == pytest.approx(0.0, abs=0.03)


# --- one update -------------------------------------------------------------------------------

PLAIN = A2C(width=8, gamma=GAMMA, max_norm=math.inf, entropy=0.0, lr=1e-3)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=3, steps=8)


def no_signals(batch):
    return jnp.zeros((*batch.reward.shape, 0))


def test_targets_are_bootstrapped_returns(batch):
    """With a trace of 1, the target is the return of the batch, bootstrapped at its end."""
    state = PLAIN.init(jax.random.key(0), SPEC)
    net, samples = state.train_state.net, jax.jit(PLAIN.samples)(state, batch, no_signals(batch))
    steps, envs = batch.reward.shape
    target = np.asarray(samples.target).reshape(steps, envs, padded_channels(1))[..., 0]
    next_value = np.asarray(net.critic(batch.next_obs))[..., 0]
    expected = np.zeros((steps, envs))
    for t in reversed(range(steps)):
        cut = np.asarray(batch.truncated[t]) | (t == steps - 1)
        next_return = np.where(cut, next_value[t], expected[min(t + 1, steps - 1)])
        expected[t] = batch.reward[t] + GAMMA * np.where(batch.terminated[t], 0.0, next_return)
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)


def test_an_update_is_one_rmsprop_step_along_the_policy_gradient(batch):
    """The last layer's bias moves by the mean of (chosen - pi) times advantage.

    RMSProp's first step is g / sqrt((1 - decay) g^2 + eps) times the step size, so its sign is
    that of the gradient.
    """
    state = PLAIN.init(jax.random.key(0), SPEC)
    net = state.train_state.net
    after, metrics = jax.jit(PLAIN.update)(state, jax.random.key(1), batch, no_signals(batch))
    channels = jnp.pad(batch.reward[..., None], ((0, 0), (0, 0), (0, padded_channels(1) - 1)))
    ends = batch.terminated, batch.truncated
    values = net.critic(batch.obs), net.critic(batch.next_obs)
    advantage = gae(channels, *values, *ends, jnp.full(padded_channels(1), GAMMA), 1.0).sum(-1)
    chosen = jax.nn.one_hot(batch.action, SPEC.num_actions)
    gradient = (chosen - jax.nn.softmax(net.actor(batch.obs))) * advantage[..., None]
    gradient = np.asarray(gradient.mean((0, 1)))
    change = np.asarray(after.train_state.net.actor.out.bias - net.actor.out.bias)
    expected = PLAIN.lr * gradient / np.sqrt((1 - PLAIN.decay) * gradient**2 + 1e-5)
    np.testing.assert_allclose(change, expected, rtol=0.02, atol=1e-6)
    assert set(metrics) == {"loss", "critic", "entropy"}


def test_an_update_is_deterministic_and_the_step_size_anneals_to_0(batch):
    agent = A2C(width=8, anneal=1)
    update, state = jax.jit(agent.update), agent.init(jax.random.key(0), SPEC)
    one, two = (update(state, jax.random.key(k), batch, no_signals(batch))[0] for k in (0, 1))
    assert same_bits(one.train_state.net, two.train_state.net)
    assert not same_bits(one.train_state.net, state.train_state.net)
    after, _ = update(one, jax.random.key(0), batch, no_signals(batch))
    assert same_bits(after.train_state.net, one.train_state.net)


def test_moments_are_those_of_the_observations(batch):
    agent = A2C(width=8, normalise=True)
    state = agent.init(jax.random.key(0), SPEC)
    state, _ = jax.jit(agent.update)(state, jax.random.key(0), batch, no_signals(batch))
    obs = np.asarray(batch.obs).reshape(-1, SPEC.obs_dim)
    np.testing.assert_allclose(state.moments.mean, obs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.moments.variance, obs.var(0), rtol=1e-4)


def test_a2c_and_ppo_have_the_same_initial_networks():
    one, two = (agent(width=8).init(jax.random.key(0), SPEC) for agent in (A2C, PPO))
    assert same_bits(one.train_state.net, two.train_state.net)
