"""Policies against the formulas of their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Spec
from agents.nets import Actor, Critic

DISCRETE, CONTINUOUS = Spec(obs_dim=3, num_actions=4), Spec(obs_dim=3, action_dim=2)
OBS = jax.random.normal(jax.random.key(0), (5, 6, 3))


def opinionated(spec: Spec) -> Actor:
    """A policy with something to say: an untrained one is all but uniform."""
    actor = Actor(spec, 8, rngs=nnx.Rngs(1))
    actor.out.kernel[...] = 300 * actor.out.kernel[...]
    if spec.action_dim:
        actor.log_std[...] = jnp.array([-0.5, 0.3])
    return actor


def test_the_categorical():
    actor = opinionated(DISCRETE)
    action = jax.random.randint(jax.random.key(2), OBS.shape[:-1], 0, 4)
    log_prob, entropy = actor.log_prob(OBS, action)
    logits = np.asarray(actor(OBS), np.float64)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.take_along_axis(probability, np.asarray(action)[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_prob, np.log(chosen), rtol=1e-4)
    np.testing.assert_allclose(entropy, -(probability * np.log(probability)).sum(-1), rtol=1e-4)
    assert probability.std() > 0.01


def test_the_gaussian():
    actor = opinionated(CONTINUOUS)
    action = np.random.default_rng(2).normal(size=(*OBS.shape[:-1], 2))
    log_prob, entropy = actor.log_prob(OBS, jnp.asarray(action))
    mean, std = np.asarray(actor(OBS), np.float64), np.exp([-0.5, 0.3])
    density = np.exp(-0.5 * ((action - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(log_prob, np.log(density).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(entropy, (0.5 + 0.5 * np.log(2 * np.pi) + np.log(std)).sum())


def test_samples_follow_the_categorical():
    actor = opinionated(DISCRETE)
    many = jnp.broadcast_to(OBS[0, 0], (20_000, 3))
    drawn = np.bincount(actor.sample(jax.random.key(4), many), minlength=4) / len(many)
    np.testing.assert_allclose(drawn, jax.nn.softmax(actor(OBS[0, 0])), atol=0.015)


def test_samples_follow_the_gaussian():
    actor = opinionated(CONTINUOUS)
    drawn = actor.sample(jax.random.key(4), jnp.broadcast_to(OBS[0, 0], (20_000, 3)))
    np.testing.assert_allclose(drawn.mean(0), actor(OBS[0, 0]), atol=0.03)
    np.testing.assert_allclose(drawn.std(0), np.exp([-0.5, 0.3]), rtol=0.03)


def test_without_a_key_it_acts_by_its_mode():
    discrete, continuous = opinionated(DISCRETE), opinionated(CONTINUOUS)
    assert (discrete.sample(None, OBS) == discrete(OBS).argmax(-1)).all()
    assert (continuous.sample(None, OBS) == continuous(OBS)).all()


def test_an_untrained_policy_is_undecided():
    logits = Actor(DISCRETE, 64, rngs=nnx.Rngs(0))(OBS)
    assert jnp.abs(logits).max() < 0.05


@pytest.mark.parametrize(("signals", "room"), [(0, 8), (2, 8), (7, 8), (8, 16)])
def test_a_critic_has_room_for_its_signals_and_they_begin_at_0(signals, room):
    critic = Critic(DISCRETE, 8, signals, rngs=nnx.Rngs(0))
    values = critic(OBS)
    assert values.shape == (5, 6, room)
    assert (values[..., 1:] == 0).all()
    assert (values[..., 0] != 0).all()


def test_signals_do_not_change_how_a_critic_begins():
    alone, felt = (Critic(DISCRETE, 8, signals, rngs=nnx.Rngs(0)) for signals in (0, 3))
    assert (alone(OBS)[..., 0] == felt(OBS)[..., 0]).all()
