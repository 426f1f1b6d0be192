"""Policies against the formulas of their distributions, and initial critics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Spec
from agents.nets import Actor, Critic

DISCRETE, CONTINUOUS = Spec(obs_dim=3, num_actions=4), Spec(obs_dim=3, action_dim=2)
OBS = jax.random.normal(jax.random.key(0), (5, 6, 3))


def peaked_actor(spec: Spec) -> Actor:
    """Policy far from uniform, as an untrained one is nearly uniform."""
    actor = Actor(spec, 8, rngs=nnx.Rngs(1))
    actor.out.kernel[...] = 300 * actor.out.kernel[...]
    if spec.action_dim:
        actor.log_std[...] = jnp.array([-0.5, 0.3])
    return actor


def test_log_prob_and_entropy_of_the_categorical():
    actor = peaked_actor(DISCRETE)
    action = jax.random.randint(jax.random.key(2), OBS.shape[:-1], 0, 4)
    log_prob, entropy = actor.log_prob(OBS, action)
    logits = np.asarray(actor(OBS), np.float64)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.take_along_axis(probability, np.asarray(action)[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_prob, np.log(chosen), rtol=1e-4)
    np.testing.assert_allclose(entropy, -(probability * np.log(probability)).sum(-1), rtol=1e-4)
    assert probability.std() > 0.01


def test_log_prob_and_entropy_of_the_gaussian():
    actor = peaked_actor(CONTINUOUS)
    action = np.random.default_rng(2).normal(size=(*OBS.shape[:-1], 2))
    log_prob, entropy = actor.log_prob(OBS, jnp.asarray(action))
    mean, std = np.asarray(actor(OBS), np.float64), np.exp([-0.5, 0.3])
    density = np.exp(-0.5 * ((action - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(log_prob, np.log(density).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(entropy, (0.5 + 0.5 * np.log(2 * np.pi) + np.log(std)).sum())


def test_samples_follow_the_distribution_and_without_a_key_are_its_mode():
    many = jnp.broadcast_to(OBS[0, 0], (20_000, 3))
    actor = peaked_actor(DISCRETE)
    shares = np.bincount(actor.sample(jax.random.key(4), many), minlength=4) / len(many)
    np.testing.assert_allclose(shares, jax.nn.softmax(actor(OBS[0, 0])), atol=0.015)
    assert (actor.sample(None, OBS) == actor(OBS).argmax(-1)).all()
    actor = peaked_actor(CONTINUOUS)
    actions = actor.sample(jax.random.key(5), many)
    np.testing.assert_allclose(actions.mean(0), actor(OBS[0, 0]), atol=0.03)
    np.testing.assert_allclose(actions.std(0), np.exp([-0.5, 0.3]), rtol=0.03)
    assert (actor.sample(None, OBS) == actor(OBS)).all()


def test_an_untrained_policy_is_nearly_uniform():
    logits = Actor(DISCRETE, 64, rngs=nnx.Rngs(0))(OBS)
    assert jnp.abs(logits).max() < 0.05


@pytest.mark.parametrize(("signals", "num_outputs"), [(0, 8), (2, 8), (7, 8), (8, 16)])
def test_a_critic_has_padded_channels_and_signals_start_at_0(signals, num_outputs):
    bare, critic = (Critic(DISCRETE, 8, count, rngs=nnx.Rngs(0)) for count in (0, signals))
    values = critic(OBS)
    assert values.shape == (5, 6, num_outputs)
    assert (values[..., 1:] == 0).all()
    assert (values[..., 0] != 0).all()
    assert (values[..., 0] == bare(OBS)[..., 0]).all()  # whatever the number of signals
