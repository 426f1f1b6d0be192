"""Several choices at once and masks against a calculation by hand, and PPO and A2C on them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Spec, Transition, build
from affect.examples.icm import ICM
from affect.observation import action_numbers
from agents import A2C, PPO, QLearning
from agents.body import Body
from agents.distributions import FORBIDDEN, Categorical, Factored
from agents.nets import Actor
from agents.pvl import PVL
from tests.tiers import slow

SIZES = 3, 2, 4
SEVERAL = Spec(obs_dim=3, action_sizes=SIZES)
MASKED = Spec(obs_dim=3, num_actions=4, masked=True)
BOTH = Spec(obs_dim=3, action_sizes=SIZES, masked=True)
LOGITS = np.random.default_rng(0).normal(size=(5, 9))
ALLOWED = np.array([1, 0, 1, 0, 1, 1, 1, 0, 1], bool)


def hand_probabilities(logits: np.ndarray, allowed: np.ndarray) -> dict[tuple, np.ndarray]:
    """Probability [N] of every action of three choices: the product of those of the choices."""
    factors = []
    for part, mask in zip(np.split(logits, [3, 5], -1), np.split(allowed, [3, 5]), strict=True):
        weights = np.exp(part) * mask
        factors.append(weights / weights.sum(-1, keepdims=True))
    actions = itertools.product(*map(range, SIZES))
    return {a: np.prod([f[:, i] for f, i in zip(factors, a, strict=True)], 0) for a in actions}


@pytest.mark.parametrize("allowed", [ALLOWED, slow(np.ones(9, bool))])
def test_log_probability_and_entropy_of_several_choices_are_those_of_their_product(allowed):
    expected = hand_probabilities(LOGITS, allowed)
    assert np.isclose(sum(expected.values()), 1).all()
    out, policy = jnp.where(allowed[None], jnp.array(LOGITS), FORBIDDEN), Factored(SIZES)
    entropy = 0.0
    for action, probability in expected.items():
        actions = jnp.broadcast_to(jnp.array(action), (5, 3))
        log_prob, given_entropy = policy.log_prob(out, jnp.zeros(0), actions)
        np.testing.assert_allclose(jnp.exp(log_prob), probability, rtol=1e-5, atol=1e-12)
        entropy = entropy - probability * np.log(np.where(probability > 0, probability, 1))
    np.testing.assert_allclose(given_entropy, entropy, rtol=1e-5)
    samples = policy.sample(jax.random.key(1), jnp.repeat(out[:1], 20_000, 0), jnp.zeros(0))
    shares = {a: (samples == jnp.array(a)[None]).all(-1).mean() for a in expected}
    for action, probability in expected.items():
        assert shares[action] == pytest.approx(probability[0], abs=0.015)
    mode = max(expected, key=lambda a: expected[a][0])
    assert tuple(np.asarray(policy.sample(None, out, jnp.zeros(0))[0])) == mode
    target = jnp.where(allowed[None], jnp.array(LOGITS[::-1]), FORBIDDEN)
    others = hand_probabilities(LOGITS[::-1], allowed)
    cross = -sum(others[a] * np.log(np.where(p > 0, p, 1)) for a, p in expected.items() if p[0] > 0)
    zeros = jnp.zeros_like(out)
    np.testing.assert_allclose(policy.cross_entropy((out, zeros), (target, zeros)), cross, 1e-5)


def test_one_choice_of_several_is_the_categorical():
    one, several = Categorical(4), Factored((4,))
    out, action = jnp.array(LOGITS[:, :4]), jnp.arange(5) % 4
    expected = one.log_prob(out, jnp.zeros(0), action)
    for given, value in zip(
        several.log_prob(out, jnp.zeros(0), action[:, None]), expected, strict=True
    ):
        np.testing.assert_allclose(given, value, rtol=1e-6)


def test_a_mask_removes_actions_from_every_part_of_a_policy():
    actor = Actor(MASKED, 8, rngs=nnx.Rngs(0))
    actor.out.bias[...] = jnp.array([1.0, 5.0, 2.0, -1.0])  # the mode is forbidden
    obs = jnp.concatenate([jnp.ones((2000, 3)), jnp.tile(jnp.array([1.0, 0, 1, 0]), (2000, 1))], 1)
    free = Actor(Spec(obs_dim=3, num_actions=4), 8, rngs=nnx.Rngs(0))
    free.out.bias[...] = actor.out.bias[...]
    logits = np.asarray(free(obs[0, :3]), np.float64)
    probability = np.exp(logits) * np.array([1, 0, 1, 0])
    probability = probability / probability.sum()
    samples = actor.sample(jax.random.key(0), obs)
    assert set(np.unique(samples)) == {0, 2}
    assert (samples == 2).mean() == pytest.approx(probability[2], abs=0.03)
    assert (actor.sample(None, obs) == 2).all()
    log_prob, entropy = actor.log_prob(obs[:1], jnp.array([0]))
    np.testing.assert_allclose(log_prob, np.log(probability[0]), rtol=1e-5)
    kept = probability[[0, 2]]
    np.testing.assert_allclose(entropy, -(kept * np.log(kept)).sum(), rtol=1e-5)
    assert actor.log_prob(obs[:1], jnp.array([1]))[0] < -1e8

    def loss(actor):
        log_prob, entropy = actor.log_prob(obs, samples)
        return log_prob.mean() + entropy.mean()

    gradient = jax.jit(jax.grad(loss))(actor)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (gradient.out.bias[...][jnp.array([1, 3])] == 0).all()


def batch_of(obs: jax.Array, action: jax.Array, reward: jax.Array) -> Transition:
    """Steps of one observation each, [T, B]."""
    ends = jnp.ones(reward.shape, bool)
    return Transition(obs, action, obs, reward, ends, ~ends, ends)


@pytest.mark.slow  # 3 s of compiling each
@pytest.mark.parametrize("agent", [PPO(minibatches=2, normalise=True), A2C()])
@pytest.mark.parametrize("spec", [SEVERAL, MASKED, BOTH])
def test_agents_learn_which_actions_pay_and_never_take_a_forbidden_one(agent, spec):
    """One of the allowed actions of each choice pays; the others do not."""
    state = agent.init(jax.random.key(0), spec)
    allowed = ALLOWED[: spec.mask_dim] if spec.masked else np.ones(sum(spec.choices), bool)
    mask = jnp.tile(jnp.array(allowed, jnp.float32), (4, 8, 1)) if spec.masked else None
    numbers = jax.random.normal(jax.random.key(1), (4, 8, 3))
    obs = numbers if mask is None else jnp.concatenate([numbers, mask], -1)
    update, act = jax.jit(agent.update), jax.jit(agent.act)
    starts = np.cumsum([0, *spec.choices[:-1]])
    for i in range(60):
        action = act(state, jax.random.key(i), obs)
        assert allowed[starts + np.atleast_1d(action[0, 0])].all()
        paid = jnp.asarray((np.asarray(action) == 0).reshape(4, 8, -1).mean(-1), jnp.float32)
        batch = batch_of(obs, action, paid)
        state, metrics = update(state, jax.random.key(i), batch, jnp.zeros((4, 8, 0)))
        assert all(jnp.isfinite(value) for value in jax.tree.leaves(metrics))
    first = agent.policy(state, obs)[0][0, 0]
    assert jax.nn.softmax(first[: spec.choices[0]])[0] > 0.5


@pytest.mark.parametrize("agent", [QLearning(4, jnp.ravel), PVL(), Body(PPO())])
@pytest.mark.parametrize(("spec", "what"), [(SEVERAL, "several actions"), (MASKED, "action masks")])
def test_other_agents_refuse_what_they_do_not_take(agent, spec, what):
    with pytest.raises(ValueError, match=f"does not take {what}.*: use PPO or A2C"):
        agent.init(jax.random.key(0), spec)


def test_heads_get_actions_as_numbers_one_hot_and_concatenated():
    action = jnp.array([[2, 0, 3], [0, 1, 1]])
    expected = [[0, 0, 1, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 1, 0, 1, 0, 0]]
    assert action_numbers(SEVERAL, action).tolist() == expected
    assert action_numbers(MASKED, jnp.array([1])).tolist() == [[0, 1, 0, 0]]
    continuous = jnp.array([[0.5, -1.0]])
    assert action_numbers(Spec(obs_dim=1, action_dim=2), continuous) is continuous
    keys = jax.random.split(jax.random.key(0), 2)
    batch = batch_of(jax.random.normal(keys[0], (2, 1, 3)), action[:, None], jnp.zeros((2, 1)))
    loss, _ = build(ICM, SEVERAL, keys[1]).loss((), batch)
    assert jnp.isfinite(loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_sizes": (2, 0)}, "action_sizes are numbers of actions"),
        ({"action_sizes": (2,), "num_actions": 2}, "set exactly one of them"),
        ({"action_dim": 2, "masked": True}, "masked=True is of discrete actions"),
        ({"num_actions": 2, "reader": jnp.ravel}, "reader is a function of an image"),
        ({"num_actions": 2, "image": (7, 7, 3)}, "image is an affect.Image"),
    ],
)
def test_a_spec_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Spec(obs_dim=3, **changes)
