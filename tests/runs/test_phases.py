"""Phases: reward mixes, what is carried over and what begins anew, runs on both backends."""

import logging
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Blend, Constant, ConstantPotential, Curiosity, Fear, Innate, Spec, Transition
from agents.body import Body
from agents.ppo import PPO
from envs import load_suite
from runs.engine.backend import make_backend
from runs.engine.checkpoint import Checkpoints
from runs.engine.config import RunConfig
from runs.engine.control_heads import SignalDifference
from runs.engine.phases import (
    TASK,
    Phase,
    RewardMix,
    Teacher,
    carry_over,
    flat_worlds,
    one_world,
    sample_world,
    signal_weights,
    world_pool,
)
from runs.engine.presets import find_suite
from runs.engine.train import Learner, TrainConfig, init_learner, update
from runs.engine.training_loop import run_phase
from runs.errors import Interrupted, UserError
from tests.runs.small_study import bits, without_key_check
from tests.tiers import slow

unchecked = pytest.fixture(scope="module", autouse=True)(without_key_check)
AGENT = PPO(width=8, epochs=1, minibatches=2, normalise=True)
BLEND = Blend(
    epochs=2,
    fear=(1.0, SignalDifference(Fear, gamma=0.99)),
    constant=(1.0, partial(Constant, value=1.0)),
)


def never_stopped() -> bool:
    return False


# --- reward mixes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorder:
    """Agent whose metrics are what it is trained on."""

    gamma: float = 0.9

    def update(self, state, key, batch, signals):
        """Return reward, signals and discount as metrics."""
        return state, {"reward": batch.reward, "signals": signals, "gamma": self.gamma}


def received(mix: RewardMix) -> dict[str, np.ndarray]:
    """What an agent is trained on: reward 1 and signals 2 t + b and 1, at t < 2 and b < 3."""
    number = jnp.arange(6.0).reshape(2, 3)
    false = jnp.zeros((2, 3), bool)
    obs, action = number[..., None], jnp.zeros((2, 3), int)
    batch = Transition(obs, action, obs, false + 1.0, *[false] * 3, {})
    blend = Blend(
        number=(1.0, partial(Innate, fn=lambda batch: batch.obs[..., 0])),
        one=(1.0, partial(Constant, value=1.0)),
    )
    config = TrainConfig(Recorder(), blend, 3, 2, heads_learn=False)
    blend_state = blend.init(jax.random.key(0), Spec(obs_dim=1, num_actions=2), 3)
    _, metrics = update(config, Learner((), blend_state), None, batch, mix)
    return {name: np.asarray(metric) for name, metric in metrics.items()}


def test_agent_is_trained_on_the_task_reward_and_the_signals_of_the_mix():
    number = np.arange(6.0).reshape(2, 3)
    task = received(TASK)
    np.testing.assert_array_equal(task["reward"], 1)
    np.testing.assert_array_equal(task["signals"], np.stack([number, np.ones((2, 3))], -1))
    assert float(task["gamma"]) == pytest.approx(0.9)
    mix = RewardMix(np.array([[1.0, 0.0, 0.5]]), jnp.array([-2.0, 0.0]), 0.0, 0.5)
    mixed = received(mix)
    np.testing.assert_array_equal(mixed["reward"], [[1, 0, 0.5]] * 2)
    np.testing.assert_array_equal(mixed["signals"][..., 0], -2 * number)
    assert not mixed["signals"][..., 1].any() and float(mixed["gamma"]) == 0.5
    silent = received(RewardMix(0.0, jnp.zeros(2), 0.0))
    assert not silent["reward"].any() and not silent["signals"].any()


def test_yoked_signals_are_those_of_the_next_environment_less_their_mean():
    number = np.arange(6.0).reshape(2, 3)
    yoked = received(RewardMix(1.0, jnp.ones(2), 1.0))["signals"]
    np.testing.assert_allclose(yoked[..., 0], np.roll(number, -1, axis=1) - number.mean())
    np.testing.assert_allclose(yoked[..., 1], 0, atol=1e-6)  # a constant tells nothing


def test_weights_may_be_functions_of_the_update():
    mix = RewardMix(lambda i: 0.5**i, jnp.array([1.0, 2.0]), discount=lambda i: jnp.float32(i))
    at = mix.at(np.arange(2, 4))
    np.testing.assert_array_equal(at.task, [0.25, 0.125])
    np.testing.assert_array_equal(at.signals, [[1.0, 2.0]] * 2)
    np.testing.assert_array_equal(at.discount, [2.0, 3.0])
    assert at.yoked is None and TASK.at(np.arange(3)) == TASK


def test_signal_weights_go_by_name():
    np.testing.assert_allclose(signal_weights(BLEND, {"constant": -0.01}), [0, -0.01])
    message = "joy is no head of this blend: its heads are fear, constant"
    with pytest.raises(ValueError, match=message):
        signal_weights(BLEND, {"joy": 1.0})


# --- worlds -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cartpoles():
    """Worlds [3, 2] of CartPole: home, and two shifts at full severity."""
    return small_suite("CartPole").worlds(jax.random.key(1), 2)


def small_suite(name: str):
    """A suite with two shifts at full severity."""
    suite = find_suite(name)
    shifts = tuple(shift for shift in suite.shifts if shift.name in ("force", "flip"))
    return replace(suite, shifts=shifts, severities=(1.0,))


def test_pool_draws_each_of_its_worlds(cartpoles):
    pool = flat_worlds(cartpoles, [0, 2])
    np.testing.assert_array_equal(pool.params.force[:2], cartpoles.params.force[0])
    np.testing.assert_array_equal(pool.channel.flip[2:], cartpoles.channel.flip[2])
    keys = jax.random.split(jax.random.key(0), 64)
    flips = {float(sample_world(pool, key).channel.flip) for key in keys}
    assert flips == set(np.asarray(pool.channel.flip).tolist()) and len(flips) == 2
    world = jax.tree.map(lambda leaf: leaf[0], pool)
    assert one_world(world)(keys[0]) is world


# --- what a phase carries over ----------------------------------------------------------------


@cache
def learner_of(seed: int, blend: Blend = BLEND) -> Any:
    """Untrained learner of CartPole."""
    spec = load_suite("CartPole").env.spec
    return init_learner(jax.random.key(seed), TrainConfig(AGENT, blend, 2, 8), spec)


@pytest.mark.parametrize(
    ("part", "renewed"),
    [
        ("optimiser", ()),
        ("policy", (".actor",)),
        ("critic", (".critic",)),
        ("trunk", (".actor.trunk", ".critic.trunk")),
        ("output", (".actor.out", ".critic.out")),
    ],
)
def test_renewed_part_is_that_of_the_untrained_learner_and_the_rest_is_kept(part, renewed):
    old, untrained = learner_of(0), learner_of(1)
    opt_state = jax.tree.map(lambda leaf: leaf + 1, old.agent.train_state.opt_state)
    old = old._replace(agent=with_optimiser(old.agent, opt_state))
    new = carry_over(old, untrained, (part,))
    before, after, fresh = (bits(x.agent.train_state.net) for x in (old, new, untrained))
    for path, value in after.items():
        assert value == (fresh if path.startswith(renewed) else before)[path], path
    assert bits(new.agent.train_state.opt_state) == bits(untrained.agent.train_state.opt_state)
    assert bits(new.blend_state) == bits(old.blend_state)
    assert bits(carry_over(old, untrained)) == bits(old)


def with_optimiser(agent: Any, opt_state: Any) -> Any:
    return agent._replace(train_state=agent.train_state._replace(opt_state=opt_state))


def test_agent_and_heads_begin_anew_as_a_whole():
    old, untrained = learner_of(0), learner_of(1)
    agent, heads = carry_over(old, untrained, ("agent",)), carry_over(old, untrained, ("heads",))
    assert (
        bits(agent.agent)
        == bits(untrained.agent)
        == bits(heads._replace(agent=untrained.agent).agent)
    )
    assert bits(agent.blend_state) == bits(old.blend_state)
    assert bits(heads.agent) == bits(old.agent)
    assert bits(heads.blend_state) == bits(untrained.blend_state)


def test_heads_of_a_common_name_are_kept_and_others_begin_untrained():
    other = Blend(curiosity=(1.0, Curiosity), fear=(1.0, SignalDifference(Fear, gamma=0.99)))
    old, untrained = learner_of(0), learner_of(1, other)
    heads = carry_over(old, untrained).blend_state
    assert bits(heads.heads["fear"]) == bits(old.blend_state.heads["fear"])
    assert bits(heads.heads["curiosity"]) == bits(untrained.blend_state.heads["curiosity"])
    assert set(heads.heads) == set(heads.carry) == {"fear", "curiosity"} and len(heads.weights) == 2


def test_hand_over_gets_the_renewed_and_the_untrained_learner():
    old, untrained = learner_of(0), learner_of(1)

    def hand_over(learner, fresh):
        assert bits(learner.blend_state) == bits(fresh.blend_state)  # after `renew`
        return learner._replace(agent="handed over")

    assert carry_over(old, untrained, ("heads",), hand_over).agent == "handed over"


def test_unknown_part_is_refused():
    with pytest.raises(ValueError, match="renew: body is none of agent, optimiser, heads, policy"):
        Phase(one_world(None), 1, 1, AGENT, BLEND, renew=("body",))


# --- runs of a phase --------------------------------------------------------------------------


class Count(NamedTuple):
    """Number of chunks that each seed was trained, [S]."""

    chunks: np.ndarray

    def where(self, alive, old):
        """These counts for the seeds that are alive, the old ones for the others."""
        return Count(np.where(alive, self.chunks, old.chunks))


class CountingBackend:
    """Backend of three seeds; the second has a non-finite head in update 1 of chunk 1."""

    run_config = RunConfig(AGENT, 3, 3, 4, 2, 1, 1, 1)

    def train(self, state, phase, first, stopped):
        """Count a chunk."""
        finite = np.ones((3, phase.updates, 3), bool)
        finite[1, 1, 1] = first != phase.updates
        return Count(state.chunks + 1), {"return": np.full(3, first)}, finite


def test_a_seed_with_a_non_finite_number_keeps_its_state_and_the_others_go_on():
    phase, chunks = Phase(one_world(None), 4, 2, AGENT, BLEND), []
    trained = run_phase(
        CountingBackend(), phase, lambda: Count(np.zeros(3)), never_stopped, on_chunk=chunks.append
    )
    np.testing.assert_array_equal(trained.state.chunks, [4, 1, 4])  # though finite later on
    np.testing.assert_array_equal(trained.alive, [True, False, True])
    assert [chunk.failing for chunk in chunks] == [{}, {1: ("a head", 1)}, {}, {}]
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3]
    np.testing.assert_array_equal([chunk.metrics["return"][0] for chunk in chunks], [0, 2, 4, 6])


# --- both backends ----------------------------------------------------------------------------


class Setting(NamedTuple):
    """A backend, the worlds [P, draws] of home and two shifts, and the end of a phase at home."""

    backend: Any
    worlds: Any
    home: Phase
    trained: Any


def make_phase(worlds: Any, point: int, mix: RewardMix = TASK, **options: Any) -> Phase:
    """Phase of two chunks of one update in the worlds of a point, as those of the studies."""
    pool = world_pool(flat_worlds(worlds, [point]))
    options = {"heads": "frozen", "renew": ("critic", "optimiser")} | options
    return Phase(pool, 2, 1, AGENT, BLEND, mix, **options)


ENVS = ["CartPole", pytest.param("CartPole-v1", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=ENVS)
def setting(request):
    """Two learners trained at home, in jitted worlds and in worlds stepped on the host."""
    suite = small_suite(request.param)
    config = RunConfig(AGENT, 2, 2, 2, 1, num_envs=2, num_steps=8, episodes=2, optimise=False)
    backend = make_backend(suite.env, config)
    worlds = suite.worlds(jax.random.key(1), backend.draws)
    home = make_phase(worlds, 0, RewardMix(1.0, jnp.zeros(2), 0.0), heads="learn")
    with jax.debug_key_reuse(False):
        start = partial(backend.init, home)
        trained = run_phase(backend, home, start, never_stopped).state
    yield Setting(backend, worlds, home, trained)
    backend.close()


def test_learner_enters_another_world_with_its_policy_and_heads_bit_for_bit(setting):
    backend, worlds, _, trained = setting
    keys = jax.random.split(jax.random.key(5), 2)
    phase = make_phase(worlds, 1)
    state = backend.enter(trained.learner, phase, keys)
    old, new = trained.learner.agent.train_state, state.learner.agent.train_state
    assert bits(new.net.actor) == bits(old.net.actor)
    assert bits(new.net.critic) != bits(old.net.critic)
    assert any(np.asarray(x).any() for x in jax.tree.leaves(old.opt_state))
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(new.opt_state))
    assert bits(state.learner.agent.moments) == bits(trained.learner.agent.moments)
    assert bits(state.learner.blend_state.heads) == bits(trained.learner.blend_state.heads)
    assert not np.asarray(state.episode_stats.length).any()
    world = state.world if hasattr(state, "world") else state.env_states.world
    forces = [np.asarray(dict_of(w.params)["force"]) for w in (world, phase.worlds.args[0])]
    assert np.isin(forces[0], forces[1]).all() and not np.isin(forces[0], 10.0).any()
    assert bits(backend.enter(trained.learner, phase, keys)) == bits(state)
    other = backend.enter(trained.learner, phase, jax.random.split(jax.random.key(6), 2))
    assert bits(observations(other)) != bits(observations(state))


def dict_of(params: Any) -> dict:
    return params if isinstance(params, dict) else params._asdict()


def observations(state: Any) -> Any:
    """Observations that the agent gets first, in a state of either backend."""
    return state.host_obs if hasattr(state, "host_obs") else state.env_states.obs


@pytest.mark.slow
def test_frozen_heads_do_not_learn_and_the_agent_does(setting):
    backend, worlds, _, trained = setting
    blend_state = trained.learner.blend_state
    count = blend_state.heads["fear"].trained.opt_state[1][0].count
    assert np.asarray(count).tolist() == [2 * BLEND.epochs] * 2
    phase = make_phase(worlds, 1, RewardMix(0.0, jnp.ones(2), 0.0))
    after = run_phase(backend, phase, partial(backend.enter, trained.learner, phase), never_stopped)
    assert after.alive.all()
    assert bits(after.state.learner.blend_state.heads) == bits(blend_state.heads)
    assert bits(after.state.learner.agent) != bits(trained.learner.agent)


def test_hand_over_is_applied_on_entering(setting):
    backend, worlds, _, trained = setting
    phase = make_phase(worlds, 1, renew=("agent",))
    renewed = backend.enter(trained.learner, phase)
    phase = replace(phase, renew=(), hand_over=take_untrained_agent)
    assert bits(backend.enter(trained.learner, phase)) == bits(renewed)


def take_untrained_agent(learner, untrained):
    return learner._replace(agent=untrained.agent)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [slow({}), {"actions": jnp.array([[0, 1], [1, 0]])}])
def test_teacher_alone_moves_the_policy_to_its_own(setting, numbers):
    """Also with permuted actions, in the order of each seed."""
    backend, worlds, _, trained = setting
    own = trained.learner.agent
    net = jax.tree.map(lambda leaf: leaf, own.train_state.net)
    net.actor.out = jax.tree.map(jnp.zeros_like, net.actor.out)
    net.actor.out.bias = nnx.Param(3 * jnp.eye(2))  # seed 0 is taught action 0, seed 1 action 1
    state = own._replace(train_state=own.train_state._replace(net=net))
    teacher = Teacher(Body(AGENT, actions=(0, 1)) if numbers else AGENT, state)
    agent = replace(AGENT, lr=0.03)
    mix = RewardMix(0.0, jnp.zeros(2), 0.0, teacher=1.0)
    phase = replace(make_phase(worlds, 0, mix, teacher=teacher), agent=agent, updates=40)
    if numbers:
        agent_in_body = Body(agent, actions=(0, 1))
        phase = replace(phase, agent=agent_in_body, numbers=numbers)
    state = backend.enter(trained.learner, phase)
    obs = jax.random.normal(jax.random.key(0), (2, 64, 4)) / 10
    before, after = (
        np.diag(jax.nn.softmax(jax.vmap(agent.policy)(x.learner.agent, obs)[0]).mean(1))
        for x in (state, backend.train(state, phase, 0, never_stopped)[0])
    )
    assert before.max() < 0.6
    assert after.min() > 0.8  # the teacher's is .95


def test_mixes_share_one_program_and_train_different_agents(setting, caplog):
    backend, worlds, _, trained = setting
    phases = [
        make_phase(worlds, 2, mix)
        for mix in (
            RewardMix(0.0, jnp.zeros(2), 0.0),
            RewardMix(0.0, jnp.array([1.0, 0]), 0.0),
            RewardMix(0.0, jnp.array([1.0, 0]), 1.0),
            RewardMix(0.0, jnp.array([0, 0.01]), 0.0),
            RewardMix(1.0, jnp.zeros(2), 0.0),
        )
    ]
    state = backend.enter(trained.learner, phases[0])
    agents = [backend.train(state, phases[0], 0, never_stopped)[0].learner.agent]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for phase in phases[1:]:
            agents.append(backend.train(state, phase, 0, never_stopped)[0].learner.agent)
    assert not [record for record in caplog.messages if "Compiling jit(mapped)" in record]
    assert len({tuple(bits(agent).values()) for agent in agents}) == len(phases)


@pytest.mark.slow
@pytest.mark.parametrize("env", ENVS)
def test_blends_that_differ_in_numbers_share_one_training_program(env, caplog):
    suite = load_suite(env)
    backend = make_backend(suite.env, RunConfig(AGENT, 2, 2, 1, 1, 4, 16, 4, optimise=False))
    levels = [(1.0, -1.0), (1.0, 2.0), (0.5, 2.0)]
    blends = [Blend(potential=(weight, ConstantPotential(k, 0.99))) for weight, k in levels]
    home = one_world(suite.world)
    phases = [Phase(home, 1, 1, AGENT, blend) for blend in blends]
    states = [backend.init(phase) for phase in phases]
    chunks = [backend.train(states[0], phases[0], 0, never_stopped)]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for state, phase in zip(states[1:], phases[1:], strict=True):
            chunks.append(backend.train(state, phase, 0, never_stopped))
    backend.close()
    assert not [record for record in caplog.messages if "Compiling jit(mapped)" in record]
    signals = [float(metrics["potential/signal"][0]) for _, metrics, _ in chunks]
    assert signals[0] > 0 > signals[2] > signals[1]


@pytest.mark.slow
def test_interrupted_phase_with_a_fading_weight_resumes_bit_for_bit(setting, tmp_path):
    backend, worlds, _, trained = setting
    mix = RewardMix(lambda i: 1.0 - i, jnp.zeros(2), 0.0)
    phase = make_phase(worlds, 1, mix)
    start, chunks = partial(backend.enter, trained.learner, phase), []
    whole = run_phase(backend, phase, start, never_stopped)
    checkpoints = Checkpoints(tmp_path / "phase")
    with pytest.raises(Interrupted):
        run_phase(backend, phase, start, lambda: bool(chunks), checkpoints, on_chunk=chunks.append)
    assert len(chunks) == 1
    if hasattr(backend, "record_batches"):
        backend.enter(trained.learner, make_phase(worlds, 2))  # moves the host's environments
    resumed = run_phase(
        backend, phase, start, never_stopped, checkpoints, chunks.append, chunks.append
    )
    assert chunks[1] == 1 and len(chunks) == 3  # one chunk from the checkpoint, one trained
    assert bits(resumed.state) == bits(whole.state)
    constant = [replace(phase, chunks=1, mix=mix._replace(task=weight)) for weight in (1.0, 0.0)]
    state = start()
    for one_chunk in constant:
        state = run_phase(backend, one_chunk, partial(lambda x: x, state), never_stopped).state
    assert bits(state.learner) == bits(whole.state.learner)


def test_host_environment_refuses_several_worlds_and_seeds_that_differ(setting):
    backend, worlds, home, trained = setting
    if not hasattr(backend, "record_batches"):
        pytest.skip("jitted worlds may be sampled, and differ between seeds")
    pool = world_pool(flat_worlds(worlds, [0, 1]))
    with pytest.raises(UserError, match="a shift samples several worlds, but a host-stepped"):
        backend.init(replace(make_phase(worlds, 0), worlds=pool))
    for data in ({"per_seed": True}, {"numbers": {"lr": np.ones(2)}}):
        with pytest.raises(UserError, match="CartPole-v1: all seeds of a host-stepped"):
            backend.enter(trained.learner, replace(home, **data))
