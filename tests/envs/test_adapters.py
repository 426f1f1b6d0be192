"""Adapters of gymnax, navix and craftax: transitions equal the package's; shifts keep the contract.

Tests that need a package of the extra `jaxenvs` are skipped without it; others use a stand-in.
"""

import sys
from dataclasses import replace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
from agents.ppo import PPO
from envs.adapters.craftax import Craftax
from envs.adapters.gymnax import SHIFT_ENDS, Gymnax
from envs.adapters.navix import Navix
from envs.contract import violations
from envs.shift import ramp
from envs.world import World
from envs.worlds.classic.cartpole import CartPole
from tests.envs.play import play, random_actions, train_and_score
from tests.refusal import refused

CLASSIC = "craftax:Craftax-Classic-Symbolic-v1"
LAVA, ROOM, DIST = "Navix-LavaGapS5-v0", "Navix-Empty-5x5-v0", "Navix-DistShift1-v0"


@pytest.fixture(scope="module", autouse=True)
def less_strict_jax():
    """Allows rank promotion, which the packages rely on, and `vmap` over split keys."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
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
def test_jitted_ids_are_suites_and_ids_with_a_prefix(name, is_jitted):
    assert envs.is_jitted(name) == is_jitted


@pytest.mark.parametrize("name", ["gymnax:CartPole-v1", f"navix:{ROOM}", CLASSIC])
def test_missing_package_raises_with_a_remedy(name, monkeypatch):
    package = name.partition(":")[0]
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with refused(ValueError, match=rf"{package} is missing: .*'\.\[jaxenvs\]'"):
        envs.load_suite(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gymnix:CartPole-v1", "gymnix is missing"),
        ("gymnax:walk-v1", "gymnax has no environment 'walk-v1'; did you mean Walk"),
        ("gymnax:zzz", "there are Walk-v0"),
    ],
)
def test_unknown_prefix_or_id_raises_with_the_nearest(name, message, walk):
    with pytest.raises(ValueError, match=message):
        envs.load_suite(name)


# --- the protocol of gymnax, on a stand-in ----------------------------------------------------


@struct.dataclass
class WalkParams:
    wind: float = 0.0
    wall: int = 2
    max_steps_in_episode: int = 5


@struct.dataclass
class WalkState:
    position: float
    time: int


class Box:
    def __init__(self, low, high, shape):
        self.low, self.high, self.shape = low, high, shape


class Walk:
    """Stand-in for an environment of gymnax: walk from 0 to a wall by steps of at most 1."""

    def observation_space(self, params):
        return Box(np.array([[-4.0, -np.inf]]), 4.0, (1, 2))

    def action_space(self, params):
        return Box(0.0, 1.0, ())

    def reset_env(self, key, params):
        return self._obs(WalkState(0, 0)), WalkState(0, 0)

    def step_env(self, key, state, action, params):
        state = WalkState(state.position + action + params.wind, state.time + 1)
        done = self.is_terminal(state, params)
        return self._obs(state), state, state.position, done, {}

    def is_terminal(self, state, params):
        return (state.position >= params.wall) | (state.time >= params.max_steps_in_episode)

    def _obs(self, state):
        return jnp.array([[state.position, state.time]])


@pytest.fixture
def walk(monkeypatch):
    package, registry = ModuleType("gymnax"), ModuleType("gymnax.registration")
    registry.registered_envs = ["Walk-v0"]
    package.make = lambda name: (Walk(), WalkParams())
    monkeypatch.setitem(sys.modules, "gymnax", package)
    monkeypatch.setitem(sys.modules, "gymnax.registration", registry)
    return envs.load_suite("gymnax:Walk-v0")


def test_spec_scale_and_params_are_read_from_the_package(walk):
    env = walk.env
    assert (walk.name, env.horizon) == ("gymnax:Walk-v0", 5)
    assert env.success(1.0, 1) and not env.success(0.0, 1)
    assert (env.spec.obs_dim, env.spec.num_actions, env.spec.action_dim) == (2, 0, 1)
    assert env.obs_scale == (4.0, 1.0)
    assert walk.world.params == {"wind": 0.0}
    assert [shift.name for shift in walk.shifts] == ["noise", "dropout", "slip", "delay"]
    assert Gymnax("Walk-v0", horizon=3).horizon == 3
    assert Gymnax("Walk-v0", horizon=9).horizon == 5


def test_termination_differs_from_truncation(walk):
    """The action 1 in [-1, 1] is the package's 1, and -1 its 0, a step on the spot."""
    for action, last in ((1.0, (True, False)), (-1.0, (False, True))):
        env_state, ends = walk.env.reset(jax.random.key(0), walk.world), []
        for i in range(2 if action > 0 else 5):
            env_state, transition = walk.env.step(jax.random.key(i), env_state, jnp.array([action]))
            ends.append((bool(transition.terminated), bool(transition.truncated)))
        assert ends == [(False, False)] * i + [last]
        np.testing.assert_array_equal(transition.next_obs, [(i + 1) * (action > 0), i + 1])
        assert transition.reward == (i + 1) * (action > 0)


def test_only_float_params_can_be_shifted(walk):
    wind = ramp("wind", "dynamics", "params.wind", to=1.0)
    assert violations(wind, walk.env, walk.world) == []
    integer = ramp("wall", "dynamics", "params.wall", to=1.0)
    with pytest.raises(ValueError, match="no field 'wall'; it has wind"):
        violations(integer, walk.env, walk.world)


# --- pools of resets --------------------------------------------------------------------------


@pytest.mark.parametrize(("reset_pool_size", "num_starts"), [(0, 10), (3, 3)])
def test_resets_are_drawn_from_the_pool(reset_pool_size, num_starts):
    """Ten steps of each of six environments whose episodes last one step."""
    env = CartPole(horizon=1)
    env.reset_pool_size = reset_pool_size
    for seed in (0, 1):
        _, transitions = play(env, World(env.default_params), random_actions(2), 6, 11, seed)
        assert transitions.truncated.all()
        starts = transitions.obs[1:].reshape(-1, 4)
        assert len(np.unique(starts, axis=0)) == (num_starts if reset_pool_size else 60)
        for b in range(6):  # the environments draw independently
            assert not reset_pool_size or len(np.unique(starts[b::6], axis=0)) > 1


# --- parity -----------------------------------------------------------------------------------


def parity(env, reset, step, observe, steps):
    """Takes equal random actions in both -> numbers of (terminations, truncations).

    Args:
        env: the adapter.
        reset: of the package, key -> (obs, state).
        step: of the package, (key, state, action) -> (obs, state, reward, done).
        observe: the package's observation -> the adapter's.
        steps: number of steps.
    """
    world = World(env.get_default_params())
    our_functions = jax.jit(env.reset), jax.jit(env.step)
    their_functions = jax.jit(reset), jax.jit(step)
    key, ends, restart, state, env_state = jax.random.key(0), [], True, None, None
    for i in range(steps):
        k_reset, k_act, k_step = jax.random.split(jax.random.fold_in(key, i), 3)
        if restart:
            env_state = our_functions[0](k_reset, world)
            obs, state = their_functions[0](raw(k_reset, 3, 0))
            close(env_state.obs, observe(obs))
        action = jax.random.randint(k_act, (), 0, env.spec.num_actions)
        env_state, transition = our_functions[1](k_step, env_state, action)
        obs, state, reward, done = their_functions[1](raw(k_step, 7, 1), state, action)
        close(transition.next_obs, observe(obs))
        close(transition.reward, reward)
        restart = bool(transition.terminated | transition.truncated)
        assert restart == bool(done)
        ends.append((bool(transition.terminated), bool(transition.truncated)))
    return np.sum(ends, axis=0)


def close(ours, theirs):
    """Asserts equality up to rounding: XLA folds params that are constants when compiling."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def raw(key, count, which):
    """Key data of entry `which` of the keys that `Env.reset` or `Env.step` split `key` into."""
    return jax.random.key_data(jax.random.split(key, count)[which])


def gymnax_parity(env, steps):
    """`parity` of an adapter of gymnax."""
    params = env.package_params

    def step(key, state, action):
        return env.package_env.step_env(key, state, action, params)[:4]

    return parity(env, lambda key: env.package_env.reset_env(key, params), step, np.ravel, steps)


@pytest.mark.parametrize(
    ("name", "terminates", "truncates"),
    [
        ("CartPole-v1", True, False),
        ("MountainCar-v0", False, True),
        pytest.param("Breakout-MinAtar", True, False, marks=pytest.mark.slow),
    ],
)
def test_gymnax_transitions_are_equal(name, terminates, truncates):
    pytest.importorskip("gymnax")
    ends = gymnax_parity(Gymnax(name), 300)
    assert (ends > 0).tolist() == [terminates, truncates]


def test_gymnax_actions_are_scaled_to_its_action_space():
    pytest.importorskip("gymnax")
    env = Gymnax("Pendulum-v1")
    for action in (-1.0, -0.25, 1.0, 3.0):
        assert env._package_action(jnp.array([action])) == 2 * min(action, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [ROOM, LAVA])
def test_navix_transitions_are_equal(name):
    navix = pytest.importorskip("navix")
    env, max_codes = navix.make(name), np.array([10, 5, 3], np.float32)

    def reset(key):
        timestep = env.reset(key)
        return timestep.observation, timestep

    def step(key, timestep, action):
        timestep = env.step(timestep, action)
        return timestep.observation, timestep, timestep.reward, timestep.is_done()

    counts = parity(Navix(name), reset, step, lambda obs: np.ravel(obs / max_codes), 600)
    assert (counts > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ends"), [(LAVA, True), (DIST, False)])
def test_lava_is_harm_once_per_episode(name, ends):
    pytest.importorskip("navix")
    env = Navix(name)
    world, act = World(env.get_default_params()), random_actions(env.spec.num_actions)
    _, transitions = play(env, world, act, 64, env.horizon)
    harm = transitions.info["harm"] > 0
    assert harm.any()
    assert (transitions.terminated[harm] == ends).all()
    assert ends or harm.sum(axis=0).max() == 1  # no episode ends before the horizon


@pytest.mark.slow
def test_craftax_transitions_are_equal():
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
        *(f"gymnax:{name}" for name in SHIFT_ENDS),
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
def test_shifts_keep_the_contract(name):
    pytest.importorskip(name.partition(":")[0])
    suite = envs.load_suite(name)
    assert [
        line for shift in suite.shifts for line in violations(shift, suite.env, suite.world)
    ] == []


# --- training ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "episodes", "score", "least", "shift", "most"),
    [
        ("gymnax:CartPole-v1", 100_000, 16, "return", 100, "force", np.inf),  # 22 at random
        (f"navix:{ROOM}", 100_000, 16, "success", 0.9, "elsewhere", 0.5),
        (CLASSIC, 8_192, 4, "length", 1, None, None),
    ],
)
def test_ppo_learns_and_is_scored_on_the_shifts(name, steps, episodes, score, least, shift, most):
    pytest.importorskip(name.partition(":")[0])
    suite = envs.load_suite(name)
    if name == CLASSIC:
        suite = replace(suite, env=Craftax("Craftax-Classic-Symbolic-v1", horizon=200))
    sizes = {"seeds": 2, "steps": steps, "num_envs": 8, "num_steps": 128, "episodes": episodes}
    scores = train_and_score(suite, PPO(lr=1e-3, normalise=True), **sizes)
    assert len(scores) == len(suite.points())
    for measure in ("return", "length", "success", "terminated", "truncated"):
        assert all(np.isfinite(at_point[measure]).all() for at_point in scores.values())
    home = scores["none", 0.0][score]
    assert (home > least).all()
    if shift:
        assert (scores[shift, 1.0][score] < np.minimum(home, most)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"navix:{LAVA}", CLASSIC])
def test_pictures_are_rendered_by_the_package(name):
    pytest.importorskip(name.partition(":")[0])
    suite = envs.load_suite(name)
    env_state = suite.env.reset(jax.random.key(0), suite.world)
    canvas = suite.env.render_init(suite.world.params)
    _, picture = suite.env.render_image(env_state.state, canvas, suite.world.params)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[-1] == 3
    assert len(np.unique(picture)) > 4
