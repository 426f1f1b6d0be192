"""The suite of a gymnasium id: its physics that were tested for effect, and its channel."""

from dataclasses import replace

import gymnasium
import jax
import numpy as np
import pytest

from envs import host
from envs.host import PHYSICS, NoEffect, check_effect, suite
from envs.host_make import KNOWN
from envs.shift import ramp, scale
from envs.world import World
from tests.envs import strange  # noqa: F401  (registers ids)

IDS = ("CartPole-v1", "LunarLander-v3", "Pendulum-v1", "MiniGrid-DistShift1-v0")
CHANNEL = ["noise", "dropout", "delay"]


@pytest.fixture(scope="module")
def suites():
    return {id: suite(id) for id in IDS}


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
    assert ours.harmful == (id == "CartPole-v1")
    goals = {"CartPole-v1": 475.0, "LunarLander-v3": 200, "MiniGrid-DistShift1-v0": 0.01}
    assert ours.goal == goals.get(id)
    hash(ours)  # programs are compiled once for each


@pytest.mark.parametrize("id", IDS)
def test_shifts_are_physics_then_channel(suites, id):
    names = [shift.name for shift in suites[id].shifts]
    physics = [shift.name for shift in PHYSICS[id]]
    slip = "slip" if id == "Pendulum-v1" else "flip"
    assert names == [*physics, "noise", "dropout", slip, "delay"]
    layout = id.startswith("MiniGrid")
    assert suites[id].severities == ((1.0,) if layout else (0.5, 1.0))


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
        suite("CartPole-v1")


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
    ours = suite("Acrobot-v1")
    assert ours.world == World({})
    assert [shift.name for shift in ours.shifts] == ["noise", "dropout", "flip", "delay"]
    assert ours.env.goal == -100
    assert not ours.env.harmful
    assert host.suite("tests.envs.strange:Strange/Endless-v0").env.horizon == 1000


def test_worlds_of_all_points_can_be_made(suites):
    ours = suites["LunarLander-v3"]
    worlds = ours.worlds(jax.random.key(0), 1)
    points = [(point.shift, point.severity) for point in ours.points()]
    gravity = dict(zip(points, worlds.params["gravity"][:, 0].tolist(), strict=True))
    assert gravity["none", 0.0] == -10
    assert gravity["gravity", 0.5] == pytest.approx(-6.5)
    assert gravity["gravity", 1.0] == pytest.approx(-3.0)
    assert gravity["wind", 1.0] == -10
