"""Suites of gymnasium environments: shapes, shifts of physics with an effect, and channel."""

from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces

from envs.host.known import KNOWN
from envs.host.shifts import PHYSICS
from envs.host.suite import NoEffect, check_effect, host_suite
from envs.schedule import Schedule
from envs.shift import ramp, scale
from envs.world import World
from runs.compare import Settings, make_experiment
from tests.envs import unusual_envs  # noqa: F401  (registers ids)
from tests.refusal import refused
from tests.tiers import slow

IDS = tuple(id for id in KNOWN if not id.startswith("highway"))
EACH_KNOWN = [pytest.param(id, marks=() if id in IDS else pytest.mark.slow) for id in KNOWN]
CONTINUOUS = ("Pendulum-v1", "Hopper-v5", "HalfCheetah-v5")


@pytest.fixture(scope="module")
def suites():
    return {id: host_suite(id, workers=0) for id in IDS}  # probed here: processes take seconds


@pytest.fixture(scope="module")
def highway():
    pytest.importorskip("highway_env")
    return host_suite("highway-fast-v0")


@pytest.mark.slow
@pytest.mark.parametrize("id", IDS)
def test_spec_and_constants_match_gymnasium(suites, id):
    host, gym_env = suites[id].env, gymnasium.make(id)
    space = gym_env.action_space
    actions = (0, space.shape[0]) if isinstance(space, spaces.Box) else (space.n, 0)
    assert (host.spec.num_actions, host.spec.action_dim) == actions
    assert host.spec.obs_dim == len(host.obs_scale)
    assert all(np.isfinite(host.obs_scale)) and min(host.obs_scale, default=1) > 0
    assert (host.spec.image is not None) == id.startswith("MiniGrid")
    gym_env.reset(seed=0)
    assert host.horizon == (gym_env.spec.max_episode_steps or 1000)
    assert suites[id].world.params == KNOWN[id].setters
    assert host.harmful == (id in ("CartPole-v1", "Hopper-v5"))
    goals = {"CartPole-v1": 475.0, "LunarLander-v3": 200}
    assert host.goal == (0.01 if id.startswith("MiniGrid") else goals.get(id))
    hash(host)  # compiled programs are cached by it


@pytest.mark.parametrize("id", IDS)
def test_shifts_are_those_of_physics_then_of_the_channel(suites, id):
    names = [shift.name for shift in suites[id].shifts]
    physics = [shift.name for shift in PHYSICS[id]]
    slip = "slip" if id in CONTINUOUS else "flip"
    first = "occlusion" if id.startswith("MiniGrid") else "noise"
    assert names == [*physics, first, "dropout", slip, "delay"]
    levels = {"MiniGrid-DistShift1-v0": (1.0,)}
    if "Crossing" in id:
        levels[id] = pytest.approx((1 / 3, 2 / 3, 1))
    assert suites[id].severities == levels.get(id, (0.5, 1.0))


@pytest.mark.parametrize("id", EACH_KNOWN)
def test_each_shift_of_physics_changes_one_setter_and_none_is_left_out(id):
    assert set(PHYSICS) == set(KNOWN)
    world, changed = World(dict(KNOWN[id].setters)), []
    for shift in PHYSICS[id]:
        shifted, unshifted = (shift(world, x, jax.random.key(0)).params for x in (1.0, 0.0))
        (name,) = (name for name in world.params if shifted[name] != world.params[name])
        assert unshifted == world.params
        changed.append(name)
    assert set(changed) == set(world.params)


@pytest.mark.parametrize("id", [id for id in IDS if "Crossing" in id])
def test_crossings_are_scored_on_all_sizes(suites, id):
    suite = suites[id]
    worlds = suite.worlds(jax.random.key(0), 1).params["layout"][:, 0]
    ids = [
        suite.env.maker(World({"layout": layout}))().unwrapped.spec.id
        for layout, point in zip(worlds, suite.points(), strict=True)
        if point.shift in ("none", "rivers")
    ]
    sizes = ("S9N1", "S9N2", "S9N3", "S11N5")
    assert ids == [id.replace("S9N1", size) for size in sizes]


@pytest.mark.parametrize("id", ["Hopper-v5", "HalfCheetah-v5"])
def test_mujoco_shifts_keep_the_first_observation(suites, id):
    first_obs = [
        suites[id].env.maker(shift(suites[id].world, 1.0, jax.random.key(0)))().reset(seed=7)[0]
        for shift in PHYSICS[id]
    ]
    assert all((obs == first_obs[0]).all() for obs in first_obs)


@pytest.mark.slow
@pytest.mark.parametrize("id", EACH_KNOWN)
def test_compare_accepts_every_known_id(id):
    if id.startswith("highway"):
        pytest.importorskip("highway_env")
    experiment = make_experiment(Settings(env=id))
    points = {point.shift for point in experiment.suite.points()}
    assert {shift.name for shift in PHYSICS[id]} < points
    assert experiment.run_config.agent.normalise


@pytest.mark.slow
def test_highway_suite_is_scored_at_severity_1_only(highway):
    assert [point.shift for point in highway.points()] == [
        *("none", "aggressive", "density", "noise", "dropout", "flip", "delay")
    ]
    assert (highway.env.goal, highway.env.harmful, highway.env.horizon) == (None, True, 1000)
    assert highway.env.spec.obs_dim == 25


def test_shift_without_effect_raises(suites):
    suite = suites["CartPole-v1"]
    same = scale("same", "dynamics", "params.force", to=1.0)
    of_channel = ramp("elsewhere", "sensor", "channel.noise", to=0.2)
    for shift in (same, of_channel):
        message = f"CartPole-v1: shift {shift.name} changes nothing in 200"
        with pytest.raises(NoEffect, match=message):
            check_effect(suite.env, suite.world, shift)
    for shift in PHYSICS["CartPole-v1"]:
        check_effect(suite.env, suite.world, shift)


def test_setter_of_an_unused_constant_raises():
    def make_cartpole(cart_mass: float = 1.0, **kwargs):
        env = gymnasium.make("CartPole-v1", **kwargs)
        env.unwrapped.masscart = cart_mass  # no effect: total_mass is cached
        return env

    heavier = scale("cart", "dynamics", "params.cart_mass", to=5.0)
    with pytest.raises(NoEffect, match="shift cart changes nothing"):
        host_suite("Cached-v0", make_cartpole, (heavier,))


def make_changing_env(which: str, at: float, lost: float = 0.0, **kwargs) -> gymnasium.Env:
    """Environment whose space `which` is one smaller if `lost` equals `at`."""
    reduction = int(lost == at)
    obs_space = spaces.Box(-1.0, 1.0, (4 - reduction * (which == "observation"),), np.float32)
    action_space = spaces.Discrete(3 - reduction * (which == "action"))
    space_options = {"observation_space": obs_space, "action_space": action_space}
    return gymnasium.make("Strange/Wide-v0", **space_options, **kwargs)


@pytest.mark.parametrize("at", [slow(0.5), 1.0])
@pytest.mark.parametrize(
    ("which", "old", "new", "wrapper"),
    [
        ("observation", "(4,)", "(3,)", "TransformObservation"),
        ("action", "Discrete(3)", "Discrete(2)", "TransformAction"),
    ],
)
def test_shifts_that_change_a_space_raise(which, old, new, wrapper, at):
    """The message is one line with the shift, both spaces and the remedy."""
    less = ramp("less", "layout", "params.lost", to=1.0)
    words = "Less-v0", f"shift less at {at:g}", f"the {which} space", old, new, wrapper
    with refused(ValueError, *words):
        host_suite("Less-v0", partial(make_changing_env, which, at), (less,), workers=0)


def test_scheduled_shift_raises(suites):
    suite = suites["CartPole-v1"]
    late = Schedule(5)(PHYSICS["CartPole-v1"][0])
    with pytest.raises(ValueError, match="CartPole-v1: a host environment has no schedule"):
        check_effect(suite.env, suite.world, late)


class LateChange(gymnasium.Wrapper):
    """Adds 1 to the observation after step 150, counted over episodes."""

    steps_left = 150

    def step(self, action):
        self.steps_left -= 1
        obs, *rest = self.env.step(action)
        return (obs + 1 if self.steps_left == 0 else obs), *rest


def make_late_change(late: float = 0.0, **kwargs) -> gymnasium.Env:
    env = gymnasium.make("CartPole-v1", **kwargs)
    return LateChange(env) if late else env


@pytest.mark.slow
def test_effect_after_the_first_episode_counts():
    """The environments differ from step 150 on, and the check runs for 200 or 149 steps."""
    late = ramp("late", "dynamics", "params.late", to=1.0)
    suite = host_suite("Late-v0", make_late_change, (late,), workers=0)
    with pytest.raises(NoEffect):
        check_effect(suite.env, suite.world, late, steps=149)


def test_unlisted_environment_has_only_channel_shifts():
    host = host_suite("Acrobot-v1", workers=0)
    assert host.world == World({})
    assert [shift.name for shift in host.shifts] == ["noise", "dropout", "flip", "delay"]
    assert host.env.goal == -100
    assert not host.env.harmful
    assert host_suite("tests.envs.unusual_envs:Strange/Endless-v0").env.horizon == 1000


def test_worlds_of_all_points_have_the_shifted_params(suites):
    suite = suites["LunarLander-v3"]
    worlds = suite.worlds(jax.random.key(0), 1)
    points = [(point.shift, point.severity) for point in suite.points()]
    gravity = dict(zip(points, worlds.params["gravity"][:, 0].tolist(), strict=True))
    assert gravity["none", 0.0] == -10
    assert gravity["gravity", 0.5] == pytest.approx(-6.5)
    assert gravity["gravity", 1.0] == pytest.approx(-3.0)
    assert gravity["wind", 1.0] == -10
