"""Control heads: sums of differences, missing and flipped outcomes, learned reward, critic."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Fear, Hope, Innate, Potential, Spec, Transition, build
from agents.ppo import PPO
from runs.engine.control_heads import (
    LearnedReward,
    ParentCritic,
    SignalDifference,
    WithLabelNoise,
    WithoutAnchors,
    flip_outcomes,
    insert_critic,
)

SPEC = Spec(obs_dim=3, num_actions=2)


def batch(steps=12, envs=4, every=4) -> Transition:
    """Episodes of `every` steps; in even environments they end in reward 1, in others in harm."""
    obs = jax.random.normal(jax.random.key(0), (steps + 1, envs, 3))
    ends = jnp.broadcast_to((jnp.arange(steps) % every == every - 1)[:, None], (steps, envs))
    good = jnp.broadcast_to((jnp.arange(envs) % 2 == 0)[None], (steps, envs))
    reward = jnp.where(ends, jnp.where(good, 1.0, -1.0), 0.0)
    first, false = jnp.roll(ends, 1, 0), jnp.zeros((steps, envs), bool)
    return Transition(obs[:-1], false.astype(int), obs[1:], reward, ends, false, first)


@pytest.mark.parametrize(("kind", "last"), [(SignalDifference, 0.9**4), (Potential, 0.0)])
def test_signal_difference_keeps_the_last_potential_and_potential_cancels_it(kind, last):
    observed = partial(Innate, fn=lambda batch: batch.next_obs[..., 0])
    head, transitions = build(kind(observed, gamma=0.9), SPEC, jax.random.key(0)), batch()
    signal = np.asarray(head(head.initial_state(4), transitions)[0]).reshape(3, 4, 4)
    sums = np.einsum("etb,t->eb", signal, 0.9 ** np.arange(4))  # of each episode
    start, end = transitions.obs[::4, :, 0], transitions.next_obs[3::4, :, 0]
    np.testing.assert_allclose(sums, last * end - start, atol=1e-5)


@pytest.mark.parametrize("factory", [Fear, Hope])
def test_without_anchors_has_no_loss_at_terminal_observations(factory):
    transitions = batch()
    at_ends = transitions.terminated[..., None]
    far_ends = transitions._replace(next_obs=jnp.where(at_ends, 50.0, transitions.next_obs))
    plain = build(factory, SPEC, jax.random.key(1))
    unanchored = build(WithoutAnchors(factory), SPEC, jax.random.key(1))
    assert float(unanchored.loss((), transitions)[0]) == float(unanchored.loss((), far_ends)[0])
    assert float(plain.loss((), transitions)[0]) != float(plain.loss((), far_ends)[0])
    np.testing.assert_array_equal(unanchored((), transitions)[0], plain((), transitions)[0])


def test_flipped_outcomes_are_that_share_of_the_ends_and_nested():
    transitions = batch(steps=400, envs=8)
    ends, masks = np.asarray(transitions.terminated), {}
    was_harm = ends & (np.asarray(transitions.reward) <= 0)
    for share in (0.0, 0.2, 0.5, 1.0):
        flipped_batch = flip_outcomes(transitions, share)
        flipped = np.asarray(flipped_batch.reward != transitions.reward)
        harm = np.asarray(flipped_batch.info["harm"] > 0)
        assert not flipped[~ends].any()
        np.testing.assert_array_equal(harm, was_harm ^ flipped)
        assert flipped[ends].mean() == pytest.approx(share, abs=0.05)
        masks[share] = flipped
    assert (masks[0.5] | ~masks[0.2]).all()
    head = build(WithLabelNoise(Fear, share=1.0), SPEC, jax.random.key(1))
    plain = build(Fear, SPEC, jax.random.key(1))
    flipped_batch = flip_outcomes(transitions, 1.0)
    assert float(head.loss((), transitions)[0]) == float(plain.loss((), flipped_batch)[0])


def test_classifier_emits_and_learns_at_ends_alone_and_reward_model_at_every_step():
    transitions, key = batch(), jax.random.key(2)
    classifier = build(partial(LearnedReward, ends=True), SPEC, key)
    reward_model = build(LearnedReward, SPEC, key)
    at_ends, at_all = (np.asarray(head((), transitions)[0]) for head in (classifier, reward_model))
    terminated = np.asarray(transitions.terminated)
    assert not at_ends[~terminated].any() and (at_all != 0).all()
    np.testing.assert_array_equal(at_ends[terminated], at_all[terminated])
    other = transitions._replace(reward=jnp.where(transitions.terminated, transitions.reward, 0.5))
    assert float(classifier.loss((), transitions)[0]) == float(classifier.loss((), other)[0])
    assert float(reward_model.loss((), transitions)[0]) != float(reward_model.loss((), other)[0])


@pytest.mark.parametrize("num_signals", [0, 20])
def test_inserted_critic_equals_the_task_channel_of_the_agents_critic(num_signals):
    agent = PPO(width=8)
    head = SignalDifference(partial(ParentCritic, width=8), gamma=0.99)
    blend = Blend(fear=(1.0, Fear), critic=(1.0, head))
    blend_state = blend.init(jax.random.key(0), SPEC, 4)
    agent_state = agent.init(jax.random.key(7), SPEC, num_signals)
    after = insert_critic(blend_state, blend, agent_state.train_state.net.critic)
    transitions = batch()
    value = agent.value(agent_state, transitions.next_obs)[..., 0]
    signal = after.heads["critic"].net.inner((), transitions)[0]
    np.testing.assert_allclose(signal, value, rtol=1e-6)
    before = blend_state.heads["critic"].net.inner((), transitions)[0]
    assert not np.allclose(before, value), "the state that was given is unchanged"
