"""HostLearners: the same behaviour as JaxLearners, worker processes, and designs of studies."""

import os
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Constant, Fear, Hope
from agents.ppo import PPO
from envs.host import suite as host
from runs import continual, reward_free
from runs.adaptation import suite_lookup
from runs.adaptation.control_heads import SignalDifference
from runs.adaptation.host_learners import HostLearners
from runs.adaptation.jax_learners import JaxLearners, LearnerSizes
from runs.adaptation.label_noise import aurocs_at_point
from runs.adaptation.reward_arms import available_heads
from runs.adaptation.reward_free_design import MILDER_SEVERITIES, choose_shifts, make_design
from runs.adaptation.reward_mix import EPOCHS, PARTS
from runs.adaptation.suite_lookup import HEADS, check_env, find_suite, make_learners, shortened
from runs.engine.arms import Arm
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.host_backend import HostBackend
from runs.engine.specialists import pool_worlds
from runs.engine.train import Learner
from runs.errors import Interrupted, UserError
from runs.probes.signals import predictions
from tests.runs import small_study
from tests.runs.small_study import bits, without_key_check

unchecked = pytest.fixture(autouse=True)(without_key_check)
AGENT = PPO(width=8, epochs=1, minibatches=2, anneal=4, normalise=True)
BLEND = Blend(
    epochs=1,
    fear=(1.0, SignalDifference(Fear, gamma=0.99)),
    hope=(1.0, SignalDifference(Hope, gamma=0.99)),
    constant=(1.0, partial(Constant, value=1.0)),
)
SIZES = LearnerSizes(2, 2, 2, 8, 3, optimise=False)
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def suite():
    """CartPole-v1 under two shifts at full severity, scored for 40 steps an episode."""
    whole = host.host_suite("CartPole-v1")
    shifts = tuple(shift for shift in whole.shifts if shift.name in ("force", "noise"))
    env = small_study.replace(whole.env, horizon=40)
    return small_study.replace(whole, env=env, shifts=shifts, severities=(1.0,))


@pytest.fixture(scope="module")
def worlds(suite):
    return suite.worlds(jax.random.key(1), 3)


@pytest.fixture(scope="module")
def learners(suite):
    made = make_learners(suite.env, AGENT, BLEND, SIZES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def trained(learners, worlds):
    """Two updates at home, heads included."""
    with jax.debug_key_reuse(False):
        run = learners.init(pool_worlds(worlds, [0]))
        return learners.train(
            run, pool_worlds(worlds, [0]), learners.reward_mix(task_weight=1.0), 2, heads_learn=True
        )


def test_make_learners_picks_the_class_and_with_agent_shares_the_pools(learners):
    assert isinstance(learners, HostLearners) and isinstance(learners, JaxLearners)
    jitted = find_suite("CartPole")
    assert type(make_learners(jitted.env, AGENT, BLEND, SIZES)) is JaxLearners
    other = learners.with_agent(small_study.replace(AGENT, lr=1e-3))
    assert other.agent.lr == 1e-3 and other.pools is learners.pools


def test_transfer_keeps_the_policy_and_renews_critic_and_optimiser(learners, trained, worlds):
    run, _ = trained
    pool = pool_worlds(worlds, [1])
    new = learners.transfer_renewed(run, pool, KEY)
    kept = learners.transfer_renewed(run, pool, KEY, critic_kept=True)
    old, fresh = run.learner.agent.train_state, new.learner.agent.train_state
    assert bits(fresh.net.actor) == bits(old.net.actor)
    assert bits(fresh.net.critic) != bits(old.net.critic)
    assert bits(kept.learner.agent.train_state.net) == bits(old.net)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(fresh.opt_state))
    assert any(np.asarray(x).any() for x in jax.tree.leaves(old.opt_state))
    assert bits(new.learner.agent.moments) == bits(run.learner.agent.moments)
    assert bits(new.learner.blend_state.heads) == bits(run.learner.blend_state.heads)
    assert float(new.world.params["force"]) == pytest.approx(1.0)
    assert float(run.world.params["force"]) == pytest.approx(10.0)
    moved = learners.transfer(run, pool, KEY)
    assert (
        bits(moved.learner) == bits(run.learner)
        and not np.asarray(moved.episode_stats.length).any()
    )
    np.testing.assert_array_equal(moved.snapshot["obs"], new.snapshot["obs"])  # the same key
    other = learners.transfer(run, pool, jax.random.key(6))
    assert (other.snapshot["obs"] != moved.snapshot["obs"]).any()


def test_heads_are_frozen_unless_heads_learn(learners, trained, worlds):
    run, sums = trained
    heads = run.learner.blend_state.heads
    count = heads["fear"].opt_state[1][0].count
    assert np.asarray(count).tolist() == [2 * EPOCHS * PARTS] * 2  # two updates, two learners
    assert sums.episodes.shape == (2, 2) and sums.finite.all() and sums.episodes.any()
    np.testing.assert_array_equal(sums.harm, sums.episodes)  # every end is a fall
    np.testing.assert_array_equal(sums.returns > 0, sums.episodes > 0)
    pool = pool_worlds(worlds, [1])
    after, new_sums = learners.train(
        learners.transfer_renewed(run, pool, KEY), pool, learners.reward_mix({"fear": 1.0}), 3
    )
    assert bits(after.learner.blend_state.heads) == bits(heads)
    assert bits(after.learner.agent.train_state.net) != bits(run.learner.agent.train_state.net)
    assert new_sums.success.shape == (2, 3) and new_sums.finite.all()


def test_one_program_serves_all_mixes_and_each_mix_trains_another_agent(learners, trained, worlds):
    pool, agents = pool_worlds(worlds, [1]), []
    entered = learners.transfer_renewed(trained[0], pool, KEY)
    for mix in (
        learners.reward_mix(),
        learners.reward_mix({"fear": 1.0}),
        learners.reward_mix({"fear": 1.0}, sham=True),
        learners.reward_mix({"constant": 0.01}),
        learners.reward_mix(task_weight=1.0),
    ):
        after, _ = learners.train(entered, pool, mix, 1)
        agents.append(bits(after.learner.agent))
    assert len({tuple(agent.values()) for agent in agents}) == len(agents)
    assert sum(("heads_learn", False) in signature for signature in learners._programs) == 1
    unweighted, _ = learners.train(entered, pool, learners.reward_mix({"constant": 0.0}), 1)
    assert bits(unweighted.learner.agent) == agents[0]


def test_training_from_an_older_state_restores_the_environments(learners, trained, worlds):
    home, mix = pool_worlds(worlds, [0]), learners.reward_mix(task_weight=1.0)
    whole, sums = learners.train(trained[0], home, mix, 2)
    learners.transfer(trained[0], pool_worlds(worlds, [1]), KEY)  # moves the environments
    half, first = learners.train(trained[0], home, mix, 1)
    resumed, second = learners.train(half, home, mix, 1)
    assert bits(resumed) == bits(whole)
    for all_sums, *parts in zip(sums, first, second, strict=True):
        np.testing.assert_array_equal(all_sums, np.concatenate(parts, 1))


def test_a_stop_is_checked_at_every_step_and_keeps_older_states(learners, trained, worlds):
    home, mix, calls = pool_worlds(worlds, [0]), learners.reward_mix(task_weight=1.0), []

    def stopped():
        calls.append(None)
        return len(calls) == 13

    with pytest.raises(Interrupted):
        learners.train(trained[0], home, mix, 2, stopped=stopped)
    assert len(calls) == 13
    with pytest.raises(Interrupted):
        learners.score(trained[0].learner.agent, worlds, KEY, lambda: True)
    first, _ = learners.train(trained[0], home, mix, 1)
    second, _ = learners.train(trained[0], home, mix, 1)
    assert bits(first) == bits(second)


def test_scores_equal_those_of_the_host_backend(learners, trained, suite, worlds):
    agents = trained[0].learner.agent
    scores = learners.score(agents, worlds, KEY)
    run_config = small_study.replace(
        small_study.CONFIG, agent=AGENT, num_envs=2, episodes=SIZES.episodes
    )
    trainer = HostBackend(suite, Arm("none", Blend()), run_config)
    draw = f"{learners._seed(KEY) << 1:08x}" + "0" * 56  # gives the same seed of episodes
    try:
        run = SimpleNamespace(learner=Learner(agents, ()))
        points = list(trainer.score(run, 0, lambda: False, EvalProtocol(suite, draw)))
    finally:
        trainer.close()
    assert [point.shift for point, _ in points] == ["none", "force", "noise"]
    for i, (_, expected) in enumerate(points):
        for name, score in expected.items():
            np.testing.assert_array_equal(scores[name][:, i], score, err_msg=name)
    other = learners.score(agents, worlds, jax.random.key(6))
    assert (other["return"] != scores["return"]).any()


def test_head_aurocs_equal_those_of_recorded_episodes(learners, trained, worlds):
    learner = trained[0].learner
    aurocs = learners.head_aurocs(learner, worlds, KEY, ("",))
    assert set(aurocs) == {"soon", "end"} and aurocs["soon"].shape == (2, 3)
    defined = aurocs["soon"][~np.isnan(aurocs["soon"])]  # NaN where no episode ends in a fall
    assert ((defined >= 0) & (defined <= 1)).all() and len(defined)
    assert np.isnan(aurocs["end"]).all()  # all labels are the same: every end is a fall
    world = jax.tree.map(lambda leaf: leaf[1, 0], worlds)
    episodes = learners.pools.evaluator.episodes(learner, world, learners._seed(KEY), lambda: False)
    row = jax.tree.map(lambda leaf: leaf[1], (learner, *episodes))
    predicted = predictions(BLEND, row[0].blend_state)
    expected = aurocs_at_point(predicted, *jax.tree.map(jnp.asarray, row[1:]), ("",))
    assert float(expected["soon"]) == pytest.approx(float(aurocs["soon"][1, 1]), abs=1e-5)


def test_training_in_another_world_or_a_sampled_pool_raises(learners, trained, worlds):
    with pytest.raises(ValueError, match="in another world; transfer them first"):
        learners.train(trained[0], pool_worlds(worlds, [1]), learners.reward_mix(), 1)
    with pytest.raises(
        UserError, match="a shift samples several worlds, but a host-stepped environment"
    ):
        learners.init(pool_worlds(worlds, [0, 1]))


def test_time_estimate_and_progress_units(learners, worlds):
    message = learners.time_estimate(pool_worlds(worlds, [0]), updates=10, points=5)
    assert f"{10 * 2 * 2 * 8:,} steps of training" in message
    assert f"at most {5 * 2 * 3 * 40:,} of evaluation" in message and "a second just now" in message
    assert learners.progress_units(12, 46) == (12, 46)
    jitted = JaxLearners(find_suite("CartPole").env, AGENT, BLEND, SIZES)
    assert jitted.time_estimate(None, 10, 5) is None and jitted.progress_units(12, 46) == (3, 1)


def test_close_ends_all_workers_and_init_starts_new_ones(suite, worlds):
    made = make_learners(suite.env, AGENT, BLEND, SIZES)
    run = made.init(pool_worlds(worlds, [0]))
    made.score(run.learner.agent, worlds, KEY)
    pools = made.pools.pool, made.pools.evaluator._pool
    pids = [shard.pid for pool in pools for shard in pool._shards]
    made.with_agent(AGENT).close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    again = made.init(pool_worlds(worlds, [0]))
    assert bits(again) == bits(run)
    made.close()


# --- designs of host environments -----------------------------------------------------------------


def test_every_host_has_a_public_and_a_sealed_shift():
    assert choose_shifts(find_suite("CartPole-v1"), (), ()) == (("force",), ("noise", "flip"))
    assert choose_shifts(find_suite("Acrobot-v1"), (), ()) == (("noise",), ("flip",))
    single = small_study.replace(
        find_suite("Acrobot-v1"), shifts=find_suite("Acrobot-v1").shifts[:1]
    )
    with pytest.raises(UserError, match="needs shifts of two families.* of sensor alone: declare"):
        choose_shifts(single, (), ())
    with pytest.raises(UserError, match="there are none"):
        choose_shifts(small_study.replace(single, shifts=()), (), ())


def test_design_of_a_host_environment():
    design = make_design(reward_free.Settings(env="CartPole-v1", seeds=3, episodes=10))
    sizes = design.home.sizes
    assert (sizes.num_envs, sizes.num_steps, sizes.episodes) == (8, 128, 10)
    assert design.severities == (MILDER_SEVERITIES, 1.0) and isinstance(design.home, HostLearners)
    assert all(away.pools is design.home.pools for away in design.away.values())
    assert "innate" not in [arm.name for arm in design.arms] and design.suite.env.horizon == 500
    smoke = make_design(reward_free.Settings(env="MiniGrid-DistShift1-v0", seeds=3, smoke=True))
    assert smoke.severities == (1.0,)  # a layout has no half severity
    assert smoke.suite.env.horizon == suite_lookup.SMOKE_HORIZON and smoke.dev == ("DistShift2",)


def test_only_the_default_heads_leave_out_innate():
    drive, cartpole = find_suite("Drive"), find_suite("CartPole")
    assert available_heads(drive, HEADS) == HEADS
    assert available_heads(cartpole, HEADS) == HEADS[:-1]
    assert available_heads(cartpole, ("fear", "innate")) == ("fear", "innate")  # raises later
    assert reward_free.Settings.heads == HEADS


def test_default_stream_of_a_host_environment(monkeypatch):
    suite, _, (*_, sizes, stream) = continual.design(continual.Settings(env="CartPole-v1"))
    assert stream.names == ("home", "force", "length", "mass") and stream.stages == (1, 2, 3, 1)
    assert (sizes.evals, sizes.learners.num_envs) == (1, 8)
    few = small_study.replace(suite, shifts=suite.shifts[:1])
    monkeypatch.setattr(suite_lookup, "find_suite", lambda env: few)
    with pytest.raises(UserError, match="needs two shifts, and the suite has force"):
        continual.design(continual.Settings(env="CartPole-v1"))


def test_check_env_names_near_ids_and_missing_packages():
    for env in ("Drive", "gymnax:CartPole-v1", "CartPole-v1", "MiniGrid-DistShift1-v0"):
        check_env(env)
    for env, message in (
        ("Drvie", "did you mean Drive"),
        ("nothing:Here-v0", "nothing is missing"),
    ):
        with pytest.raises(UserError, match=message):
            check_env(env)
    assert shortened(find_suite("CartPole")).env.horizon == find_suite("CartPole").env.horizon
