"""Everybody's jitted environments: equal to what they adapt; their shifts keep the contract.

What needs a package of the extra `jaxenvs` is skipped without it; the rest runs on a stand-in.
"""

import sys
from dataclasses import replace
from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
from affect import Blend
from agents.ppo import PPO
from envs.adapters.base import check_id
from envs.adapters.craftax import Craftax
from envs.adapters.gymnax import WORST, Gymnax
from envs.adapters.navix import Navix
from envs.contract import violations
from envs.shift import ramp
from envs.world import World, reset_batch, rollout
from envs.worlds.classic.cartpole import CartPole
from runs.engine.arms import Arm
from runs.engine.jax_backend import JaxBackend
from runs.engine.run_config import RunConfig
from tests.runs import small_study

over_seeds = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
CLASSIC = "craftax:Craftax-Classic-Symbolic-v1"
LAVA, ROOM, DIST = "Navix-LavaGapS5-v0", "Navix-Empty-5x5-v0", "Navix-DistShift1-v0"


@pytest.fixture(scope="module", autouse=True)
def as_they_like_it():
    """Somebody else's code may promote ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


# --- names, and packages that are missing -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_jitted"),
    [
        ("CartPole", True),
        ("gymnax:CartPole-v1", True),
        ("navix:anything", True),
        ("craftax:", True),
        ("gymnax", False),
        ("CartPole-v1", False),
        ("ale_py:ALE/Pong-v5", False),
    ],
)
def test_jitted_worlds_are_ours_and_those_behind_a_prefix(name, is_jitted):
    assert envs.jitted(name) == is_jitted


@pytest.mark.parametrize("name", ["gymnax:CartPole-v1", f"navix:{ROOM}", CLASSIC])
def test_a_missing_package_is_told_in_one_line_with_its_remedy(name, monkeypatch):
    package = name.partition(":")[0]
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package} is missing: .*'\.\[jaxenvs\]'") as told:
        envs.load_suite(name)
    assert "\n" not in str(told.value)


def test_an_unknown_prefix_is_no_suite():
    with pytest.raises(ValueError, match="no suite 'gymnix:CartPole-v1'"):
        envs.load_suite("gymnix:CartPole-v1")


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ValueError, match="craftax has no environment 'Leap-v1'; did you mean Le"):
        check_id("craftax", "Leap-v1", ("Lead-v1", "Follow-v1"))
    with pytest.raises(ValueError, match="there are Lead-v1, Follow-v1"):
        check_id("craftax", "zzz", ("Lead-v1", "Follow-v1"))


# --- the protocol of gymnax, by a stand-in ----------------------------------------------------


@struct.dataclass
class WalkParams:
    wind: float = 0.0
    wall: int = 2
    max_steps_in_episode: int = 5


@struct.dataclass
class WalkState:
    at: float
    time: int


class Box:
    def __init__(self, low, high, shape):
        self.low, self.high, self.shape = low, high, shape


class Walk:
    """Go from 0 to a wall by steps of at most 1."""

    def observation_space(self, params):
        return Box(np.array([[-4.0, -np.inf]]), 4.0, (1, 2))

    def action_space(self, params):
        return Box(0.0, 1.0, ())

    def reset_env(self, key, params):
        return self._seen(WalkState(0, 0)), WalkState(0, 0)

    def step_env(self, key, state, action, params):
        state = WalkState(state.at + action + params.wind, state.time + 1)
        done = self.is_terminal(state, params)
        return self._seen(state), state, state.at, done, {}

    def is_terminal(self, state, params):
        return (state.at >= params.wall) | (state.time >= params.max_steps_in_episode)

    def _seen(self, state):
        return jnp.array([[state.at, state.time]])


@pytest.fixture
def walk(monkeypatch):
    package, registry = ModuleType("gymnax"), ModuleType("gymnax.registration")
    registry.registered_envs = ["Walk-v0"]
    package.make = lambda name: (Walk(), WalkParams())
    monkeypatch.setitem(sys.modules, "gymnax", package)
    monkeypatch.setitem(sys.modules, "gymnax.registration", registry)
    return envs.load_suite("gymnax:Walk-v0")


def test_shapes_units_and_params_are_read_from_the_environment(walk):
    env = walk.env
    assert (walk.name, env.horizon, env.success(1.0, 1), env.success(0.0, 1)) == (
        "gymnax:Walk-v0",
        5,
        True,
        False,
    )
    assert (env.spec.obs_dim, env.spec.num_actions, env.spec.action_dim) == (2, 0, 1)
    assert env.obs_scale == (4.0, 1.0)
    assert walk.world.params == {"wind": 0.0}
    assert [shift.name for shift in walk.shifts] == ["noise", "dropout", "slip", "delay"]
    assert Gymnax("Walk-v0", horizon=3).horizon == 3
    assert Gymnax("Walk-v0", horizon=9).horizon == 5


def test_an_end_of_the_world_is_told_from_the_end_of_time(walk):
    """In [-1, 1] the action 1 is their 1 and -1 their 0, a step on the spot."""
    for action, terminated in ((1.0, [0, 1]), (-1.0, [0, 0, 0, 0, 0])):
        env_state = walk.env.reset(jax.random.key(0), walk.world)
        ends = []
        for i in range(len(terminated)):
            env_state, seen = walk.env.step(jax.random.key(i), env_state, jnp.array([action]))
            ends.append((int(seen.terminated), int(seen.truncated)))
        last = len(terminated) - 1
        assert [end[0] for end in ends] == terminated
        assert [end[1] for end in ends] == [int(i == 4) for i in range(last + 1)]
        steps = float(last + 1)
        np.testing.assert_array_equal(seen.next_obs, [steps * (action > 0), steps])
        assert seen.reward == steps * (action > 0)


def test_params_are_traced_and_shift(walk):
    wind = ramp("wind", "dynamics", "params.wind", to=1.0)
    assert violations(wind, walk.env, walk.world) == []
    integer = ramp("wall", "dynamics", "params.wall", to=1.0)
    with pytest.raises(ValueError, match="no field 'wall'; it has wind"):
        violations(integer, walk.env, walk.world)


def test_an_unknown_id_of_a_package_names_the_nearest(walk):
    with pytest.raises(ValueError, match="gymnax has no environment 'walk-v1'; did you mean Walk"):
        envs.load_suite("gymnax:walk-v1")


# --- episodes that are begun ahead ------------------------------------------------------------


@pytest.mark.parametrize(("starts", "worlds_met"), [(0, 10), (3, 3)])
def test_resets_are_drawn_from_what_was_begun_ahead(reset_pool_size, worlds_met):
    """Ten steps of each of six environments whose episodes last one step."""
    env = CartPole(horizon=1)
    env.reset_pool_size = reset_pool_size
    world = World(env.default_params)
    begun = reset_batch(jax.random.key(0), env, lambda key: world, 6)
    act = partial(_any, env)
    for key in jax.random.split(jax.random.key(1), 2):
        env_states, seen = rollout(key, env, lambda key: world, act, begun, 11)
        assert seen.truncated.all()
        starting = np.asarray(seen.obs[1:]).reshape(-1, 4)
        assert len(np.unique(starting, axis=0)) == (worlds_met if reset_pool_size else 60)
        for b in range(6):  # the environments do not go through them in step
            assert not reset_pool_size or len(np.unique(starting[b::6], axis=0)) > 1


def _any(env, key, obs):
    return jax.random.randint(key, obs.shape[:-1], 0, env.spec.num_actions)


# --- parity -----------------------------------------------------------------------------------


def parity(env, reset, step, observe, steps):
    """Acts at random in both, with the same keys -> how often (terminated, truncated).

    Args:
        env: ours.
        reset: key -> (their obs, their state).
        step: (key, state, action) -> (obs, state, reward, done).
        observe: their observation as ours.
        steps: to take.
    """
    world = World(env.get_default_params())
    ours = jax.jit(env.reset), jax.jit(env.step)
    theirs = jax.jit(reset), jax.jit(step)
    key, ends, fresh, state, env_state = jax.random.key(0), [], True, None, None
    for i in range(steps):
        k_reset, k_act, k_step = jax.random.split(jax.random.fold_in(key, i), 3)
        if fresh:
            env_state = ours[0](k_reset, world)
            obs, state = theirs[0](raw(k_reset, 3, 0))
            close(env_state.obs, observe(obs))
        action = jax.random.randint(k_act, (), 0, env.spec.num_actions)
        env_state, seen = ours[1](k_step, env_state, action)
        obs, state, reward, done = theirs[1](raw(k_step, 7, 1), state, action)
        close(seen.next_obs, observe(obs))
        close(seen.reward, reward)
        fresh = bool(seen.terminated | seen.truncated)
        assert fresh == bool(done)
        ends.append((bool(seen.terminated), bool(seen.truncated)))
    return np.sum(ends, axis=0)


def close(ours, theirs):
    """Equal up to what XLA rounds otherwise where a param is known while compiling."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def raw(key, count, which):
    """The key data of one of those that `Env.reset` and `Env.step` split their key into."""
    return jax.random.key_data(jax.random.split(key, count)[which])


def gymnax_parity(env, steps):
    params = env.full

    def step(key, state, action):
        return env.theirs.step_env(key, state, action, params)[:4]

    return parity(env, lambda key: env.theirs.reset_env(key, params), step, np.ravel, steps)


@pytest.mark.parametrize(
    ("name", "terminates", "truncates"),
    [
        ("CartPole-v1", True, False),
        ("MountainCar-v0", False, True),
        pytest.param("Breakout-MinAtar", True, False, marks=pytest.mark.slow),
    ],
)
def test_gymnax_is_stepped_as_it_is(name, terminates, truncates):
    pytest.importorskip("gymnax")
    ends = gymnax_parity(Gymnax(name), 300)
    assert (ends > 0).tolist() == [terminates, truncates]


def test_gymnax_actions_in_the_unit_box_are_those_of_its_action_space():
    pytest.importorskip("gymnax")
    env = Gymnax("Pendulum-v1")
    for action in (-1.0, -0.25, 1.0, 3.0):
        assert env._told(jnp.array([action])) == 2 * min(action, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ends"), [(ROOM, [True, True]), (LAVA, [True, True])])
def test_navix_is_stepped_as_it_is(name, ends):
    navix = pytest.importorskip("navix")
    theirs, most = navix.make(name), np.array([10, 5, 3], np.float32)

    def reset(key):
        begun = theirs.reset(key)
        return begun.observation, begun

    def step(key, begun, action):
        now = theirs.step(begun, action)
        return now.observation, now, now.reward, now.is_done()

    found = parity(Navix(name), reset, step, lambda obs: np.ravel(obs / most), 600)
    assert (found > 0).tolist() == ends


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ends"), [(LAVA, True), (DIST, False)])
def test_lava_is_harm_once_whether_or_not_it_ends_the_episode(name, ends):
    pytest.importorskip("navix")
    env, num_envs = Navix(name), 64
    world = World(env.get_default_params())
    env_states = reset_batch(jax.random.key(0), env, lambda key: world, num_envs)
    living = partial(rollout, env=env, worlds=lambda key: world, num_steps=env.horizon)
    _, seen = jax.jit(partial(living, act=partial(_any, env)))(
        jax.random.key(1), env_states=env_states
    )
    hurt, terminated = np.asarray(seen.info["harm"]) > 0, np.asarray(seen.terminated)
    assert hurt.any()
    assert (terminated[hurt] == ends).all()
    assert ends or hurt.sum(axis=0).max() == 1  # the first episode of each lasts for all steps


@pytest.mark.slow
def test_craftax_is_stepped_as_it_is():
    pytest.importorskip("craftax")
    env = Craftax("Craftax-Classic-Symbolic-v1")
    terminated, truncated = gymnax_parity(env, 400)
    assert terminated > 0
    assert truncated == 0


# --- the contract -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(f"gymnax:{name}" for name in WORST),
        "gymnax:Breakout-MinAtar",
        f"navix:{ROOM}",
        f"navix:{LAVA}",
        f"navix:{DIST}",
        "navix:Navix-DoorKey-5x5-v0",
        "navix:Navix-Dynamic-Obstacles-5x5-v0",
        "navix:Navix-SimpleCrossingS9N1-v0",
        CLASSIC,
        "craftax:Craftax-Symbolic-v1",
    ],
)
def test_every_shift_keeps_the_contract(name):
    pytest.importorskip(name.partition(":")[0])
    suite = envs.load_suite(name)
    broken = [violations(shift, suite.env, suite.world) for shift in suite.shifts]
    assert sum(broken, []) == []


# --- training ---------------------------------------------------------------------------------


def trained(suite, steps, num_envs=8, seeds=2, episodes=4):
    """The scores of plain PPO at every point, {shift@severity: {score: [S]}}."""
    num_steps = 128
    updates = steps // (num_envs * num_steps)
    agent = PPO(anneal=updates, lr=1e-3, normalise=True)
    run_config = RunConfig(agent, seeds, seeds, 1, updates, num_envs, num_steps, episodes)
    trainer = JaxBackend(suite, Arm("none", Blend()), run_config)
    run, _, sound = trainer.chunk(trainer.start(), lambda: False)
    assert sound.all()
    scores = {
        f"{point.shift}@{point.severity}": score
        for point, score in trainer.score(run, 0, lambda: False)
    }
    assert len(scores) == len(suite.points())
    for name in ("return", "length", "success", "terminated", "truncated"):
        assert all(np.isfinite(score[name]).all() for score in scores.values())
    return scores


@pytest.mark.slow
def test_cartpole_of_gymnax_is_learned_and_scored_on_all_its_shifts():
    """A random policy lasts about 22 steps; these two seeds lasted 418 and 143."""
    pytest.importorskip("gymnax")
    scores = trained(envs.load_suite("gymnax:CartPole-v1"), 100_000, episodes=16)
    assert (scores["none@0.0"]["return"] > 100).all()
    assert (scores["force@1.0"]["return"] < scores["none@0.0"]["return"]).all()


@pytest.mark.slow
def test_a_room_of_navix_is_learned_and_scored_on_all_its_shifts():
    pytest.importorskip("navix")
    scores = trained(envs.load_suite(f"navix:{ROOM}"), 100_000, episodes=16)
    assert (scores["none@0.0"]["success"] > 0.9).all()
    assert (scores["elsewhere@1.0"]["success"] < 0.5).all()


@pytest.mark.slow
def test_craftax_is_trained_and_scored_on_all_its_shifts():
    pytest.importorskip("craftax")
    suite = envs.load_suite(CLASSIC)
    suite = replace(suite, env=Craftax("Craftax-Classic-Symbolic-v1", horizon=200))
    scores = trained(suite, 8_192)
    assert (scores["none@0.0"]["length"] > 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"navix:{LAVA}", CLASSIC])
def test_pictures_are_drawn_by_their_own_sprites(name):
    pytest.importorskip(name.partition(":")[0])
    suite = envs.load_suite(name)
    env_state = suite.env.reset(jax.random.key(0), suite.world)
    canvas = suite.env.render_init(suite.world.params)
    _, picture = suite.env.render_image(env_state.state, canvas, suite.world.params)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[-1] == 3
    assert len(np.unique(picture)) > 4
