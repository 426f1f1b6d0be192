"""Known host environments: gymnasium's own at rest, and every declared setter does what it says."""

import logging
import sys

import gymnasium
import numpy as np
import pytest

from envs.host.known import KNOWN, PACKAGES, SIZES, env_facts, layouts
from envs.host.make import make_env

CHANGED = {
    "force": 5.0,
    "half_length": 1.0,
    "pole_mass": 1.0,
    "gravity": -5.0,
    "wind": 15.0,
    "mass": 2.0,
    "length": 2.0,
    "layout": 1.0,
    "friction": 0.2,
    "gear": 0.5,
    "aggressive": 1.0,
    "density": 2.0,
}
SLOW = "highway-v0"  # `highway-fast-v0` is made by the same function
SETTERS = [(id, name) for id in KNOWN if id != SLOW for name in KNOWN[id].setters]
MUJOCO = ("Hopper-v5", "HalfCheetah-v5")
CROSSINGS = [id for id in KNOWN if "Crossing" in id]


def here(id: str) -> str:
    """The id, or the test is skipped where a package that is not always there is missing."""
    for start, package in PACKAGES.items():
        if id.startswith(start):
            pytest.importorskip(package)
    return id


def lived(id: str, steps: int = 60, **setters) -> np.ndarray:
    """What is seen and paid under one series of actions, [steps, D + 1]."""
    env = make_env(here(id), **setters)
    space = env.action_space  # some environments make another at every reset
    space.seed(0)
    rows = [np.append(env.reset(seed=0)[0], 0.0)]
    for _ in range(steps if not id.startswith("highway") else 8):
        obs, reward, terminated, truncated, _ = env.step(space.sample())
        rows.append(np.append(obs, reward))
        if terminated or truncated:
            rows.append(np.append(env.reset()[0], 0.0))
    env.close()
    return np.array(rows[:steps])


@pytest.mark.parametrize(("id", "name"), SETTERS)
def test_every_declared_setter_changes_what_happens(id, name):
    default = KNOWN[id].setters[name]
    home, there = lived(id), lived(id, **{name: CHANGED[name]})
    assert np.array_equal(home, lived(id, **{name: default}))
    shared = min(len(home), len(there))
    assert not np.array_equal(home[:shared], there[:shared])


@pytest.mark.parametrize("id", ["CartPole-v1", "LunarLander-v3", "Pendulum-v1", *MUJOCO])
def test_a_known_world_without_setters_is_gymnasiums_own(id):
    env, raw = make_env(id), gymnasium.make(id)
    env.action_space.seed(1)
    assert env.reset(seed=5)[0] == pytest.approx(raw.reset(seed=5)[0], abs=1e-6)
    for _ in range(20):  # where there are contacts, rounding grows with every step
        action = env.action_space.sample()
        low, high = (getattr(raw.action_space, side, 0) for side in ("low", "high"))
        box = isinstance(raw.action_space, gymnasium.spaces.Box)
        scaled = low + (np.clip(action, -1, 1) + 1) * (high - low) / 2 if box else action
        mine, theirs = env.step(action), raw.step(scaled)
        assert mine[0] == pytest.approx(theirs[0], rel=1e-3, abs=1e-4)
        assert mine[1] == pytest.approx(theirs[1], rel=1e-3, abs=1e-4)
        assert mine[2:4] == theirs[2:4]
        if any(mine[2:4]):
            break


def test_cartpole_is_its_equations():
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
def test_mass_reaches_what_the_compiled_model_derives_from_it(id):
    """Twice the mass: half the acceleration that a force at rest makes, and so for contacts."""
    home, heavy = (make_env(id, mass=mass).unwrapped.model for mass in (1.0, 2.0))
    assert heavy.body_subtreemass[0] == pytest.approx(2 * home.body_subtreemass[0])
    assert (heavy.body_inertia[1:] == 2 * home.body_inertia[1:]).all()
    ratio = heavy.body_invweight0[1:, 0] / home.body_invweight0[1:, 0]
    assert ((ratio > 0.4) & (ratio < 0.9)).all()  # armature stays, so more than a half
    assert (heavy.actuator_acc0 < home.actuator_acc0).all()


@pytest.mark.parametrize("id", MUJOCO)
def test_deriving_anew_what_nothing_changed_changes_nothing(id):
    home, raw = make_env(id).unwrapped.model, gymnasium.make(id).unwrapped.model
    for name in ("body_mass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0"):
        np.testing.assert_allclose(getattr(home, name), getattr(raw, name), rtol=1e-9)


@pytest.mark.parametrize("id", MUJOCO)
def test_gravity_pulls(id):
    """An untouched body in the air falls by g t^2 / 2, from the first step on."""
    for gravity in (-9.81, -3.0):
        inner = make_env(id, gravity=gravity).unwrapped
        inner.reset(seed=0)
        position = np.zeros(inner.model.nq)
        position[1] = 10.0  # of the root, up
        inner.set_state(position, np.zeros(inner.model.nv))
        inner.do_simulation(np.zeros(inner.model.nu), inner.frame_skip)
        assert inner.data.qvel[1] == pytest.approx(gravity * inner.dt, rel=0.02)


@pytest.mark.parametrize("id", MUJOCO)
def test_torque_goes_with_the_gear_and_friction_with_the_surface(id):
    home, there = (make_env(id, gear=x, friction=x).unwrapped.model for x in (1.0, 0.5))
    assert (there.actuator_gear == 0.5 * home.actuator_gear).all()
    assert (there.geom_friction == 0.5 * home.geom_friction).all()


def test_warnings_of_mujoco_go_to_the_log_and_into_no_file(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, "envs.host.known"):
        make_env("HalfCheetah-v5").close()
    assert list(tmp_path.iterdir()) == []
    assert "settotalmass" in caplog.text


# --- layouts ----------------------------------------------------------------------------------


def encoded(id: str, **setters) -> np.ndarray:
    env = make_env(id, **setters) if setters else gymnasium.make(id)
    env.reset(seed=0)
    return env.unwrapped.grid.encode()


def test_the_shifted_layout_is_the_other_worlds():
    home, there = (encoded("MiniGrid-DistShift1-v0", layout=x) for x in (0.0, 1.0))
    assert (there == encoded("MiniGrid-DistShift2-v0")).all()
    assert (home == encoded("MiniGrid-DistShift1-v0")).all()
    assert (home != there).any()


@pytest.mark.parametrize("id", CROSSINGS)
def test_crossings_grow_by_their_rivers(id):
    """Each layout is gymnasium's own of its size, and sees as much as the first."""
    assert KNOWN[id].levels == len(SIZES) - 1
    for place, size in enumerate(SIZES):
        there = encoded(id, layout=float(place))
        assert (there == encoded(id.replace(SIZES[0], size))).all()
        assert len(there) == int(size[1:].partition("N")[0])
        assert make_env(id, layout=float(place)).observation_space.shape == (147,)
    near = encoded(id, layout=1.3), encoded(id, layout=1.0)
    assert (near[0] == near[1]).all()


def test_a_row_of_layouts_is_scored_at_each():
    row = layouts("MiniGrid-Empty-5x5-v0", "MiniGrid-Empty-6x6-v0", "MiniGrid-Empty-8x8-v0")
    assert row.levels == 2 and row.setters == {"layout": 0.0}


# --- highway ----------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["highway-fast-v0", SLOW])
def test_the_highway_has_other_drivers_and_more_of_them(id):
    for aggressive, kind in ((0.0, "IDMVehicle"), (1.0, "AggressiveVehicle")):
        env = make_env(here(id), aggressive=aggressive)
        env.reset(seed=0)
        me, *others = env.unwrapped.road.vehicles
        assert {type(other).__name__ for other in others} == {kind}
    far = []
    for density in (1.0, 2.0):
        env = make_env(id, density=density)
        env.reset(seed=0)
        far.append(max(vehicle.position[0] for vehicle in env.unwrapped.road.vehicles))
    assert far[1] < 0.7 * far[0]  # as many, on a shorter road


# --- ids --------------------------------------------------------------------------------------


def test_an_id_is_known_by_its_module_too():
    assert env_facts("minigrid:MiniGrid-DistShift1-v0") is KNOWN["MiniGrid-DistShift1-v0"]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "highway_env", None)
    with pytest.raises(ValueError, match=r"highway_env is missing: pip install -e '.\[hosts\]'"):
        env_facts("highway-fast-v0")
