"""Known host environments: equal to gymnasium's by default, and changed by their setters."""

import logging
import sys

import gymnasium
import numpy as np
import pytest

from envs.host.known import KNOWN, PACKAGES, SIZES, env_facts, layouts
from envs.host.make import make_env

MUJOCO = ("Hopper-v5", "HalfCheetah-v5")
EACH_KNOWN = [
    pytest.param(id, marks=pytest.mark.slow if id.startswith("highway") else ()) for id in KNOWN
]
CROSSINGS = [id for id in KNOWN if "Crossing" in id]


def installed(id: str) -> str:
    """Returns the id; skips the test if its optional package is missing."""
    for prefix, package in PACKAGES.items():
        if id.startswith(prefix):
            pytest.importorskip(package)
    return id


def play(id: str, steps: int = 60, **setters) -> np.ndarray:
    """Observations and rewards under one sequence of random actions, [steps, D + 1]."""
    env = make_env(installed(id), **setters)
    space = env.action_space  # one object, since some environments replace it at every reset
    space.seed(0)
    rows = [np.append(env.reset(seed=0)[0], 0.0)]
    for _ in range(steps if not id.startswith("highway") else 8):
        obs, reward, terminated, truncated, _ = env.step(space.sample())
        rows.append(np.append(obs, reward))
        if terminated or truncated:
            rows.append(np.append(env.reset()[0], 0.0))
    env.close()
    return np.array(rows[:steps])


@pytest.mark.parametrize("id", EACH_KNOWN)
def test_default_values_of_setters_change_nothing(id):
    """That others have an effect is checked when a suite is made (`test_host`)."""
    assert np.array_equal(play(id), play(id, **KNOWN[id].setters))


@pytest.mark.parametrize("id", ["CartPole-v1", "LunarLander-v3", "Pendulum-v1", *MUJOCO])
def test_known_environment_without_setters_equals_gymnasiums(id):
    env, raw = make_env(id), gymnasium.make(id)
    env.action_space.seed(1)
    assert env.reset(seed=5)[0] == pytest.approx(raw.reset(seed=5)[0], abs=1e-6)
    for _ in range(20):  # with contacts, rounding errors grow with every step
        action = env.action_space.sample()
        low, high = (getattr(raw.action_space, side, 0) for side in ("low", "high"))
        box = isinstance(raw.action_space, gymnasium.spaces.Box)
        scaled = low + (np.clip(action, -1, 1) + 1) * (high - low) / 2 if box else action
        ours, theirs = env.step(action), raw.step(scaled)
        assert ours[0] == pytest.approx(theirs[0], rel=1e-3, abs=1e-4)
        assert ours[1] == pytest.approx(theirs[1], rel=1e-3, abs=1e-4)
        assert ours[2:4] == theirs[2:4]
        if any(ours[2:4]):
            break


def test_cartpole_follows_its_equations():
    force, half_length, pole_mass = 7.0, 0.8, 0.4
    env = make_env("CartPole-v1", force=force, half_length=half_length, pole_mass=pole_mass)
    x, v, angle, spin = env.reset(seed=0)[0].astype(float)
    total, sin, cos = 1.0 + pole_mass, np.sin(angle), np.cos(angle)
    drive = (force + pole_mass * half_length * spin**2 * sin) / total
    rate = (9.8 * sin - cos * drive) / (half_length * (4 / 3 - pole_mass * cos**2 / total))
    push = drive - pole_mass * half_length * rate * cos / total
    expected = [x + 0.02 * v, v + 0.02 * push, angle + 0.02 * spin, spin + 0.02 * rate]
    assert env.step(1)[0] == pytest.approx(expected, abs=1e-6)


# --- MuJoCo -----------------------------------------------------------------------------------


@pytest.mark.parametrize("id", MUJOCO)
def test_mass_changes_the_derived_constants_of_the_model(id):
    """Twice the mass: about half the acceleration by a force, also in contacts."""
    original, heavy = (make_env(id, mass=mass).unwrapped.model for mass in (1.0, 2.0))
    assert heavy.body_subtreemass[0] == pytest.approx(2 * original.body_subtreemass[0])
    assert (heavy.body_inertia[1:] == 2 * original.body_inertia[1:]).all()
    ratio = heavy.body_invweight0[1:, 0] / original.body_invweight0[1:, 0]
    assert ((ratio > 0.4) & (ratio < 0.9)).all()  # more than 1/2, since the armature stays
    assert (heavy.actuator_acc0 < original.actuator_acc0).all()
    gym_model = gymnasium.make(id).unwrapped.model  # constants of an unchanged mass are the same
    for name in ("body_mass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0"):
        np.testing.assert_allclose(getattr(original, name), getattr(gym_model, name), rtol=1e-9)


@pytest.mark.parametrize("id", MUJOCO)
def test_gravity_accelerates_a_falling_body(id):
    """A body in the air has speed g t after the first step."""
    for gravity in (-9.81, -3.0):
        inner = make_env(id, gravity=gravity).unwrapped
        inner.reset(seed=0)
        position = np.zeros(inner.model.nq)
        position[1] = 10.0  # height of the root
        inner.set_state(position, np.zeros(inner.model.nv))
        inner.do_simulation(np.zeros(inner.model.nu), inner.frame_skip)
        assert inner.data.qvel[1] == pytest.approx(gravity * inner.dt, rel=0.02)


@pytest.mark.parametrize("id", MUJOCO)
def test_gear_and_friction_are_factors(id):
    original, shifted = (make_env(id, gear=x, friction=x).unwrapped.model for x in (1.0, 0.5))
    assert (shifted.actuator_gear == 0.5 * original.actuator_gear).all()
    assert (shifted.geom_friction == 0.5 * original.geom_friction).all()


def test_mujoco_warnings_are_logged_and_not_written_to_a_file(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, "envs.host.known"):
        make_env("HalfCheetah-v5").close()
    assert list(tmp_path.iterdir()) == []
    assert "settotalmass" in caplog.text


# --- layouts ----------------------------------------------------------------------------------


def encoded(id: str, **setters) -> np.ndarray:
    """Cell codes of the grid of a MiniGrid environment after a reset."""
    env = make_env(id, **setters) if setters else gymnasium.make(id)
    env.reset(seed=0)
    return env.unwrapped.grid.encode()


def test_shifted_layout_equals_that_of_the_other_id():
    original, shifted = (encoded("MiniGrid-DistShift1-v0", layout=x) for x in (0.0, 1.0))
    assert (shifted == encoded("MiniGrid-DistShift2-v0")).all()
    assert (original == encoded("MiniGrid-DistShift1-v0")).all()
    assert (original != shifted).any()


@pytest.mark.parametrize("id", CROSSINGS)
def test_layouts_of_crossings_equal_those_of_their_ids(id):
    """Observations of all sizes have the same shape; the setter is rounded."""
    assert KNOWN[id].levels == len(SIZES) - 1
    for layout, size in enumerate(SIZES):
        grid = encoded(id, layout=float(layout))
        assert (grid == encoded(id.replace(SIZES[0], size))).all()
        assert len(grid) == int(size[1:].partition("N")[0])
        assert make_env(id, layout=float(layout)).observation_space.shape == (147,)
    rounded = encoded(id, layout=1.3), encoded(id, layout=1.0)
    assert (rounded[0] == rounded[1]).all()


def test_layouts_have_one_level_per_shifted_layout():
    facts = layouts("MiniGrid-Empty-5x5-v0", "MiniGrid-Empty-6x6-v0", "MiniGrid-Empty-8x8-v0")
    assert facts.levels == 2 and facts.setters == {"layout": 0.0}


# --- highway ----------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["highway-fast-v0", "highway-v0"])
def test_highway_setters_change_drivers_and_density(id):
    for aggressive, kind in ((0.0, "IDMVehicle"), (1.0, "AggressiveVehicle")):
        env = make_env(installed(id), aggressive=aggressive)
        env.reset(seed=0)
        agent, *others = env.unwrapped.road.vehicles
        assert {type(other).__name__ for other in others} == {kind}
    farthest = []
    for density in (1.0, 2.0):
        env = make_env(id, density=density)
        env.reset(seed=0)
        farthest.append(max(vehicle.position[0] for vehicle in env.unwrapped.road.vehicles))
    assert farthest[1] < 0.7 * farthest[0]  # the same number of vehicles on a shorter road


# --- ids --------------------------------------------------------------------------------------


def test_id_with_its_module_is_known():
    assert env_facts("minigrid:MiniGrid-DistShift1-v0") is KNOWN["MiniGrid-DistShift1-v0"]


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "highway_env", None)
    with pytest.raises(ValueError, match=r"highway_env is missing: pip install -e '.\[hosts\]'"):
        env_facts("highway-fast-v0")
