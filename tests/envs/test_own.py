"""Suites of names, ids, and a user's own environments: objects, classes, functions, shifts."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from affect import Spec
from envs import load_suite
from envs.host.make import LIMIT
from envs.host.suite import HostEnv
from envs.shift import ramp, scale
from envs.world import Env, World
from envs.worlds.classic.cartpole import CartPole
from tests.refusal import refused
from tests.tiers import slow

WIND = ramp("wind", "dynamics", "params.wind", to=0.5)
CHANNEL = ["noise", "dropout", "flip", "delay"]


class Corridor(gymnasium.Env):
    """The observation is the position and the reward what is left of the wind."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, wind: float = 0.0, name: str = "corridor", render_mode: str | None = None):
        self.wind, self.render_mode = wind, render_mode

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        position = np.float32([0.1 * self.steps * (action - self.wind)])
        return position, 1.0 - self.wind, self.steps > 3, False, {}


class Spinner(Env):
    """A jitted world with a continuous action and one parameter."""

    class Params(NamedTuple):
        mass: jax.Array | float = 2.0

    spec, obs_scale, horizon = Spec(obs_dim=1, action_dim=1), (1.0,), 4

    def get_default_params(self, **kwargs):
        return self.Params(**kwargs)


def make_corridor(wind: float = 0.0) -> gymnasium.Env:
    return Corridor(wind)


def reward_of_a_step(env: gymnasium.Env) -> float:
    env.reset(seed=0)
    return env.step(0)[1]


# --- names and ids ----------------------------------------------------------------------------


def test_name_and_id_have_the_shifts_that_come_with_them_or_own_ones():
    name, id = load_suite("CartPole"), load_suite("CartPole-v1")
    assert isinstance(name.env, CartPole) and isinstance(id.env, HostEnv)
    assert "noise" in [shift.name for shift in name.shifts]
    assert [shift.name for shift in id.shifts] == ["force", "length", "mass", *CHANNEL]
    shift = scale("force", "dynamics", "params.force", to=0.5)
    for env in ("CartPole", "CartPole-v1"):
        assert load_suite(env, [shift]).shifts == (shift,)
    assert load_suite("CartPole", []).shifts == ()
    assert load_suite("CartPole", iter([shift])).world == name.world


# --- gymnasium environments -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "workers"),
    [
        (Corridor, None),
        (partial(Corridor, name="long"), 0),
        (make_corridor, 0),
        slow(partial(Corridor, name="long"), None),
        slow(make_corridor, None),
    ],
)
def test_class_or_function_is_named_after_its_class_and_its_floats_can_be_shifted(env, workers):
    suite = load_suite(env, [WIND], workers=workers)
    assert (suite.name, suite.world.params) == ("Corridor", {"wind": 0.0})
    assert suite.env.spec == Spec(obs_dim=1, num_actions=2)
    assert suite.env.workers == workers  # None is one per core: they can import it
    shifted = suite.shifts[0](suite.world, 1.0, jax.random.key(0))
    rewards = [reward_of_a_step(suite.env.maker(world)()) for world in (suite.world, shifted)]
    assert rewards == [1.0, 0.5]


@pytest.mark.slow
def test_environment_without_own_shifts_has_those_of_the_channel():
    for env in (Corridor, Corridor()):
        suite = load_suite(env, workers=0)
        assert [shift.name for shift in suite.shifts] == CHANNEL
    assert [shift.name for shift in load_suite(Spinner).shifts][2] == "slip"


def test_object_is_copied_as_it_is_and_stays_untouched():
    env = Corridor(wind=0.25)
    suite = load_suite(env, workers=0)
    assert (suite.name, suite.env.horizon, suite.world.params) == ("Corridor", LIMIT, {})
    first, second = (suite.env.maker(suite.world)() for _ in range(2))
    assert reward_of_a_step(first) == reward_of_a_step(second) == 0.75
    first.unwrapped.wind = 1.0
    assert reward_of_a_step(second) == 0.75
    assert not hasattr(env, "steps")  # never reset


def test_environment_that_workers_cannot_import_is_stepped_by_the_process_itself():
    class Local(Corridor):
        pass

    assert load_suite(Local).env.workers == load_suite(lambda: Corridor()).env.workers == 0


# --- jitted environments ----------------------------------------------------------------------


@pytest.mark.parametrize("env", [Spinner, Spinner(), lambda: Spinner()])
def test_jitted_class_object_or_function_has_its_default_params(env):
    heavy = scale("mass", "dynamics", "params.mass", to=3.0)
    suite = load_suite(env, [heavy])
    assert suite.name == "Spinner" and isinstance(suite.env, Spinner)
    assert suite.world == World(Spinner.Params(2.0)) and suite.shifts == (heavy,)
    worlds = replace(suite, severities=(1.0,)).worlds(jax.random.key(0), 1)
    np.testing.assert_allclose(jnp.ravel(worlds.params.mass), [2.0, 6.0])


# --- refusals ---------------------------------------------------------------------------------


class Dry(Corridor):
    def __init__(self, ice: float = 0.0):
        super().__init__()


def broken() -> gymnasium.Env:
    raise OSError("no such\nmap")


@pytest.mark.parametrize(
    ("env", "shifts", "message"),
    [
        (3, None, "3 is no environment: give a name, a gymnasium id, an environment, its class"),
        (dict, None, "<class 'dict'> is no environment"),
        (broken, None, r"makes no environment \(OSError: no such map, test_own.py:\d+\)"),
        (Corridor, [WIND, WIND], "suite Corridor has two shifts of one name"),
        (Dry, [ramp("ice", "dynamics", "params.ice", to=1.0)], "Dry: shift ice changes nothing"),
        (Corridor, [ramp("ice", "dynamics", "params.ice", to=1.0)], "no field 'ice'; it has wind"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(env, shifts, message):
    with refused(ValueError, match=message):
        load_suite(env, shifts, workers=0)
