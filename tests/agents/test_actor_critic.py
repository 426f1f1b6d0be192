"""PPO and A2C: values and actions learned on probes, and what an update does to the state."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend
from agents.a2c import A2C
from agents.ppo import PPO
from tests.affect.cases import SPEC, experience, same_bits
from tests.agents.probe_envs import Liking, Probe, Steer, train_on_probes, value

GAMMA, SIGNAL_GAMMA = 0.9, 0.5
SETTINGS = {"width": 16, "gamma": GAMMA, "signal_gamma": SIGNAL_GAMMA, "lr": 1e-2}
AGENTS = {
    "PPO": PPO(minibatches=2, anneal=150, **SETTINGS),
    "A2C": A2C(anneal=600, **SETTINGS),
}
CUES = (-1.0, 1.0)
PROBES = {
    "one step": Probe(last=1.0),
    "a cue": Probe(cued=1.0, shown=1.0),
    "two steps": Probe(length=2.0, last=1.0),
    "a choice": Probe(chosen=1.0),
    "a match": Probe(matched=1.0, shown=1.0),
    "endless": Probe(length=jnp.inf, each=1.0),
    "rich": Probe(matched=1e6, shown=1.0),
    "far": Probe(matched=1.0, shown=1.0, offset=1000.0),
}


@pytest.fixture(scope="module", params=["PPO", pytest.param("A2C", marks=pytest.mark.slow)])
def agent(request):
    return AGENTS[request.param]


def close(expected):
    return pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *(
            (kind, {name: value})
            for kind in (PPO, A2C)
            for name, values in {
                "lr": (math.nan, -1, math.inf, "1e-3", True, None),
                "gamma": (1.01, -0.1, None),
                "signal_gamma": (2, "0.9"),
                "lam": (5, math.nan),
                "width": (-1, 8.0, True),
                "anneal": (-1, 0.5),
                "entropy": (math.inf, None),
                "critic": (-0.5,),
                "max_norm": (-1, math.nan),
            }.items()
            for value in values
        ),
        *((PPO, {name: value}) for name in ("epochs", "minibatches") for value in (0, 1.5)),
        (PPO, {"clip": -1}),
        (A2C, {"decay": 2}),
    ],
)
def test_settings_outside_their_range_are_refused(kind, settings):
    [(name, value)] = settings.items()
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: {name}={value!r}, expected a .*num"):
        kind(**settings)


def test_settings_at_the_ends_of_their_ranges_are_accepted():
    ends = {"lr": 0, "gamma": 1, "signal_gamma": None, "lam": 0, "anneal": 0, "max_norm": math.inf}
    for kind in (PPO, A2C):
        assert kind(**ends, width=np.int64(0)).max_norm == math.inf
    assert PPO(lr=lambda step: 1e-3, clip=math.inf).lr(0) == 1e-3
    assert jax.jit(lambda lr: A2C(lr=lr).lr + 1)(0.5) == 1.5


# --- probes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(agent):
    return train_on_probes(agent, PROBES)


@pytest.mark.parametrize(
    ("probe", "cue", "time", "expected"),
    [
        ("one step", 0.0, 0.0, 1.0),
        ("a cue", -1.0, 0.0, -1.0),
        ("a cue", 1.0, 0.0, 1.0),
        ("two steps", 0.0, 1.0, 1.0),
        ("two steps", 0.0, 0.0, GAMMA),
    ],
)
def test_values_are_discounted_rewards_given_the_observation(probe, cue, time, expected, results):
    assert value(results[probe], cue, time) == close(expected)


def test_the_rewarded_action_is_chosen_for_each_observation(results):
    assert results["a choice"][0.0, 0.0][1] == 1
    assert value(results["a choice"]) > 0.9
    assert [results["a match"][cue, 0.0][1] for cue in CUES] == [0, 1]
    assert min(value(results["a match"], cue) for cue in CUES) > 0.9


def test_values_bootstrap_at_truncation(results):
    """An endless reward of 1 a step is worth 1 / (1 - gamma), though truncated after 3 steps."""
    assert value(results["endless"]) * (1 - GAMMA) == close(1.0)


@pytest.mark.slow
def test_a_continuous_action_is_learned(agent):
    steer = train_on_probes(agent, {"steer": Probe(shown=1.0)}, env=Steer())["steer"]
    assert [float(steer[cue, 0.0][1][0]) for cue in CUES] == pytest.approx([-0.5, 0.5], abs=0.1)


@pytest.mark.slow
def test_normalise_whitens_observations(agent, results):
    """With an offset of 1000, an agent that does not whiten cannot use the cue."""
    normalised = replace(agent, normalise=True)
    plain, whitened = results["far"], train_on_probes(normalised, {"far": PROBES["far"]})["far"]
    assert [whitened[cue, 0.0][1] for cue in CUES] == [0, 1]
    assert min(value(whitened, cue) for cue in CUES) > 0.8
    assert plain[-1.0, 0.0][1] == plain[1.0, 0.0][1]


@pytest.mark.slow
def test_without_hidden_layers_policy_and_values_are_linear(agent):
    linear = replace(agent, width=0)
    results = train_on_probes(linear, {name: PROBES[name] for name in ("a cue", "a match")})
    assert [value(results["a cue"], cue) for cue in CUES] == [close(-1.0), close(1.0)]
    assert [results["a match"][cue, 0.0][1] for cue in CUES] == [0, 1]
    state, obs = linear.init(jax.random.key(0), SPEC), jnp.eye(SPEC.obs_dim)
    assert not jax.tree.leaves(state.train_state.net.actor.trunk)
    logits, _ = linear.policy(state, obs)
    zero, _ = linear.policy(state, 0 * obs)
    np.testing.assert_allclose(logits - zero, state.train_state.net.actor.out.kernel, atol=1e-7)
    np.testing.assert_allclose(linear.policy(state, 3 * obs)[0], 3 * logits, rtol=1e-5)
    assert linear.value(state, obs).shape == (SPEC.obs_dim, 8)


@pytest.mark.slow
def test_scale_values_learns_rewards_of_any_size(agent, results):
    scaled = train_on_probes(replace(agent, scale_values=True), {"rich": PROBES["rich"]})["rich"]
    assert [scaled[cue, 0.0][1] for cue in CUES] == [0, 1]
    assert min(value(scaled, cue) for cue in CUES) > 0.8e6
    assert value(results["rich"], 1.0) < 1e3


def test_scale_values_makes_a_factor_on_all_rewards_immaterial(batch):
    agent = replace(AGENTS["PPO"], width=8, scale_values=True)
    state, update = agent.init(jax.random.key(0), SPEC, 1), jax.jit(agent.update)
    signals = jnp.cos(jnp.arange(batch.reward.size)).reshape(*batch.reward.shape, 1)
    after, _ = update(state, jax.random.key(1), batch, signals)
    larger = batch._replace(reward=2.0**20 * batch.reward)
    same, _ = update(state, jax.random.key(1), larger, 2.0**20 * signals)
    assert same_bits(after.train_state.net, same.train_state.net)
    values = [agent.value(x, batch.obs) for x in (after, same)]
    np.testing.assert_array_equal(2.0**20 * np.asarray(values[0]), np.asarray(values[1]))


def test_scale_of_rare_rewards_is_their_root_mean_square():
    """One step in 200 pays, after a batch in which none did."""
    agent = replace(AGENTS["PPO"], width=8, scale_values=True, gamma=0.5)
    batch = experience(seed=0, steps=100)
    never = jnp.zeros_like(batch.reward)
    once = never.at[50, 0].set(1.0).at[0, 1].set(1.0)
    ends = {"terminated": never > 1, "truncated": never > 1}
    state, update = agent.init(jax.random.key(0), SPEC), jax.jit(agent.update)
    for reward in (never, never, once, once):
        batch = batch._replace(reward=reward, **ends)
        state, _ = update(state, jax.random.key(1), batch, jnp.zeros((*reward.shape, 0)))
    returns = np.concatenate([0.5 ** np.arange(51), [1.0]])  # 50 steps before the pay, and at once
    steps = 4 * never.size
    expected = 2 * np.square(returns).sum() / steps
    assert float(state.return_size.square[0]) == pytest.approx(expected, rel=1e-5)


def test_a_signal_has_its_own_channel_and_discount(agent):
    """Without reward and with a signal of 1 for action 1, over two steps or for ever."""
    probes = {"two steps": Probe(length=2.0), "endless": Probe(length=jnp.inf)}
    results = train_on_probes(agent, probes, blend=Blend(liking=(1.0, Liking)))
    signal_value = partial(value, channel=1)
    assert signal_value(results["two steps"], time=1.0) == close(1.0)
    assert signal_value(results["two steps"], time=0.0) == close(1 + SIGNAL_GAMMA)
    assert signal_value(results["endless"]) == close(1 / (1 - SIGNAL_GAMMA))
    for probe in results.values():
        assert probe[0.0, 0.0][1] == 1
        assert value(probe) == close(0.0)


# --- one update -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch():
    return experience(seed=3, steps=8)


@pytest.fixture(scope="module")
def nets(agent, batch):
    """Networks before an update, after it with a signal of 0 or another, and after a second one.

    Gradients are not clipped, and the step size is 0 from the second update on.
    """
    agent = replace(agent, width=8, max_norm=math.inf, anneal=1)
    state, update = agent.init(jax.random.key(0), SPEC, 1), jax.jit(agent.update)
    zero = jnp.zeros((*batch.reward.shape, 1))
    other = jnp.sin(jnp.arange(zero.size)).reshape(zero.shape)
    after = [update(state, jax.random.key(1), batch, signals)[0] for signals in (zero, other)]
    second, _ = update(after[1], jax.random.key(0), batch, other)
    return [state.train_state.net for state in (state, *after, second)]


def signal_channel(net):
    """Weights and bias of the critic's only signal channel."""
    out = net.critic.out
    return out.kernel[..., 1], out.bias[..., 1]


def test_a_signal_changes_its_channel_and_the_policy(nets):
    """Through the advantage: without clipping the critic's loss has no effect on the policy."""
    before, zero, other, _ = nets
    assert not same_bits(zero.actor, other.actor)
    assert not same_bits(signal_channel(zero), signal_channel(other))
    assert same_bits(signal_channel(before), signal_channel(zero))
    assert not same_bits(before.actor, zero.actor)


def test_the_step_size_anneals_to_0(nets):
    _, _, after, second = nets
    assert same_bits(after, second)


def test_moments_are_those_of_the_observations(agent, batch):
    assert agent.init(jax.random.key(0), SPEC).moments is None
    agent = replace(agent, normalise=True)
    state, no_signals = agent.init(jax.random.key(0), SPEC), jnp.zeros((*batch.reward.shape, 0))
    state, _ = jax.jit(agent.update)(state, jax.random.key(0), batch, no_signals)
    obs = np.asarray(batch.obs).reshape(-1, SPEC.obs_dim)
    np.testing.assert_allclose(state.moments.mean, obs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.moments.variance, obs.var(0), rtol=1e-4)


def test_a2c_and_ppo_have_the_same_initial_networks():
    one, two = (agent(width=8).init(jax.random.key(0), SPEC) for agent in (A2C, PPO))
    assert same_bits(one.train_state.net, two.train_state.net)
