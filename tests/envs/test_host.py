"""The suite of a gymnasium id: its physics that were tested for effect, and its channel."""

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
def test_spec_and_constants_are_the_environments(suites, id):
    ours, raw = suites[id].env, gymnasium.make(id)
    box = isinstance(raw.action_space, gymnasium.spaces.Box)
    assert ours.spec.num_actions == (0 if box else raw.action_space.n)
    assert ours.spec.action_dim == (raw.action_space.shape[0] if box else 0)
    assert ours.spec.obs_dim == len(ours.obs_scale)
    assert all(np.isfinite(ours.obs_scale)) and min(ours.obs_scale) > 0
    raw.reset(seed=0)
    assert ours.horizon == (raw.spec.max_episode_steps or 1000)
    assert ours.harmful == (id in ("CartPole-v1", "Hopper-v5"))
    goals = {"CartPole-v1": 475.0, "LunarLander-v3": 200}
    assert ours.goal == (0.01 if id.startswith("MiniGrid") else goals.get(id))
    hash(ours)  # programs are compiled once for each


@pytest.mark.parametrize("id", IDS)
def test_shifts_are_physics_then_channel(suites, id):
    names = [shift.name for shift in suites[id].shifts]
    physics = [shift.name for shift in PHYSICS[id]]
    slip = "slip" if id in CONTINUOUS else "flip"
    assert names == [*physics, "noise", "dropout", slip, "delay"]
    levels = {"MiniGrid-DistShift1-v0": (1.0,)}
    if "Crossing" in id:
        levels[id] = pytest.approx((1 / 3, 2 / 3, 1))
    assert suites[id].severities == levels.get(id, (0.5, 1.0))


@pytest.mark.parametrize("id", IDS)
def test_physics_are_declared_setters(suites, id):
    world = suites[id].world
    assert world.params == KNOWN[id].setters
    for shift in PHYSICS[id]:
        shifted = shift(world, 1.0, jax.random.key(0))
        changed = [name for name in world.params if shifted.params[name] != world.params[name]]
        assert len(changed) == 1
        assert shift(world, 0.0, jax.random.key(0)).params == world.params


def test_every_known_environment_has_physics_that_act():
    assert set(PHYSICS) == set(KNOWN)
    for id in KNOWN:  # every setter is of use
        world = World(dict(KNOWN[id].setters))
        there = [shift(world, 1.0, jax.random.key(0)).params for shift in PHYSICS[id]]
        moved = {name for params in there for name in params if params[name] != world.params[name]}
        assert moved == set(world.params)


@pytest.mark.parametrize("id", [id for id in IDS if "Crossing" in id])
def test_a_crossing_is_scored_on_each_of_its_sizes(suites, id):
    ours = suites[id]
    worlds = ours.worlds(jax.random.key(0), 1).params["layout"][:, 0]
    made = [
        ours.env.maker(World({"layout": layout}))().unwrapped.spec.id
        for layout, point in zip(worlds, ours.points(), strict=True)
        if point.shift in ("none", "rivers")
    ]
    sizes = ("S9N1", "S9N2", "S9N3", "S11N5")
    assert made == [id.replace("S9N1", size) for size in sizes]


@pytest.mark.parametrize("id", ["Hopper-v5", "HalfCheetah-v5"])
def test_physics_of_a_body_leave_the_first_observation(suites, id):
    first = [
        suites[id].env.maker(shift(suites[id].world, 1.0, jax.random.key(0)))().reset(seed=7)[0]
        for shift in PHYSICS[id]
    ]
    assert all((obs == first[0]).all() for obs in first)


@pytest.mark.parametrize("id", KNOWN)
def test_every_pair_is_reached_by_its_id(id):
    if id.startswith("highway"):
        pytest.importorskip("highway_env")
    suite, _, run_config, arms = design(Settings(env=id))[:4]
    assert {shift.name for shift in PHYSICS[id]} < {point.shift for point in suite.points()}
    assert run_config.agent.normalise and "fear" in [arm.name for arm in arms]


def test_the_highway_is_a_suite_of_few_points(highway):
    assert [point.shift for point in highway.points()] == [
        *("none", "aggressive", "density", "noise", "dropout", "flip", "delay")
    ]
    assert (highway.env.goal, highway.env.harmful, highway.env.horizon) == (None, True, 1000)
    assert highway.env.spec.obs_dim == 25


@pytest.mark.parametrize("id", ["Hopper-v5", "MiniGrid-LavaCrossingS9N1-v0", HIGHWAY])
def test_an_interrupted_episode_is_brought_back(id, request):
    """By its seed and actions, so that a study of it can be resumed."""
    ours = request.getfixturevalue("highway") if id == HIGHWAY else host_suite(id)
    far = PHYSICS[id][0](ours.world, 1.0, jax.random.key(0))
    open_pool = partial(HostPool, ours.env.maker(far), 2, 0, name=id, workers=0)
    with open_pool() as one, open_pool() as other:
        one.reset()
        space = one.single_action_space
        space.seed(0)
        for _ in range(9):
            one.step(np.stack([space.sample(), space.sample()]))
        obs = other.restore(one.snapshot())
        assert np.array_equal(obs, one.snapshot()["obs"])
        action = np.stack([space.sample(), space.sample()])
        assert np.array_equal(one.step(action).obs, other.step(action).obs)


@pytest.mark.parametrize("id", IDS)
def test_physics_at_any_scored_severity_can_be_made(suites, id):
    for shift in PHYSICS[id]:
        for severity in suites[id].severities:
            env = suites[id].env.maker(shift(suites[id].world, severity, jax.random.key(0)))()
            env.reset(seed=0)
            env.step(env.action_space.sample())
            env.close()


def test_a_shift_without_effect_is_found(suites):
    ours = suites["CartPole-v1"]
    for fake in (
        scale("same", "dynamics", "params.force", to=1.0),
        ramp("elsewhere", "sensor", "channel.noise", to=0.2),  # no setter of the environment
    ):
        with pytest.raises(
            NoEffect, match=f"CartPole-v1: shift {fake.name} changes nothing in 200"
        ):
            check_effect(ours.env, ours.world, fake)
    for shift in PHYSICS["CartPole-v1"]:
        check_effect(ours.env, ours.world, shift)


def test_a_setter_of_a_cached_constant_is_found_out(monkeypatch):
    def poked(cart_mass: float = 1.0, **kwargs):
        env = gymnasium.make("CartPole-v1", **kwargs)
        env.unwrapped.masscart = cart_mass  # total_mass was computed from it before
        return env

    monkeypatch.setitem(KNOWN, "CartPole-v1", KNOWN["CartPole-v1"]._replace(make=poked))
    heavier = scale("cart", "dynamics", "params.cart_mass", to=5.0)
    monkeypatch.setitem(PHYSICS, "CartPole-v1", (heavier,))
    with pytest.raises(NoEffect, match="shift cart changes nothing"):
        host_suite("CartPole-v1")


def changing(which: str, at: float, lost: float = 0.0, **kwargs) -> gymnasium.Env:
    """An environment that loses a part of a space from `lost` = `at` on."""
    less = int(lost == at)
    seen = spaces.Box(-1.0, 1.0, (4 - less * (which == "observation"),), np.float32)
    done = spaces.Discrete(3 - less * (which == "action"))
    return gymnasium.make("Strange/Wide-v0", observation_space=seen, action_space=done, **kwargs)


@pytest.mark.parametrize("at", [0.5, 1.0])
@pytest.mark.parametrize(
    ("which", "old", "new", "wrapper"),
    [
        ("observation", "(4,)", "(3,)", "TransformObservation"),
        ("action", "Discrete(3)", "Discrete(2)", "TransformAction"),
    ],
)
def test_spaces_that_change_under_a_shift_are_refused(which, old, new, wrapper, at, monkeypatch):
    """In one line, which names the shift, both spaces and what helps; before anything is run."""
    id = "Strange/Wide-v0"
    monkeypatch.setitem(KNOWN, id, EnvFacts(partial(changing, which, at)))
    monkeypatch.setitem(PHYSICS, id, (ramp("less", "layout", "params.lost", to=1.0),))
    with pytest.raises(UserError) as caught:
        design(Settings(env=id))
    line = str(caught.value)
    assert "\n" not in line
    for word in (id, f"shift less at {at:g}", f"the {which} space", old, new, wrapper):
        assert word in line


def test_a_schedule_is_refused_where_there_is_none(suites):
    ours = suites["CartPole-v1"]
    late = Schedule(5)(PHYSICS["CartPole-v1"][0])
    with pytest.raises(ValueError, match="CartPole-v1: a host environment knows no schedule"):
        check_effect(ours.env, ours.world, late)


def test_an_effect_that_comes_late_is_an_effect(suites):
    """Alike to the first end and beyond, until the one comes to what the other does not have."""
    ours = suites["CartPole-v1"]
    made = []

    def maker(world, **kwargs):
        env = gymnasium.make("CartPole-v1")
        made.append(env)
        return lambda: env if len(made) == 1 else Late(env, 150)

    class Late(gymnasium.Wrapper):
        def __init__(self, env, at):
            super().__init__(env)
            self.left = at

        def step(self, action):
            self.left -= 1
            obs, *rest = self.env.step(action)
            return (obs + 1 if self.left == 0 else obs), *rest

    late = scale("late", "dynamics", "params.force", to=1.0)
    host_late = replace(ours.env, id="Late-v0")
    object.__setattr__(host_late, "maker", maker)
    check_effect(host_late, ours.world, late)
    made.clear()
    with pytest.raises(NoEffect):
        check_effect(host_late, ours.world, late, steps=149)


def test_an_environment_that_nobody_knows_has_a_channel():
    ours = host_suite("Acrobot-v1")
    assert ours.world == World({})
    assert [shift.name for shift in ours.shifts] == ["noise", "dropout", "flip", "delay"]
    assert ours.env.goal == -100
    assert not ours.env.harmful
    assert suite.host_suite("tests.envs.unusual_envs:Strange/Endless-v0").env.horizon == 1000


def test_worlds_of_all_points_can_be_made(suites):
    ours = suites["LunarLander-v3"]
    worlds = ours.worlds(jax.random.key(0), 1)
    points = [(point.shift, point.severity) for point in ours.points()]
    gravity = dict(zip(points, worlds.params["gravity"][:, 0].tolist(), strict=True))
    assert gravity["none", 0.0] == -10
    assert gravity["gravity", 0.5] == pytest.approx(-6.5)
    assert gravity["gravity", 1.0] == pytest.approx(-3.0)
    assert gravity["wind", 1.0] == -10


# --- slow: the real command -------------------------------------------------------------------


def compared(id: str, out: Path, *shifts: str) -> str:
    """What a smoke run of `runs.compare` prints."""
    argv = ["--smoke", "--env", id, "--out", str(out), "--shifts", *shifts]
    done = subprocess.run(
        [sys.executable, "-m", "runs.compare", *argv],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "score", "shifts"),
    [
        ("Hopper-v5", "return", ("mass", "friction")),
        ("MiniGrid-LavaCrossingS9N1-v0", "success", ("rivers",)),
    ],
)
def test_a_pair_is_compared_by_one_command(id, score, shifts, tmp_path):
    printed = compared(id, tmp_path, *shifts)
    assert f"score: {score}" in printed
    rows = read_scores(tmp_path / "scores.csv")
    assert {row["shift"] for row in rows} == {"none", *shifts}
    assert all(np.isfinite(row["score"]) for row in rows)
