"""Suites of gymnasium environments: shapes, shifts of physics with an effect, and channel."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces

from envs.host import suite
from envs.host.known import KNOWN, EnvFacts
from envs.host.pool import HostPool
from envs.host.shifts import PHYSICS
from envs.host.suite import NoEffect, check_effect, host_suite
from envs.schedule import Schedule
from envs.shift import ramp, scale
from envs.world import World
from runs.analysis.scores import read_scores
from runs.compare import Settings, design
from runs.errors import UserError
from tests.envs import unusual_envs  # noqa: F401  (registers ids)

IDS = tuple(id for id in KNOWN if not id.startswith("highway"))
CONTINUOUS = ("Pendulum-v1", "Hopper-v5", "HalfCheetah-v5")
HIGHWAY = "highway-fast-v0"


@pytest.fixture(scope="module")
def suites():
    return {id: host_suite(id) for id in IDS}


@pytest.fixture(scope="module")
def highway():
    pytest.importorskip("highway_env")
    return host_suite(HIGHWAY)


@pytest.mark.parametrize("id", IDS)
def test_spec_and_constants_match_gymnasium(suites, id):
    host, gym_env = suites[id].env, gymnasium.make(id)
    box = isinstance(gym_env.action_space, gymnasium.spaces.Box)
    assert host.spec.num_actions == (0 if box else gym_env.action_space.n)
    assert host.spec.action_dim == (gym_env.action_space.shape[0] if box else 0)
    assert host.spec.obs_dim == len(host.obs_scale)
    assert all(np.isfinite(host.obs_scale)) and min(host.obs_scale) > 0
    gym_env.reset(seed=0)
    assert host.horizon == (gym_env.spec.max_episode_steps or 1000)
    assert host.harmful == (id in ("CartPole-v1", "Hopper-v5"))
    goals = {"CartPole-v1": 475.0, "LunarLander-v3": 200}
    assert host.goal == (0.01 if id.startswith("MiniGrid") else goals.get(id))
    hash(host)  # compiled programs are cached by it


@pytest.mark.parametrize("id", IDS)
def test_shifts_are_those_of_physics_then_of_the_channel(suites, id):
    names = [shift.name for shift in suites[id].shifts]
    physics = [shift.name for shift in PHYSICS[id]]
    slip = "slip" if id in CONTINUOUS else "flip"
    assert names == [*physics, "noise", "dropout", slip, "delay"]
    levels = {"MiniGrid-DistShift1-v0": (1.0,)}
    if "Crossing" in id:
        levels[id] = pytest.approx((1 / 3, 2 / 3, 1))
    assert suites[id].severities == levels.get(id, (0.5, 1.0))


@pytest.mark.parametrize("id", IDS)
def test_shifts_of_physics_change_one_declared_setter(suites, id):
    world = suites[id].world
    assert world.params == KNOWN[id].setters
    for shift in PHYSICS[id]:
        shifted = shift(world, 1.0, jax.random.key(0))
        changed = [name for name in world.params if shifted.params[name] != world.params[name]]
        assert len(changed) == 1
        assert shift(world, 0.0, jax.random.key(0)).params == world.params


def test_every_setter_is_changed_by_some_shift():
    assert set(PHYSICS) == set(KNOWN)
    for id in KNOWN:
        world = World(dict(KNOWN[id].setters))
        shifted = [shift(world, 1.0, jax.random.key(0)).params for shift in PHYSICS[id]]
        changed = {
            name for params in shifted for name in params if params[name] != world.params[name]
        }
        assert changed == set(world.params)


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


@pytest.mark.parametrize("id", KNOWN)
def test_compare_accepts_every_known_id(id):
    if id.startswith("highway"):
        pytest.importorskip("highway_env")
    suite, _, run_config, arms = design(Settings(env=id))[:4]
    assert {shift.name for shift in PHYSICS[id]} < {point.shift for point in suite.points()}
    assert run_config.agent.normalise and "fear" in [arm.name for arm in arms]


def test_highway_suite_is_scored_at_severity_1_only(highway):
    assert [point.shift for point in highway.points()] == [
        *("none", "aggressive", "density", "noise", "dropout", "flip", "delay")
    ]
    assert (highway.env.goal, highway.env.harmful, highway.env.horizon) == (None, True, 1000)
    assert highway.env.spec.obs_dim == 25


@pytest.mark.parametrize("id", ["Hopper-v5", "MiniGrid-LavaCrossingS9N1-v0", HIGHWAY])
def test_restored_episodes_continue_exactly(id, request):
    """A pool restored from a snapshot gives the observations of the original pool."""
    suite = request.getfixturevalue("highway") if id == HIGHWAY else host_suite(id)
    shifted = PHYSICS[id][0](suite.world, 1.0, jax.random.key(0))
    open_pool = partial(HostPool, suite.env.maker(shifted), 2, 0, name=id, workers=0)
    with open_pool() as original, open_pool() as restored:
        original.reset()
        space = original.single_action_space
        space.seed(0)
        for _ in range(9):
            original.step(np.stack([space.sample(), space.sample()]))
        obs = restored.restore(original.snapshot())
        assert np.array_equal(obs, original.snapshot()["obs"])
        action = np.stack([space.sample(), space.sample()])
        assert np.array_equal(original.step(action).obs, restored.step(action).obs)


@pytest.mark.parametrize("id", IDS)
def test_environments_can_be_made_at_every_scored_severity(suites, id):
    for shift in PHYSICS[id]:
        for severity in suites[id].severities:
            env = suites[id].env.maker(shift(suites[id].world, severity, jax.random.key(0)))()
            env.reset(seed=0)
            env.step(env.action_space.sample())
            env.close()


def test_shift_without_effect_raises(suites):
    suite = suites["CartPole-v1"]
    for shift_without_effect in (
        scale("same", "dynamics", "params.force", to=1.0),
        ramp(
            "elsewhere", "sensor", "channel.noise", to=0.2
        ),  # a shift of the channel, not of the environment
    ):
        with pytest.raises(
            NoEffect, match=f"CartPole-v1: shift {shift_without_effect.name} changes nothing in 200"
        ):
            check_effect(suite.env, suite.world, shift_without_effect)
    for shift in PHYSICS["CartPole-v1"]:
        check_effect(suite.env, suite.world, shift)


def test_setter_of_an_unused_constant_raises(monkeypatch):
    def make_cartpole(cart_mass: float = 1.0, **kwargs):
        env = gymnasium.make("CartPole-v1", **kwargs)
        env.unwrapped.masscart = cart_mass  # no effect: total_mass is cached
        return env

    monkeypatch.setitem(KNOWN, "CartPole-v1", KNOWN["CartPole-v1"]._replace(make=make_cartpole))
    heavier = scale("cart", "dynamics", "params.cart_mass", to=5.0)
    monkeypatch.setitem(PHYSICS, "CartPole-v1", (heavier,))
    with pytest.raises(NoEffect, match="shift cart changes nothing"):
        host_suite("CartPole-v1")


def make_changing_env(which: str, at: float, lost: float = 0.0, **kwargs) -> gymnasium.Env:
    """Environment whose space `which` is one smaller if `lost` equals `at`."""
    reduction = int(lost == at)
    obs_space = spaces.Box(-1.0, 1.0, (4 - reduction * (which == "observation"),), np.float32)
    action_space = spaces.Discrete(3 - reduction * (which == "action"))
    return gymnasium.make(
        "Strange/Wide-v0", observation_space=obs_space, action_space=action_space, **kwargs
    )


@pytest.mark.parametrize("at", [0.5, 1.0])
@pytest.mark.parametrize(
    ("which", "old", "new", "wrapper"),
    [
        ("observation", "(4,)", "(3,)", "TransformObservation"),
        ("action", "Discrete(3)", "Discrete(2)", "TransformAction"),
    ],
)
def test_shifts_that_change_a_space_raise(which, old, new, wrapper, at, monkeypatch):
    """The message is one line with the shift, both spaces and the remedy."""
    id = "Strange/Wide-v0"
    monkeypatch.setitem(KNOWN, id, EnvFacts(partial(make_changing_env, which, at)))
    monkeypatch.setitem(PHYSICS, id, (ramp("less", "layout", "params.lost", to=1.0),))
    with pytest.raises(UserError) as caught:
        design(Settings(env=id))
    message = str(caught.value)
    assert "\n" not in message
    for part in (id, f"shift less at {at:g}", f"the {which} space", old, new, wrapper):
        assert part in message


def test_scheduled_shift_raises(suites):
    suite = suites["CartPole-v1"]
    late = Schedule(5)(PHYSICS["CartPole-v1"][0])
    with pytest.raises(ValueError, match="CartPole-v1: a host environment has no schedule"):
        check_effect(suite.env, suite.world, late)


def test_effect_after_the_first_episode_counts(suites):
    """The environments differ from step 150 on, and the check runs for 200 or 149 steps."""
    suite = suites["CartPole-v1"]
    envs_made = []

    def maker(world, **kwargs):
        env = gymnasium.make("CartPole-v1")
        envs_made.append(env)
        return lambda: env if len(envs_made) == 1 else LateChange(env, 150)

    class LateChange(gymnasium.Wrapper):
        def __init__(self, env, at):
            super().__init__(env)
            self.steps_left = at

        def step(self, action):
            self.steps_left -= 1
            obs, *rest = self.env.step(action)
            return (obs + 1 if self.steps_left == 0 else obs), *rest

    late = scale("late", "dynamics", "params.force", to=1.0)
    host_late = replace(suite.env, id="Late-v0")
    object.__setattr__(host_late, "maker", maker)
    check_effect(host_late, suite.world, late)
    envs_made.clear()
    with pytest.raises(NoEffect):
        check_effect(host_late, suite.world, late, steps=149)


def test_unlisted_environment_has_only_channel_shifts():
    host = host_suite("Acrobot-v1")
    assert host.world == World({})
    assert [shift.name for shift in host.shifts] == ["noise", "dropout", "flip", "delay"]
    assert host.env.goal == -100
    assert not host.env.harmful
    assert suite.host_suite("tests.envs.unusual_envs:Strange/Endless-v0").env.horizon == 1000


def test_worlds_of_all_points_have_the_shifted_params(suites):
    suite = suites["LunarLander-v3"]
    worlds = suite.worlds(jax.random.key(0), 1)
    points = [(point.shift, point.severity) for point in suite.points()]
    gravity = dict(zip(points, worlds.params["gravity"][:, 0].tolist(), strict=True))
    assert gravity["none", 0.0] == -10
    assert gravity["gravity", 0.5] == pytest.approx(-6.5)
    assert gravity["gravity", 1.0] == pytest.approx(-3.0)
    assert gravity["wind", 1.0] == -10


# --- slow: the real command -------------------------------------------------------------------


def compare_output(id: str, out: Path, *shifts: str) -> str:
    """Output of a smoke run of `runs.compare`."""
    argv = ["--smoke", "--env", id, "--out", str(out), "--shifts", *shifts]
    process = subprocess.run(
        [sys.executable, "-m", "runs.compare", *argv],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    return process.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "score", "shifts"),
    [
        ("Hopper-v5", "return", ("mass", "friction")),
        ("MiniGrid-LavaCrossingS9N1-v0", "success", ("rivers",)),
    ],
)
def test_compare_command_scores_a_host_environment(id, score, shifts, tmp_path):
    output = compare_output(id, tmp_path, *shifts)
    assert f"score: {score}" in output
    rows = read_scores(tmp_path / "scores.csv")
    assert {row["shift"] for row in rows} == {"none", *shifts}
    assert all(np.isfinite(row["score"]) for row in rows)
