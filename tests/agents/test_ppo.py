"""PPO: values and actions learned on probes, one update, and the order of samples."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend
from agents.ppo import PPO, random_permutation
from tests.affect.cases import SPEC, experience, same_bits
from tests.agents.probe_envs import Liking, Probe, Steer, train_on_probes, value

GAMMA, SIGNAL_GAMMA = 0.9, 0.5
AGENT = PPO(width=16, gamma=GAMMA, signal_gamma=SIGNAL_GAMMA, lr=1e-2, minibatches=2, anneal=150)
NORMALISED = replace(AGENT, normalise=True)
ENDLESS = jnp.inf
PROBES = {
    "one step": Probe(last=1.0),
    "a cue": Probe(cued=1.0, shown=1.0),
    "two steps": Probe(length=2.0, last=1.0),
    "a choice": Probe(chosen=1.0),
    "a match": Probe(matched=1.0, shown=1.0),
    "endless": Probe(length=ENDLESS, each=1.0),
    "far": Probe(matched=1.0, shown=1.0, offset=1000.0),
}


# --- probes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results():
    return train_on_probes(AGENT, PROBES)


def test_the_value_of_one_step_is_its_reward(results):
    assert value(results["one step"]) == pytest.approx(1.0, abs=0.02)


def test_the_value_depends_on_the_observation(results):
    for cue in (-1.0, 1.0):
        assert value(results["a cue"], cue) == pytest.approx(cue, abs=0.02)


def test_the_value_of_a_later_reward_is_discounted(results):
    assert value(results["two steps"], time=1.0) == pytest.approx(1.0, abs=0.02)
    assert value(results["two steps"], time=0.0) == pytest.approx(GAMMA, abs=0.02)


def test_the_rewarded_action_is_chosen(results):
    assert results["a choice"][0.0, 0.0][1] == 1
    assert value(results["a choice"]) > 0.9


def test_the_rewarded_action_is_chosen_for_each_observation(results):
    for cue, action in ((-1.0, 0), (1.0, 1)):
        assert results["a match"][cue, 0.0][1] == action
        assert value(results["a match"], cue) > 0.9


def test_values_bootstrap_at_truncation(results):
    """An endless reward of 1 a step is worth 1 / (1 - gamma), though truncated after 3 steps."""
    assert value(results["endless"]) == pytest.approx(1 / (1 - GAMMA), rel=0.02)


def test_a_continuous_action_is_learned():
    results = train_on_probes(AGENT, {"steer": Probe(shown=1.0)}, env=Steer())["steer"]
    for cue in (-1.0, 1.0):
        assert results[cue, 0.0][1] == pytest.approx(cue / 2, abs=0.1)


def test_normalise_whitens_observations(results):
    """With an offset of 1000, an agent that does not whiten cannot use the cue."""
    plain, whitened = results["far"], train_on_probes(NORMALISED, {"far": PROBES["far"]})["far"]
    for cue, action in ((-1.0, 0), (1.0, 1)):
        assert whitened[cue, 0.0][1] == action
        assert value(whitened, cue) > 0.8
    assert plain[-1.0, 0.0][1] == plain[1.0, 0.0][1]


def test_a_signal_has_its_own_channel_and_discount():
    """Without reward and with a signal of 1 for action 1, over two steps or for ever."""
    probes = {"two steps": Probe(length=2.0), "endless": Probe(length=ENDLESS)}
    results = train_on_probes(AGENT, probes, blend=Blend(liking=(1.0, Liking)))
    signal_value = partial(value, channel=1)
    assert signal_value(results["two steps"], time=1.0) == pytest.approx(1.0, abs=0.02)
    assert signal_value(results["two steps"], time=0.0) == pytest.approx(1 + SIGNAL_GAMMA, abs=0.02)
    assert signal_value(results["endless"]) == pytest.approx(1 / (1 - SIGNAL_GAMMA), abs=0.02)
    for probe in results.values():
        assert probe[0.0, 0.0][1] == 1
        assert value(probe) == pytest.approx(0.0, abs=0.02)


# --- one update -------------------------------------------------------------------------------

SMALL = PPO(width=8, epochs=1, minibatches=1, max_norm=math.inf, anneal=1)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=3, steps=8)


@pytest.fixture(scope="module")
def updated(batch):
    """Agent before an update, after one with a signal of 0 and after one with another signal."""
    state, update = SMALL.init(jax.random.key(0), SPEC, 1), jax.jit(SMALL.update)
    zero = jnp.zeros((*batch.reward.shape, 1))
    nonzero = jnp.sin(jnp.arange(zero.size)).reshape(zero.shape)
    return state, *(update(state, jax.random.key(1), batch, x)[0] for x in (zero, nonzero))


def signal_channel(net):
    """Weights and bias of the critic's only signal channel."""
    out = net.critic.out
    return out.kernel[..., 1], out.bias[..., 1]


def test_a_signal_changes_the_policy(updated):
    """Through the advantage only: without gradient clipping the critic loss has no effect on it."""
    _, zero, nonzero = (state.train_state.net for state in updated)
    assert not same_bits(zero.actor, nonzero.actor)
    assert not same_bits(signal_channel(zero), signal_channel(nonzero))


def test_a_signal_of_0_leaves_its_channel_at_0(updated):
    before, zero, _ = (state.train_state.net for state in updated)
    assert same_bits(signal_channel(before), signal_channel(zero))
    assert not same_bits(before.actor, zero.actor)


def test_the_step_size_anneals_to_0(updated, batch):
    _, _, state = updated
    signals = jnp.ones((*batch.reward.shape, 1))
    after, _ = jax.jit(SMALL.update)(state, jax.random.key(0), batch, signals)
    assert same_bits(after.train_state.net, state.train_state.net)


def log_probs_before_and_after(batch, entropy: float):
    """(log-probability, entropy) of an agent before and after 200 epochs on one batch."""
    agent = PPO(width=8, epochs=200, minibatches=1, lr=1e-2, entropy=entropy)
    before, no_signals = agent.init(jax.random.key(0), SPEC), jnp.zeros((*batch.reward.shape, 0))
    after, _ = jax.jit(agent.update)(before, jax.random.key(1), batch, no_signals)
    return [
        state.train_state.net.actor.log_prob(batch.obs, batch.action) for state in (before, after)
    ]


def test_the_clipped_ratio_bounds_the_change_of_the_policy(batch):
    """Beyond the clip there is no gradient, however many epochs there are."""
    (old, _), (new, _) = log_probs_before_and_after(batch, entropy=0.0)
    assert 0.1 < np.abs(np.exp(new - old) - 1).mean() < 0.5


def test_the_entropy_bonus_keeps_entropy_high(batch):
    low, high = (log_probs_before_and_after(batch, entropy)[1][1].mean() for entropy in (0.0, 1.0))
    assert low < high - 0.01


def test_moments_are_those_of_the_observations(batch):
    agent = PPO(width=8, epochs=1, minibatches=1, normalise=True)
    state = agent.init(jax.random.key(0), SPEC)
    no_signals = jnp.zeros((*batch.reward.shape, 0))
    state, _ = jax.jit(agent.update)(state, jax.random.key(0), batch, no_signals)
    obs = np.asarray(batch.obs).reshape(-1, 3)
    np.testing.assert_allclose(state.moments.mean, obs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.moments.variance, obs.var(0), rtol=1e-4)
    assert SMALL.init(jax.random.key(0), SPEC).moments is None


def test_minibatches_must_divide_the_samples(batch):
    agent, no_signals = PPO(width=8, minibatches=5), jnp.zeros((*batch.reward.shape, 0))
    state = agent.init(jax.random.key(0), SPEC)
    with pytest.raises(ValueError, match="32 samples do not divide into 5 minibatches"):
        agent.update(state, jax.random.key(0), batch, no_signals)


# --- the order of samples ---------------------------------------------------------------------


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


def test_permutations_of_different_keys_differ():
    first, second = (random_permutation(key, 513) for key in jax.random.split(jax.random.key(0)))
    assert (first != second).any()
