"""A2C: what one update does, and what it must come to know of the probes."""

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
from tests.agents.probe_envs import Liking, Probe, Steer, learn, value

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
def known():
    return learn(AGENT, PROBES)


def test_values_are_those_of_the_probes(known):
    assert value(known["one step"]) == pytest.approx(1.0, abs=0.03)
    for cue in (-1.0, 1.0):
        assert value(known["a cue"], cue) == pytest.approx(cue, abs=0.03)
    assert value(known["two steps"], time=1.0) == pytest.approx(1.0, abs=0.03)
    assert value(known["two steps"], time=0.0) == pytest.approx(GAMMA, abs=0.03)
    assert value(known["endless"]) == pytest.approx(1 / (1 - GAMMA), rel=0.03)


def test_actions_that_pay_are_chosen(known):
    assert known["a choice"][0.0, 0.0][1] == 1
    for cue, action in ((-1.0, 0), (1.0, 1)):
        assert known["a match"][cue, 0.0][1] == action
        assert value(known["a match"], cue) > 0.9


def test_a_continuous_action_is_steered():
    known = learn(AGENT, {"steer": Probe(shown=1.0)}, env=Steer())["steer"]
    for cue in (-1.0, 1.0):
        assert known[cue, 0.0][1] == pytest.approx(cue / 2, abs=0.1)


def test_a_feeling_has_a_channel_and_a_discount_of_its_own():
    known = learn(AGENT, {"endless": Probe(length=jnp.inf)}, blend=Blend(liking=(1.0, Liking)))
    endless = known["endless"]
    assert value(endless, channel=1) == pytest.approx(1 / (1 - SIGNAL_GAMMA), abs=0.05)
    assert endless[0.0, 0.0][1] == 1
    assert value(endless) == pytest.approx(0.0, abs=0.03)


# --- one update -------------------------------------------------------------------------------

PLAIN = A2C(width=8, gamma=GAMMA, max_norm=math.inf, entropy=0.0, lr=1e-3)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=3, steps=8)


def silence(batch):
    return jnp.zeros((*batch.reward.shape, 0))


def test_samples_are_returns_less_values(batch):
    """With a trace of 1, the target is the return of what was lived, bootstrapped at its end."""
    state = PLAIN.init(jax.random.key(0), SPEC)
    net, found = state.trained.net, jax.jit(PLAIN.samples)(state, batch, silence(batch))
    steps, envs = batch.reward.shape
    target = np.asarray(found.target).reshape(steps, envs, padded_channels(1))[..., 0]
    ahead = np.asarray(net.critic(batch.next_obs))[..., 0]
    wanted = np.zeros((steps, envs))
    for t in reversed(range(steps)):
        cut = np.asarray(batch.truncated[t]) | (t == steps - 1)
        later = np.where(cut, ahead[t], wanted[min(t + 1, steps - 1)])
        wanted[t] = batch.reward[t] + GAMMA * np.where(batch.terminated[t], 0.0, later)
    np.testing.assert_allclose(target, wanted, rtol=1e-4, atol=1e-5)


def test_an_update_is_one_step_of_rmsprop_up_the_policy_gradient(batch):
    """d log pi / d logits = chosen - pi: the bias of the last layer moves by that, advantage-wise.

    RMSProp's first step is g / sqrt((1 - decay) g^2 + eps) times the step size, so its sign is
    that of the gradient.
    """
    state = PLAIN.init(jax.random.key(0), SPEC)
    net = state.trained.net
    after, metrics = jax.jit(PLAIN.update)(state, jax.random.key(1), batch, silence(batch))
    channels = jnp.pad(batch.reward[..., None], ((0, 0), (0, 0), (0, padded_channels(1) - 1)))
    ends = batch.terminated, batch.truncated
    values = net.critic(batch.obs), net.critic(batch.next_obs)
    advantage = gae(channels, *values, *ends, jnp.full(padded_channels(1), GAMMA), 1.0).sum(-1)
    chosen = jax.nn.one_hot(batch.action, SPEC.num_actions)
    slope = (chosen - jax.nn.softmax(net.actor(batch.obs))) * advantage[..., None]
    slope = np.asarray(slope.mean((0, 1)))
    moved = np.asarray(after.trained.net.actor.out.bias - net.actor.out.bias)
    wanted = PLAIN.lr * slope / np.sqrt((1 - PLAIN.decay) * slope**2 + 1e-5)
    np.testing.assert_allclose(moved, wanted, rtol=0.02, atol=1e-6)
    assert set(metrics) == {"loss", "critic", "entropy"}


def test_no_key_is_needed_and_the_step_size_anneals_to_0(batch):
    agent = A2C(width=8, anneal=1)
    update, state = jax.jit(agent.update), agent.init(jax.random.key(0), SPEC)
    one, two = (update(state, jax.random.key(k), batch, silence(batch))[0] for k in (0, 1))
    assert same_bits(one.trained.net, two.trained.net)
    assert not same_bits(one.trained.net, state.trained.net)
    after, _ = update(one, jax.random.key(0), batch, silence(batch))
    assert same_bits(after.trained.net, one.trained.net)


def test_moments_are_of_what_was_observed(batch):
    agent = A2C(width=8, normalise=True)
    state = agent.init(jax.random.key(0), SPEC)
    state, _ = jax.jit(agent.update)(state, jax.random.key(0), batch, silence(batch))
    seen = np.asarray(batch.obs).reshape(-1, SPEC.obs_dim)
    np.testing.assert_allclose(state.moments.mean, seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.moments.variance, seen.var(0), rtol=1e-4)


def test_it_starts_from_the_same_networks_as_ppo():
    one, two = (agent(width=8).init(jax.random.key(0), SPEC) for agent in (A2C, PPO))
    assert same_bits(one.trained.net, two.trained.net)
