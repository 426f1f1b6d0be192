"""Learners of a host-stepped environment do as those of jitted worlds, and close what they open."""

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
from runs.cli.interrupt import Interrupted
from runs.engine.arms import Arm
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.host_backend import HostBackend
from runs.engine.specialists import pool_worlds
from runs.engine.train import Learner
from runs.errors import UserError
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
def many(suite):
    found = make_learners(suite.env, AGENT, BLEND, SIZES)
    yield found
    found.close()


@pytest.fixture(scope="module")
def lived(many, worlds):
    """Two updates at home, heads included."""
    with jax.debug_key_reuse(False):
        run = many.start(pool_worlds(worlds, [0]))
        return many.live(run, pool_worlds(worlds, [0]), many.terms(pay=1.0), 2, heads_learn=True)


def test_one_place_says_who_learns(many):
    assert isinstance(many, HostLearners) and isinstance(many, JaxLearners)
    ours = find_suite("CartPole")
    assert type(make_learners(ours.env, AGENT, BLEND, SIZES)) is JaxLearners
    other = many.other(small_study.replace(AGENT, lr=1e-3))
    assert other.agent.lr == 1e-3 and other.places is many.places


def test_a_new_world_takes_the_policy_and_a_new_critic_and_optimiser(many, lived, worlds):
    run, _ = lived
    there = pool_worlds(worlds, [1])
    new = many.enter(run, there, KEY)
    kept = many.enter(run, there, KEY, critic_kept=True)
    old, fresh = run.learner.agent.trained, new.learner.agent.trained
    assert bits(fresh.net.actor) == bits(old.net.actor)
    assert bits(fresh.net.critic) != bits(old.net.critic)
    assert bits(kept.learner.agent.trained.net) == bits(old.net)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(fresh.opt_state))
    assert any(np.asarray(x).any() for x in jax.tree.leaves(old.opt_state))
    assert bits(new.learner.agent.moments) == bits(run.learner.agent.moments)
    assert bits(new.learner.blend_state.heads) == bits(run.learner.blend_state.heads)
    assert float(new.world.params["force"]) == pytest.approx(1.0)
    assert float(run.world.params["force"]) == pytest.approx(10.0)
    moved = many.move(run, there, KEY)
    assert (
        bits(moved.learner) == bits(run.learner)
        and not np.asarray(moved.episode_stats.length).any()
    )
    np.testing.assert_array_equal(moved.pool["obs"], new.pool["obs"])  # a key is a life
    other = many.move(run, there, jax.random.key(6))
    assert (other.pool["obs"] != moved.pool["obs"]).any()


def test_heads_are_frozen_unless_they_learn(many, lived, worlds):
    run, sums = lived
    heads = run.learner.blend_state.heads
    count = heads["fear"].opt_state[1][0].count
    assert np.asarray(count).tolist() == [2 * EPOCHS * PARTS] * 2  # two updates, two learners
    assert sums.episodes.shape == (2, 2) and sums.finite.all() and sums.episodes.any()
    np.testing.assert_array_equal(sums.harm, sums.episodes)  # a fall is all that ends so soon
    np.testing.assert_array_equal(sums.total > 0, sums.episodes > 0)
    there = pool_worlds(worlds, [1])
    on, told = many.live(many.enter(run, there, KEY), there, many.terms({"fear": 1.0}), 3)
    assert bits(on.learner.blend_state.heads) == bits(heads)
    assert bits(on.learner.agent.trained.net) != bits(run.learner.agent.trained.net)
    assert told.success.shape == (2, 3) and told.finite.all()


def test_what_is_paid_is_what_they_learn_and_one_program_serves(many, lived, worlds):
    there, agents = pool_worlds(worlds, [1]), []
    entered = many.enter(lived[0], there, KEY)
    for terms in (
        many.terms(),
        many.terms({"fear": 1.0}),
        many.terms({"fear": 1.0}, sham=True),
        many.terms({"constant": 0.01}),
        many.terms(pay=1.0),
    ):
        after, _ = many.live(entered, there, terms, 1)
        agents.append(bits(after.learner.agent))
    assert len({tuple(one.values()) for one in agents}) == len(agents)
    assert sum(("heads_learn", False) in name for name in many._programs) == 1
    free, _ = many.live(entered, there, many.terms({"constant": 0.0}), 1)
    assert bits(free.learner.agent) == agents[0]


def test_whoever_goes_on_from_something_older_is_brought_back_there(many, lived, worlds):
    home, paid = pool_worlds(worlds, [0]), many.terms(pay=1.0)
    whole, sums = many.live(lived[0], home, paid, 2)
    many.move(lived[0], pool_worlds(worlds, [1]), KEY)  # the environments go elsewhere
    half, first = many.live(lived[0], home, paid, 1)
    again, second = many.live(half, home, paid, 1)
    assert bits(again) == bits(whole)
    for one, *parts in zip(sums, first, second, strict=True):
        np.testing.assert_array_equal(one, np.concatenate(parts, 1))


def test_a_stop_is_heard_at_every_step_and_loses_nothing_older(many, lived, worlds):
    home, paid, asks = pool_worlds(worlds, [0]), many.terms(pay=1.0), []

    def stopped():
        asks.append(None)
        return len(asks) == 13

    with pytest.raises(Interrupted):
        many.live(lived[0], home, paid, 2, stopped=stopped)
    assert len(asks) == 13
    with pytest.raises(Interrupted):
        many.score(lived[0].learner.agent, worlds, KEY, lambda: True)
    one, _ = many.live(lived[0], home, paid, 1)
    other, _ = many.live(lived[0], home, paid, 1)
    assert bits(one) == bits(other)


def test_scores_are_those_of_a_comparison(many, lived, suite, worlds):
    agents = lived[0].learner.agent
    scores = many.score(agents, worlds, KEY)
    run_config = small_study.replace(
        small_study.CONFIG, agent=AGENT, num_envs=2, episodes=SIZES.episodes
    )
    trainer = HostBackend(suite, Arm("none", Blend()), run_config)
    draw = f"{many._seed(KEY) << 1:08x}" + "0" * 56  # by whose seed episodes are drawn
    try:
        run = SimpleNamespace(learner=Learner(agents, ()))
        points = list(trainer.score(run, 0, lambda: False, EvalProtocol(suite, draw)))
    finally:
        trainer.close()
    assert [point.shift for point, _ in points] == ["none", "force", "noise"]
    for i, (_, theirs) in enumerate(points):
        for name, score in theirs.items():
            np.testing.assert_array_equal(scores[name][:, i], score, err_msg=name)
    other = many.score(agents, worlds, jax.random.key(6))
    assert (other["return"] != scores["return"]).any()


def test_what_heads_know_is_asked_of_recorded_episodes(many, lived, worlds):
    learner = lived[0].learner
    told = many.known(learner, worlds, KEY, ("",))
    assert set(told) == {"soon", "end"} and told["soon"].shape == (2, 3)
    there = told["soon"][~np.isnan(told["soon"])]  # some never fall within what is scored
    assert ((there >= 0) & (there <= 1)).all() and len(there)
    assert np.isnan(told["end"]).all()  # every end is a fall: there is nothing to tell apart
    world = jax.tree.map(lambda leaf: leaf[1, 0], worlds)
    lived_through = many.places.stage.episodes(learner, world, many._seed(KEY), lambda: False)
    one = jax.tree.map(lambda leaf: leaf[1], (learner, *lived_through))
    said = predictions(BLEND, one[0].blend_state)
    again = aurocs_at_point(said, *jax.tree.map(jnp.asarray, one[1:]), ("",))
    assert float(again["soon"]) == pytest.approx(float(told["soon"][1, 1]), abs=1e-5)


def test_learners_stay_in_one_world_at_a_time(many, lived, worlds):
    with pytest.raises(ValueError, match="in another world; move them first"):
        many.live(lived[0], pool_worlds(worlds, [1]), many.terms(), 1)
    with pytest.raises(UserError, match="a shift draws its worlds, and a host lives in one"):
        many.start(pool_worlds(worlds, [0, 1]))


def test_it_is_said_what_it_takes(many, worlds):
    line = many.cost(pool_worlds(worlds, [0]), updates=10, points=5)
    assert f"{10 * 2 * 2 * 8:,} steps to learn from" in line
    assert f"at most {5 * 2 * 3 * 40:,} to be scored by" in line and "a second just now" in line
    assert many.worth(12, 46) == (12, 46)
    ours = JaxLearners(find_suite("CartPole").env, AGENT, BLEND, SIZES)
    assert ours.cost(None, 10, 5) is None and ours.worth(12, 46) == (3, 1)


def test_no_worker_outlives_them_and_others_can_be_had(suite, worlds):
    found = make_learners(suite.env, AGENT, BLEND, SIZES)
    run = found.start(pool_worlds(worlds, [0]))
    found.score(run.learner.agent, worlds, KEY)
    pools = found.places.pool, found.places.stage._pool
    pids = [shard.pid for pool in pools for shard in pool._shards]
    found.other(AGENT).close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    again = found.start(pool_worlds(worlds, [0]))
    assert bits(again) == bits(run)
    found.close()


# --- what a study asks for there ------------------------------------------------------------------


def test_there_is_a_public_and_a_sealed_shift_of_every_host():
    assert choose_shifts(find_suite("CartPole-v1"), (), ()) == (("force",), ("noise", "flip"))
    assert choose_shifts(find_suite("Acrobot-v1"), (), ()) == (("noise",), ("flip",))
    one = small_study.replace(find_suite("Acrobot-v1"), shifts=find_suite("Acrobot-v1").shifts[:1])
    with pytest.raises(UserError, match="needs shifts of two families.* of sensor alone: declare"):
        choose_shifts(one, (), ())
    with pytest.raises(UserError, match="there are none"):
        choose_shifts(small_study.replace(one, shifts=()), (), ())


def test_a_study_of_a_host_has_its_sizes():
    what = make_design(reward_free.Settings(env="CartPole-v1", seeds=3, episodes=10))
    sizes = what.home.sizes
    assert (sizes.num_envs, sizes.num_steps, sizes.episodes) == (8, 128, 10)
    assert what.severities == (MILDER_SEVERITIES, 1.0) and isinstance(what.home, HostLearners)
    assert all(there.places is what.home.places for there in what.away.values())
    assert "innate" not in [arm.name for arm in what.arms] and what.suite.env.horizon == 500
    brief = make_design(reward_free.Settings(env="MiniGrid-DistShift1-v0", seeds=3, smoke=True))
    assert brief.severities == (1.0,)  # half of the way to another layout is none
    assert brief.suite.env.horizon == suite_lookup.SHORT and brief.dev == ("DistShift2",)


def test_only_the_usual_heads_leave_out_what_there_is_not():
    drive, cartpole = find_suite("Drive"), find_suite("CartPole")
    assert available_heads(drive, HEADS) == HEADS
    assert available_heads(cartpole, HEADS) == HEADS[:-1]
    assert available_heads(cartpole, ("fear", "innate")) == ("fear", "innate")  # refused by name
    assert reward_free.Settings.heads == HEADS


def test_a_stream_is_of_the_hosts_own_shifts(monkeypatch):
    suite, _, (*_, run_config, ground) = continual.design(continual.Settings(env="CartPole-v1"))
    assert ground.names == ("home", "force", "length", "mass") and ground.stages == (1, 2, 3, 1)
    assert (run_config.looks, run_config.sizes.num_envs) == (1, 8)
    few = small_study.replace(suite, shifts=suite.shifts[:1])
    monkeypatch.setattr(suite_lookup, "find_suite", lambda env: few)
    with pytest.raises(UserError, match="needs two shifts to go between, and there is force"):
        continual.design(continual.Settings(env="CartPole-v1"))


def test_an_environment_is_known_before_jax_is_imported():
    for env in ("Drive", "gymnax:CartPole-v1", "CartPole-v1", "MiniGrid-DistShift1-v0"):
        check_env(env)
    for env, said in (("Drvie", "did you mean Drive"), ("nothing:Here-v0", "nothing is missing")):
        with pytest.raises(UserError, match=said):
            check_env(env)
    assert shortened(find_suite("CartPole")).env.horizon == find_suite("CartPole").env.horizon
