"""Scheduled shifts: onset, ramp, and that everything else is unchanged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import load_suite
from envs.adapters.gymnasium_env import render_frame
from envs.contract import MAY_TOUCH, violations
from envs.schedule import NEVER, Schedule, unscheduled
from envs.shift import Shift, ramp, scale, swap, with_channel
from envs.suite import Suite
from envs.world import ScheduledParams, World, world_at
from envs.worlds.classic.cartpole import CartPole, Params
from runs.engine.evaluate import evaluate
from runs.engine.train import FAST_COMPILE

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


def test_a_shift_starts_at_its_onset_and_stays():
    world = Schedule(4)(FORCE)(HOME, 1.0, new(0))
    assert forces(world, 8) == [10.0] * 4 + [pytest.approx(2.0)] * 4
    assert forces(Schedule(0)(FORCE)(HOME, 1.0, new(0)), 2) == [pytest.approx(2.0)] * 2


@pytest.mark.parametrize("severity", [0.5, 1.0])
def test_a_shift_ramps_linearly_from_its_onset(severity):
    world = Schedule(2, ramp=3)(FORCE)(HOME, severity, new(0))
    end = 10.0 - 8.0 * severity
    expected = [10 + (end - 10) * share for share in (0, 0, 0.25, 0.5, 0.75, 1, 1)]
    np.testing.assert_allclose(forces(world, 7), expected, rtol=1e-6)


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
    scheduled, home, shifted = (
        episode(world, 0)
        for world in (
            Schedule(7)(FORCE)(HOME, 1.0, new(0)),
            unscheduled(with_channel(HOME)),
            unscheduled(FORCE(HOME, 1.0, new(0))),
        )
    )
    for part in ("obs", "states"):
        np.testing.assert_array_equal(scheduled[part][:7], home[part][:7])
        assert (scheduled[part][7:] != home[part][7:]).any(-1).all()
    env_state = ENV.reset(new(0), FORCE(HOME, 1.0, new(0)))._replace(state=scheduled["states"][6])
    after, _ = jax.jit(ENV.step)(new(9), env_state, jnp.int32(1))
    np.testing.assert_allclose(after.state, scheduled["states"][7], rtol=1e-6)
    assert (shifted["obs"][0] != home["obs"][0]).any()


@pytest.mark.parametrize("shift", [FORCE, NOISE, MOON, FORCE | NOISE], ids=lambda s: s.name)
def test_the_first_observation_is_unshifted(shift):
    scheduled = Schedule(0)(shift)(HOME, 1.0, new(0))
    home = with_channel(HOME)
    assert jax.tree.leaves(scheduled._replace(scheduled=None)) == jax.tree.leaves(home)
    np.testing.assert_array_equal(
        episode(scheduled, 3)["first"], episode(unscheduled(home), 3)["first"]
    )


# --- unchanged worlds -------------------------------------------------------------------------


def test_at_severity_0_the_onset_is_never():
    scheduled = Schedule(4, 2)(FORCE)(HOME, 0.0, new(0))
    assert int(scheduled.scheduled.onset) == NEVER
    for leaf, expected in zip(
        *map(jax.tree.leaves, (scheduled, unscheduled(with_channel(HOME)))), strict=True
    ):
        assert np.asarray(leaf).tobytes() == np.asarray(expected).tobytes()


def test_an_empty_schedule_does_not_change_an_episode():
    plain, with_schedule = (
        episode(world, 5) for world in (with_channel(HOME), unscheduled(with_channel(HOME)))
    )
    jax.tree.map(np.testing.assert_array_equal, plain, with_schedule)


def test_world_at_returns_a_world_without_schedule_as_it_is():
    world = with_channel(HOME)
    assert world_at(world, jnp.int32(3)) is world
    scheduled = unscheduled(world)
    assert unscheduled(scheduled) is scheduled


SCHEDULED_SHIFTS = [
    Schedule(10)(FORCE),
    Schedule(10, ramp=5)(NOISE),
    Schedule(3)(FORCE | NOISE),
    Schedule(0)(MOON),
    Schedule(2)(FORCE) | NOISE,
    NOISE | Schedule(2)(FORCE),
]


@pytest.mark.parametrize("shift", SCHEDULED_SHIFTS, ids=lambda shift: shift.name)
def test_a_scheduled_shift_keeps_the_contract(shift):
    assert violations(shift, ENV, HOME) == []


def test_scheduled_shifts_have_late_names_and_the_family_time():
    assert [(shift.name, shift.family) for shift in SCHEDULED_SHIFTS[:3]] == [
        ("late_force", "time|dynamics"),
        ("late_noise", "time|sensor"),
        ("late_force|noise", "time|dynamics|sensor"),
    ]
    assert MAY_TOUCH["time"] == {"scheduled"}


@pytest.mark.parametrize(
    ("shift", "complaint"),
    [
        (Schedule(ENV.horizon * 10)(FORCE), "but nothing in a rollout"),
        (Schedule(2)(Shift("s", "sensor", FORCE.fn)), "sensor must not touch states"),
        (Schedule(2)(Shift("s", "dynamics", lambda w, s, k: w)), "but nothing in a rollout"),
        (
            Shift("s", "dynamics", Schedule(2)(FORCE).fn),
            "a shift of family dynamics must not touch scheduled",
        ),
        (Shift("s", "time", FORCE.fn), "a shift of family time must not touch params"),
    ],
)
def test_a_scheduled_shift_that_breaks_the_contract_is_detected(shift, complaint):
    assert any(complaint in line for line in violations(shift, ENV, HOME))


def test_a_composition_also_shifts_the_scheduled_world():
    lighter = scale("gravity", "dynamics", "params.gravity", to=0.5)
    for shift in (lighter | Schedule(2)(FORCE), Schedule(2)(FORCE) | lighter):
        world = shift(HOME, 1.0, new(0))
        assert [float(world_at(world, jnp.int32(t)).params.gravity) for t in (0, 5)] == [
            pytest.approx(4.9)
        ] * 2
        assert forces(world, 3) == [10.0, 10.0, pytest.approx(2.0)]


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


def test_worlds_of_a_suite_without_scheduled_shifts_have_no_schedule():
    assert small_suite(FORCE, NOISE).worlds(new(0), 2).scheduled is None


def test_all_points_of_a_suite_have_one_structure():
    plain, with_schedule = (
        small_suite(*s).worlds(new(0), 3) for s in ((FORCE,), (FORCE, Schedule(9, 4)(NOISE)))
    )
    assert {leaf.shape for leaf in jax.tree.leaves(with_schedule)} == {(5, 3)}
    np.testing.assert_array_equal(with_schedule.scheduled.onset[:, 0], [NEVER] * 3 + [9, 9])
    np.testing.assert_array_equal(with_schedule.scheduled.ramp[:, 0], [0] * 3 + [4, 4])
    for leaf_plain, leaf_scheduled in zip(
        *(map(jax.tree.leaves, (plain.params, with_schedule.params))), strict=True
    ):
        np.testing.assert_array_equal(leaf_plain, leaf_scheduled[:3])
    unscheduled_points = jax.tree.map(lambda leaf: leaf[:3], with_schedule)
    assert jax.tree.all(
        jax.tree.map(
            np.array_equal, unscheduled_points[:2], tuple(unscheduled_points.scheduled[:2])
        )
    )


class LeaningPolicy:
    """CartPole agent that pushes to the side of angle + state * angular velocity."""

    def act(self, state, key, obs):
        return (obs[..., 2] + state * obs[..., 3] > 0).astype(jnp.int32)


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


def test_late_ice_of_drive_starts_at_step_20():
    suite = load_suite("Drive")
    worlds = suite.worlds(new(0), 1)
    grip = {
        (point.shift, point.severity): [
            float(world_at(jax.tree.map(lambda leaf, i=i: leaf[i, 0], worlds), t).params.grip)
            for t in (0, 19, 20, 149)
        ]
        for i, point in enumerate(suite.points())
        if point.shift in ("none", "ice", "late_ice") and point.severity in (0.0, 1.0)
    }
    ice = pytest.approx(0.06)
    assert grip == {
        ("none", 0.0): [1.0] * 4,
        ("ice", 1.0): [ice] * 4,
        ("late_ice", 1.0): [1.0, 1.0, ice, ice],
    }


def test_the_picture_shows_the_world_of_its_time():
    suite = load_suite("Drive")
    late_ice = next(shift for shift in suite.shifts if shift.name == "late_ice")
    env_state = jax.jit(suite.env.reset)(new(0), late_ice(suite.world, 1.0, new(0)))
    before, dry, icy = (
        render_frame(suite.env, env_state._replace(time=jnp.int32(t))) for t in (0, 19, 20)
    )
    assert (before == dry).all() and (dry != icy).any()
