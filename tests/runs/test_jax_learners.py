"""JaxLearners: reward mixes, training, transfer between worlds and scores."""

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
def trained(learners, worlds):
    with jax.debug_key_reuse(False):
        run = learners.init(pool_worlds(worlds, [0]))
        mix = learners.reward_mix(task_weight=1.0)
        return learners.train(run, pool_worlds(worlds, [0]), mix, 2, heads_learn=True)


def batch(reward) -> Transition:
    zero, false = jnp.zeros(reward.shape), jnp.zeros(reward.shape, bool)
    return Transition(zero[..., None], zero, zero[..., None], reward, false, false, false)


def test_mixed_reward_is_the_weighted_sum_and_sham_uses_the_neighbour():
    signals = jnp.arange(12.0).reshape(2, 3, 2)
    task_batch = batch(jnp.ones((2, 3)))
    mix = RewardMix(jnp.float32(0.5), jnp.array([1.0, -2.0]), jnp.float32(0))
    signal = signals[..., 0] - 2 * signals[..., 1]
    np.testing.assert_allclose(mixed_reward(mix, task_batch, signals), 0.5 + signal)
    sham = mixed_reward(
        mix._replace(task_weight=jnp.float32(0), sham=jnp.float32(1)), task_batch, signals
    )
    np.testing.assert_allclose(sham[:, 0], signal[:, 1] - signal.mean())
    np.testing.assert_allclose(sham[:, 2], signal[:, 0] - signal.mean())
    assert abs(float(sham.sum())) < 1e-4


def test_reward_mix_goes_by_head_name_and_rejects_unknown_heads(learners):
    mix = learners.reward_mix({"constant": -0.01}, task_weight=1.0)
    assert mix.signal_weights.tolist() == pytest.approx([0.0, -0.01]) and float(mix.sham) == 0
    with pytest.raises(
        ValueError, match="hope is no head of this blend: its heads are fear, const"
    ):
        learners.reward_mix({"hope": 1.0})


def test_transfer_keeps_the_policy_and_renews_critic_and_optimiser(learners, trained, worlds):
    run, _ = trained
    pool = pool_worlds(worlds, [2])
    new = learners.transfer_renewed(run, pool, jax.random.key(5))
    kept = learners.transfer_renewed(run, pool, jax.random.key(5), critic_kept=True)
    old, fresh = run.learner.agent.train_state, new.learner.agent.train_state
    assert bits(fresh.net.actor) == bits(old.net.actor)
    assert bits(fresh.net.critic) != bits(old.net.critic)
    assert bits(kept.learner.agent.train_state.net) == bits(old.net)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(fresh.opt_state))
    assert any(np.asarray(x).any() for x in jax.tree.leaves(old.opt_state))
    assert bits(new.learner.blend_state.heads) == bits(run.learner.blend_state.heads)
    force = np.unique(np.asarray(new.env_states.world.params.force))
    assert np.isin(force, np.asarray(pool.params.force)).all()
    moved = learners.transfer(run, pool, jax.random.key(5))
    assert bits(moved.learner) == bits(run.learner)
    assert np.isin(
        np.asarray(moved.env_states.world.params.force), np.asarray(pool.params.force)
    ).all()
    assert not np.asarray(moved.episode_stats.length).any()


def test_heads_are_frozen_unless_heads_learn(learners, trained, worlds):
    run, _ = trained
    heads = run.learner.blend_state.heads
    count = heads["fear"].opt_state[1][0].count
    assert np.asarray(count).tolist() == [2 * EPOCHS * PARTS] * 2  # two updates, two learners
    after, sums = learners.train(
        run, pool_worlds(worlds, [2]), learners.reward_mix({"fear": 1.0}), 2
    )
    assert bits(after.learner.blend_state.heads) == bits(heads)
    assert bits(after.learner.agent.train_state.net) != bits(run.learner.agent.train_state.net)
    assert sums.episodes.shape == (2, 2) and np.asarray(sums.finite).all()


def test_one_program_serves_all_mixes_and_each_mix_trains_another_agent(learners, trained, worlds):
    run, pool = trained[0], pool_worlds(worlds, [2])
    before = len(learners._programs)
    agents = []
    for mix in (
        learners.reward_mix(),
        learners.reward_mix({"fear": 1.0}),
        learners.reward_mix({"fear": 1.0}, sham=True),
        learners.reward_mix({"constant": 0.01}),
        learners.reward_mix(task_weight=1.0),
    ):
        after, _ = learners.train(run, pool, mix, 2)
        agents.append(bits(after.learner.agent))
    assert len(learners._programs) <= before + 1
    assert learners._programs[next(reversed(learners._programs))]._cache_size() == 1
    assert len({tuple(agent.values()) for agent in agents}) == len(agents)


def test_scores_are_task_returns_and_reproducible(learners, trained, worlds):
    run, _ = trained
    scores = learners.score(run.learner.agent, worlds, jax.random.key(3))
    assert scores["return"].shape == (2, worlds.channel.noise.shape[0])
    assert (scores["return"] >= 1).all() and (scores["return"] <= 20).all()
    again = learners.score(run.learner.agent, worlds, jax.random.key(3))
    np.testing.assert_array_equal(scores["return"], again["return"])


def test_sample_world_draws_every_world_of_the_pool(worlds):
    pool = pool_worlds(worlds, [0, 1, 2])
    forces = {
        float(sample_world(pool, key).params.force)
        for key in jax.random.split(jax.random.key(0), 64)
    }
    assert forces == set(np.asarray(pool.params.force).tolist())
