"""Scheduled shifts: onset, ramp, and that everything else is unchanged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import load_suite
from envs.adapters.gymnasium_env import render_frame
from envs.schedule import NEVER, Schedule, unscheduled
from envs.shift import Shift, ramp, scale, swap, with_channel
from envs.suite import Suite
from envs.world import ScheduledParams, World, world_at
from envs.worlds.classic.cartpole import CartPole, Params
from runs.engine.evaluate import evaluate
from runs.engine.seeds import FAST_COMPILE

ENV, HOME = CartPole(horizon=30), World(Params())
FORCE = scale("force", "dynamics", "params.force", to=0.2)
NOISE = ramp("noise", "sensor", "channel.noise", to=0.5)
FLIP = ramp("flip", "actuator", "channel.flip", to=1.0)
MOON = swap("moon", "dynamics", "params.gravity", (1.6, 3.7))


def new(seed: int) -> jax.Array:
    return jax.random.key(seed)


def forces(world: World, steps: int) -> list[float]:
    return [float(world_at(world, jnp.int32(t)).params.force) for t in range(steps)]


@jax.jit
def episode(world: World, seed: int) -> dict:
    """Episode of alternating actions -> obs [T, D], states [T, D], first obs [D]."""
    env_state = ENV.reset(new(seed), world)

    def step(env_state, time):
        env_state, transition = ENV.step(
            jax.random.fold_in(new(seed + 1), time), env_state, time % 2
        )
        return env_state, {"obs": transition.next_obs, "states": env_state.state}

    _, steps = jax.lax.scan(step, env_state, jnp.arange(ENV.horizon))
    return steps | {"first": env_state.obs}


# --- onset and ramp ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "severity", "expected"),
    [
        (Schedule(4), 1.0, [10, 10, 10, 10, 2, 2, 2, 2]),
        (Schedule(0), 1.0, [2, 2]),
        (Schedule(2, ramp=3), 1.0, [10, 10, 8, 6, 4, 2, 2]),
        (Schedule(2, ramp=3), 0.5, [10, 10, 9, 8, 7, 6, 6]),
    ],
)
def test_a_shift_starts_or_ramps_linearly_from_its_onset(schedule, severity, expected):
    world = schedule(FORCE)(HOME, severity, new(0))
    np.testing.assert_allclose(forces(world, len(expected)), expected, rtol=1e-6)


def test_integer_fields_change_at_the_end_of_the_ramp():
    world = World({"map": jnp.arange(3)}, None)
    scheduled = world._replace(scheduled=ScheduledParams({"map": jnp.arange(3, 6)}, None, 1, 2))
    maps = [world_at(scheduled, jnp.int32(t)).params["map"].tolist() for t in range(5)]
    assert maps == [[0, 1, 2]] * 3 + [[3, 4, 5]] * 2
    assert world_at(scheduled, jnp.int32(0)).params["map"].dtype == world.params["map"].dtype


def test_the_channel_changes_with_the_params():
    world = Schedule(3)(FORCE | NOISE)(HOME, 1.0, new(0))
    noise = [float(world_at(world, jnp.int32(t)).channel.noise) for t in range(5)]
    assert noise == [0.0] * 3 + [0.5] * 2


def test_a_step_uses_the_world_of_its_time():
    """Bit for bit: the unshifted world up to the onset, from there on the shifted one."""
    shifted = FORCE(HOME, 1.0, new(0))
    scheduled = episode(Schedule(7)(FORCE)(HOME, 1.0, new(0)), 0)
    home = episode(unscheduled(with_channel(HOME)), 0)
    for part in ("obs", "states"):
        np.testing.assert_array_equal(scheduled[part][:7], home[part][:7])
        assert (scheduled[part][7:] != home[part][7:]).any(-1).all()
    env_state = ENV.reset(new(0), shifted)._replace(state=scheduled["states"][6])
    after, _ = jax.jit(ENV.step)(new(9), env_state, jnp.int32(1))
    np.testing.assert_allclose(after.state, scheduled["states"][7], rtol=1e-6)


@pytest.mark.parametrize("shift", [FORCE, NOISE, MOON, FORCE | NOISE], ids=lambda s: s.name)
def test_the_first_observation_is_unshifted(shift):
    scheduled, home = Schedule(0)(shift)(HOME, 1.0, new(0)), with_channel(HOME)
    assert jax.tree.leaves(scheduled._replace(scheduled=None)) == jax.tree.leaves(home)
    first, expected = (episode(world, 3)["first"] for world in (scheduled, unscheduled(home)))
    np.testing.assert_array_equal(first, expected)


# --- unchanged worlds -------------------------------------------------------------------------


def test_at_severity_0_the_onset_is_never():
    scheduled = Schedule(4, 2)(FORCE)(HOME, 0.0, new(0))
    assert int(scheduled.scheduled.onset) == NEVER
    jax.tree.map(np.testing.assert_array_equal, scheduled, unscheduled(with_channel(HOME)))


def test_an_empty_schedule_changes_neither_world_nor_episode():
    world = with_channel(HOME)
    scheduled = unscheduled(world)
    jax.tree.map(np.testing.assert_array_equal, episode(world, 5), episode(scheduled, 5))
    assert world_at(world, jnp.int32(3)) is world and unscheduled(scheduled) is scheduled


def test_scheduled_shifts_have_late_names_and_the_family_time():
    shifts = [Schedule(10)(FORCE), Schedule(10, ramp=5)(NOISE), Schedule(3)(FORCE | NOISE)]
    assert [(shift.name, shift.family) for shift in shifts] == [
        ("late_force", "time|dynamics"),
        ("late_noise", "time|sensor"),
        ("late_force|noise", "time|dynamics|sensor"),
    ]


def test_a_composition_also_shifts_the_scheduled_world():
    lighter = scale("gravity", "dynamics", "params.gravity", to=0.5)
    for shift in (lighter | Schedule(2)(FORCE), Schedule(2)(FORCE) | lighter):
        world = shift(HOME, 1.0, new(0))
        gravity = [float(world_at(world, jnp.int32(t)).params.gravity) for t in (0, 5)]
        assert gravity == pytest.approx([4.9, 4.9])
        assert forces(world, 3) == pytest.approx([10, 10, 2])


@pytest.mark.parametrize("schedule", [{"onset": -1}, {"onset": 1, "ramp": -2}, {"onset": 2**31}])
def test_a_schedule_out_of_range_is_refused(schedule):
    with pytest.raises(ValueError, match="onset and ramp count steps"):
        Schedule(**schedule)


@pytest.mark.parametrize(
    "twice", [Schedule(1)(FORCE) | Schedule(2)(NOISE), Schedule(1)(Schedule(2)(FORCE))]
)
def test_a_second_schedule_is_refused(twice):
    with pytest.raises(ValueError, match="schedule"):
        twice(HOME, 1.0, new(0))


# --- in a suite -------------------------------------------------------------------------------


def small_suite(*shifts: Shift) -> Suite:
    return Suite("small", ENV, HOME, shifts, severities=(0.5, 1.0))


def test_all_points_of_a_suite_have_one_structure():
    assert small_suite(FORCE, NOISE).worlds(new(0), 2).scheduled is None
    plain, with_schedule = (
        small_suite(*s).worlds(new(0), 3) for s in ((FORCE,), (FORCE, Schedule(9, 4)(NOISE)))
    )
    assert {leaf.shape for leaf in jax.tree.leaves(with_schedule)} == {(5, 3)}
    np.testing.assert_array_equal(with_schedule.scheduled.onset[:, 0], [NEVER] * 3 + [9, 9])
    np.testing.assert_array_equal(with_schedule.scheduled.ramp[:, 0], [0] * 3 + [4, 4])
    first_points = jax.tree.map(lambda leaf: leaf[:3], with_schedule)
    jax.tree.map(np.testing.assert_array_equal, plain.params, first_points.params)
    jax.tree.map(np.testing.assert_array_equal, first_points[:2], tuple(first_points.scheduled[:2]))


class LeaningPolicy:
    """CartPole agent that pushes to the side of angle + state * angular velocity."""

    def act(self, state, key, obs):
        return (obs[..., 2] + state * obs[..., 3] > 0).astype(jnp.int32)


@pytest.mark.slow
def test_a_scheduled_shift_does_not_change_the_scores_of_others():
    """Bit for bit; and the scheduled shift shortens the episodes."""
    score = partial(evaluate, agent=LeaningPolicy(), env=CartPole(horizon=60), episodes=8)
    score = jax.jit(score, compiler_options=FAST_COMPILE)
    shifts = FORCE, NOISE
    plain, with_schedule = (
        score(jnp.float32(0.2), worlds=small_suite(*suite_shifts).worlds(new(0), 2), key=new(1))
        for suite_shifts in (shifts, (*shifts, Schedule(20)(FLIP)))
    )
    for name in ("return", "length", "success"):
        np.testing.assert_array_equal(plain[name], with_schedule[name][:5])
    assert 20 < with_schedule["length"][6] < with_schedule["length"][0]


def test_late_ice_of_drive_starts_at_step_20_as_its_picture_shows():
    suite = load_suite("Drive")
    shifts = {shift.name: shift(suite.world, 1.0, new(0)) for shift in suite.shifts}
    for name, early in (("ice", 0.06), ("late_ice", 1.0)):
        grip = [float(world_at(shifts[name], t).params.grip) for t in (0, 19, 20, 149)]
        assert grip == pytest.approx([early, early, 0.06, 0.06])
    env_state = jax.jit(suite.env.reset)(new(0), shifts["late_ice"])
    before, dry, icy = (
        render_frame(suite.env, env_state._replace(time=jnp.int32(t))) for t in (0, 19, 20)
    )
    assert (before == dry).all() and (dry != icy).any()
