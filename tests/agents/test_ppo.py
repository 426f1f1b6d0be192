"""PPO: what one update does, and what it must come to know of the probes."""

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
from tests.agents.probe_envs import Liking, Probe, Steer, learn, value

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
def known():
    return learn(AGENT, PROBES)


def test_the_value_of_one_step_is_its_reward(known):
    assert value(known["one step"]) == pytest.approx(1.0, abs=0.02)


def test_the_value_depends_on_what_is_seen(known):
    for cue in (-1.0, 1.0):
        assert value(known["a cue"], cue) == pytest.approx(cue, abs=0.02)


def test_the_value_of_what_comes_later_is_discounted(known):
    assert value(known["two steps"], time=1.0) == pytest.approx(1.0, abs=0.02)
    assert value(known["two steps"], time=0.0) == pytest.approx(GAMMA, abs=0.02)


def test_the_action_that_pays_is_chosen(known):
    assert known["a choice"][0.0, 0.0][1] == 1
    assert value(known["a choice"]) > 0.9


def test_the_action_that_pays_here_is_chosen_here(known):
    for cue, action in ((-1.0, 0), (1.0, 1)):
        assert known["a match"][cue, 0.0][1] == action
        assert value(known["a match"], cue) > 0.9


def test_beyond_a_cut_there_is_value(known):
    """A life of 1 a step that never ends is worth 1 / (1 - gamma), though we look for 3 steps."""
    assert value(known["endless"]) == pytest.approx(1 / (1 - GAMMA), rel=0.02)


def test_a_continuous_action_is_steered():
    known = learn(AGENT, {"steer": Probe(shown=1.0)}, env=Steer())["steer"]
    for cue in (-1.0, 1.0):
        assert known[cue, 0.0][1] == pytest.approx(cue / 2, abs=0.1)


def test_what_is_seen_is_whitened_if_asked(known):
    """An offset of 1000 deviations hides the cue from an agent that does not whiten."""
    plain, whitened = known["far"], learn(NORMALISED, {"far": PROBES["far"]})["far"]
    for cue, action in ((-1.0, 0), (1.0, 1)):
        assert whitened[cue, 0.0][1] == action
        assert value(whitened, cue) > 0.8
    assert plain[-1.0, 0.0][1] == plain[1.0, 0.0][1]


def test_a_feeling_has_a_channel_and_a_discount_of_its_own():
    """Where nothing is paid and action 1 feels good: 1 + gamma of two steps, or for ever."""
    probes = {"two steps": Probe(length=2.0), "endless": Probe(length=ENDLESS)}
    known = learn(AGENT, probes, blend=Blend(liking=(1.0, Liking)))
    feels = partial(value, channel=1)
    assert feels(known["two steps"], time=1.0) == pytest.approx(1.0, abs=0.02)
    assert feels(known["two steps"], time=0.0) == pytest.approx(1 + SIGNAL_GAMMA, abs=0.02)
    assert feels(known["endless"]) == pytest.approx(1 / (1 - SIGNAL_GAMMA), abs=0.02)
    for knowledge in known.values():
        assert knowledge[0.0, 0.0][1] == 1
        assert value(knowledge) == pytest.approx(0.0, abs=0.02)


# --- one update -------------------------------------------------------------------------------

SMALL = PPO(width=8, epochs=1, minibatches=1, max_norm=math.inf, anneal=1)


@pytest.fixture(scope="module")
def batch():
    return experience(seed=3, steps=8)


@pytest.fixture(scope="module")
def updated(batch):
    """The agent before an update, and after it with a signal of 0 and with one that says more."""
    state, update = SMALL.init(jax.random.key(0), SPEC, 1), jax.jit(SMALL.update)
    dull = jnp.zeros((*batch.reward.shape, 1))
    felt = jnp.sin(jnp.arange(dull.size)).reshape(dull.shape)
    return state, *(update(state, jax.random.key(1), batch, felt)[0] for felt in (dull, felt))


def signal(net):
    """The weights of the critic's one channel for a feeling."""
    out = net.critic.out
    return out.kernel[..., 1], out.bias[..., 1]


def test_a_feeling_reaches_the_policy(updated):
    """By its advantage: without a norm to share, nothing else couples policy and critic."""
    _, dull, felt = (state.trained.net for state in updated)
    assert not same_bits(dull.actor, felt.actor)
    assert not same_bits(signal(dull), signal(felt))


def test_a_signal_of_0_leaves_its_channel_at_0(updated):
    before, dull, _ = (state.trained.net for state in updated)
    assert same_bits(signal(before), signal(dull))
    assert not same_bits(before.actor, dull.actor)


def test_the_step_size_anneals_to_0(updated, batch):
    _, _, state = updated
    signals = jnp.ones((*batch.reward.shape, 1))
    after, _ = jax.jit(SMALL.update)(state, jax.random.key(0), batch, signals)
    assert same_bits(after.trained.net, state.trained.net)


def drilled(batch, entropy: float):
    """An agent before and after learning from one batch, 200 times over."""
    agent = PPO(width=8, epochs=200, minibatches=1, lr=1e-2, entropy=entropy)
    before, silence = agent.init(jax.random.key(0), SPEC), jnp.zeros((*batch.reward.shape, 0))
    after, _ = jax.jit(agent.update)(before, jax.random.key(1), batch, silence)
    return [state.trained.net.actor.log_prob(batch.obs, batch.action) for state in (before, after)]


def test_the_policy_stays_close_to_the_one_that_acted(batch):
    """However often it learns from a batch, it has nothing to gain beyond the clip."""
    (old, _), (new, _) = drilled(batch, entropy=0.0)
    assert 0.1 < np.abs(np.exp(new - old) - 1).mean() < 0.5


def test_the_entropy_bonus_keeps_it_undecided(batch):
    decided, undecided = (drilled(batch, entropy)[1][1].mean() for entropy in (0.0, 1.0))
    assert decided < undecided - 0.01


def test_moments_are_of_what_was_observed(batch):
    agent = PPO(width=8, epochs=1, minibatches=1, normalise=True)
    state = agent.init(jax.random.key(0), SPEC)
    silence = jnp.zeros((*batch.reward.shape, 0))
    state, _ = jax.jit(agent.update)(state, jax.random.key(0), batch, silence)
    seen = np.asarray(batch.obs).reshape(-1, 3)
    np.testing.assert_allclose(state.moments.mean, seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.moments.variance, seen.var(0), rtol=1e-4)
    assert SMALL.init(jax.random.key(0), SPEC).moments is None


def test_minibatches_must_divide(batch):
    agent, silence = PPO(width=8, minibatches=5), jnp.zeros((*batch.reward.shape, 0))
    state = agent.init(jax.random.key(0), SPEC)
    with pytest.raises(ValueError, match="32 samples do not divide into 5 minibatches"):
        agent.update(state, jax.random.key(0), batch, silence)


# --- the order of samples ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 513])
def test_a_shuffle_is_a_permutation(size):
    order = random_permutation(jax.random.key(size), size)
    assert order.dtype == jnp.int32
    assert sorted(order.tolist()) == list(range(size))


def test_every_order_is_as_likely_as_any_other():
    """Which sample comes where, over 6,000 shuffles of 6; chi-square on 25 degrees of freedom."""
    keys = jax.random.split(jax.random.key(0), 6000)
    orders = jax.jit(jax.vmap(partial(random_permutation, size=6)))(keys)
    counts = np.stack([np.bincount(place, minlength=6) for place in np.asarray(orders).T])
    assert ((counts - 1000) ** 2 / 1000).sum() < 52.6  # exceeded by chance once in a thousand


def test_shuffles_differ():
    one, other = (random_permutation(key, 513) for key in jax.random.split(jax.random.key(0)))
    assert (one != other).any()
