"""Learners that go on in other worlds: what they are paid, what stays, and what is made anew."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Constant, Fear, Transition
from agents.ppo import PPO
from envs.worlds.classic.cartpole import CartPole
from runs.adaptation.control_heads import SignalDifference
from runs.adaptation.jax_learners import JaxLearners, LearnerSizes, sample_world
from runs.adaptation.reward_mix import EPOCHS, PARTS, RewardMix, mixed_reward
from runs.engine.specialists import pool_worlds
from tests.runs import small_study
from tests.runs.small_study import bits, without_key_check

unchecked = pytest.fixture(autouse=True)(without_key_check)
BLEND = Blend(
    epochs=1,
    fear=(1.0, SignalDifference(Fear, gamma=0.99)),
    constant=(1.0, partial(Constant, value=1.0)),
)
SIZES = LearnerSizes(2, 2, 4, 8, 4, optimise=False)


@pytest.fixture(scope="module")
def worlds():
    return small_study.suite().worlds(jax.random.key(1), 2)


@pytest.fixture(scope="module")
def learners():
    agent = PPO(width=8, epochs=1, minibatches=2, anneal=4)
    return JaxLearners(CartPole(horizon=20), agent, BLEND, SIZES)


@pytest.fixture(scope="module")
def lived(learners, worlds):
    with jax.debug_key_reuse(False):
        run = learners.start(pool_worlds(worlds, [0]))
        terms = learners.terms(pay=1.0)
        return learners.live(run, pool_worlds(worlds, [0]), terms, 2, heads_learn=True)


def batch(reward) -> Transition:
    zero, no = jnp.zeros(reward.shape), jnp.zeros(reward.shape, bool)
    return Transition(zero[..., None], zero, zero[..., None], reward, no, no, no)


def test_a_wage_is_what_the_terms_say():
    signals = jnp.arange(12.0).reshape(2, 3, 2)
    paid = batch(jnp.ones((2, 3)))
    terms = RewardMix(jnp.float32(0.5), jnp.array([1.0, -2.0]), jnp.float32(0))
    felt = signals[..., 0] - 2 * signals[..., 1]
    np.testing.assert_allclose(mixed_reward(terms, paid, signals), 0.5 + felt)
    sham = mixed_reward(terms._replace(pay=jnp.float32(0), sham=jnp.float32(1)), paid, signals)
    np.testing.assert_allclose(sham[:, 0], felt[:, 1] - felt.mean())
    np.testing.assert_allclose(sham[:, 2], felt[:, 0] - felt.mean())
    assert abs(float(sham.sum())) < 1e-4


def test_terms_go_by_name_and_refuse_what_is_not_there(learners):
    terms = learners.terms({"constant": -0.01}, pay=1.0)
    assert terms.weights.tolist() == pytest.approx([0.0, -0.01]) and float(terms.sham) == 0
    with pytest.raises(ValueError, match="hope is no feeling of this blend: there are fear, const"):
        learners.terms({"hope": 1.0})


def test_a_new_world_takes_the_policy_and_a_new_critic_and_optimiser(learners, lived, worlds):
    run, _ = lived
    there = pool_worlds(worlds, [2])
    new = learners.enter(run, there, jax.random.key(5))
    kept = learners.enter(run, there, jax.random.key(5), critic_kept=True)
    old, fresh = run.learner.agent.trained, new.learner.agent.trained
    assert bits(fresh.net.actor) == bits(old.net.actor)
    assert bits(fresh.net.critic) != bits(old.net.critic)
    assert bits(kept.learner.agent.trained.net) == bits(old.net)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(fresh.opt_state))
    assert any(np.asarray(x).any() for x in jax.tree.leaves(old.opt_state))
    assert bits(new.learner.blend_state.heads) == bits(run.learner.blend_state.heads)
    force = np.unique(np.asarray(new.env_states.world.params.force))
    assert np.isin(force, np.asarray(there.params.force)).all()
    moved = learners.move(run, there, jax.random.key(5))
    assert bits(moved.learner) == bits(run.learner)
    assert np.isin(
        np.asarray(moved.env_states.world.params.force), np.asarray(there.params.force)
    ).all()
    assert not np.asarray(moved.episode_stats.length).any()


def test_heads_are_frozen_unless_they_learn(learners, lived, worlds):
    run, _ = lived
    heads = run.learner.blend_state.heads
    count = heads["fear"].opt_state[1][0].count
    assert np.asarray(count).tolist() == [2 * EPOCHS * PARTS] * 2  # two updates, two learners
    on, sums = learners.live(run, pool_worlds(worlds, [2]), learners.terms({"fear": 1.0}), 2)
    assert bits(on.learner.blend_state.heads) == bits(heads)
    assert bits(on.learner.agent.trained.net) != bits(run.learner.agent.trained.net)
    assert sums.episodes.shape == (2, 2) and np.asarray(sums.finite).all()


def test_all_arms_are_one_program_and_what_is_paid_is_what_they_learn(learners, lived, worlds):
    run, there = lived[0], pool_worlds(worlds, [2])
    before = len(learners._programs)
    agents = []
    for terms in (
        learners.terms(),
        learners.terms({"fear": 1.0}),
        learners.terms({"fear": 1.0}, sham=True),
        learners.terms({"constant": 0.01}),
        learners.terms(pay=1.0),
    ):
        after, _ = learners.live(run, there, terms, 2)
        agents.append(bits(after.learner.agent))
    assert len(learners._programs) <= before + 1
    assert learners._programs[next(reversed(learners._programs))]._cache_size() == 1
    assert len({tuple(one.values()) for one in agents}) == len(agents)


def test_scores_are_of_the_task(learners, lived, worlds):
    run, _ = lived
    scores = learners.score(run.learner.agent, worlds, jax.random.key(3))
    assert scores["return"].shape == (2, worlds.channel.noise.shape[0])
    assert (scores["return"] >= 1).all() and (scores["return"] <= 20).all()
    again = learners.score(run.learner.agent, worlds, jax.random.key(3))
    np.testing.assert_array_equal(scores["return"], again["return"])


def test_a_world_is_drawn_from_the_pool(worlds):
    pool = pool_worlds(worlds, [0, 1, 2])
    seen = {
        float(sample_world(pool, key).params.force)
        for key in jax.random.split(jax.random.key(0), 64)
    }
    assert seen == set(np.asarray(pool.params.force).tolist())
