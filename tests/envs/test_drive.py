"""Drive: sensors, ends, vehicle dynamics and traffic of hand-built scenes, and its shifts."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import load_suite
from envs.shift import with_channel
from envs.world import EnvState, World
from envs.worlds.drive.drive import Drive, Timid, traffic_boxes
from envs.worlds.drive.sensors import ANGLES, REACH, looming
from envs.worlds.drive.state import CARS, CROSSING, SLOTS, Params, State, Traffic
from envs.worlds.drive.traffic import AWAY, sample_traffic
from tests.envs.play import coloured, picture, train_and_score

new = jax.random.key
ENV, HOME, SUITE = Drive(), Params(), load_suite("Drive")
STEP = jax.jit(lambda state, action, seed, params: ENV.transition(state, action, new(seed), params))
OBSERVE = jax.jit(lambda state, params: ENV.observation(state, None, params))
PLACE = jax.jit(jax.vmap(lambda seed, params: sample_traffic(new(seed), params), (0, None)))
BRAKE, COAST, GAS = 0, 3, 6  # + left 0, straight 1, right 2
CAR, CROSSER, CONE = 0, CARS, CARS + CROSSING  # slots


def scene(*others, x=0.0, y=0.0, speed=10.0, drift=0.0, time=0, wanted=8.0) -> State:
    """State of the driver and a few other boxes, (slot, x, y, vx, vy) each."""
    boxes = np.zeros((4, SLOTS), np.float32)
    boxes[0] = AWAY
    for slot, *rest in others:
        boxes[:, slot] = rest
    lane, want = boxes[1, :CARS].copy(), np.full(CARS, wanted, np.float32)
    dash = np.full(CROSSING, 6.0, np.float32)
    traffic = Traffic(*map(jnp.array, (*boxes, lane, want, dash)))
    own = (jnp.float32(part) for part in (x, y, speed, drift))
    return State(*own, traffic, jnp.int32(time))


def drive(state: State, actions, params=HOME) -> list[State]:
    """States before each action and after the last; step t draws its random numbers from key t."""
    states = [state]
    for t, action in enumerate(actions):
        states.append(STEP(states[-1], jnp.int32(action), t, params))
    return states


def ray_readings(state: State, params=HOME) -> tuple[np.ndarray, np.ndarray]:
    """Distances [16] in m, infinite if a ray hits nothing, and closing speeds [16] in m/s."""
    obs = np.asarray(OBSERVE(state, params), float)
    near, closing = obs[5:21], obs[21:]
    return np.where(near > 0, (1 - near) * REACH, np.inf), closing * 20


def ray(degrees: float) -> int:
    return int(np.abs(np.degrees(ANGLES) - degrees).argmin())


# --- observations -----------------------------------------------------------------------------


def test_ray_distances_to_boxes_by_geometry():
    ahead, _ = ray_readings(scene((CAR, 20, 0, 8, 0)))
    assert ahead[ray(0)] == pytest.approx(20 - 2.25, abs=1e-3)
    assert np.isinf(ahead[ray(5)])  # at 17.75 m the ray is 1.55 m aside, a car's half width is .9
    near, _ = ray_readings(scene((CAR, 10, 0, 8, 0)))
    assert near[ray(5)] == pytest.approx(7.75 / np.cos(np.radians(5)), abs=1e-3)
    beside, _ = ray_readings(scene((CAR, 0, 4, 8, 0), (CROSSER, -20, 0, 0, 0), (CONE, 9, -9, 0, 0)))
    assert beside[ray(90)] == pytest.approx(4 - 0.9, abs=1e-3)
    assert beside[ray(180)] == pytest.approx(20 - 0.9, abs=1e-3)  # a crossing car is sideways
    assert beside[ray(-45)] == pytest.approx((9 - 0.3) * 2**0.5, abs=1e-3)
    assert np.isinf(beside[[ray(0), ray(-90)]]).all()


def nearest_edge(boxes: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
    """Nearest edge of boxes [N, 6] on a ray -> (distance, closing speed)."""
    nearest = np.inf, 0.0
    for x, y, long, wide, *velocity in boxes:
        corners = [(x + i * long, y + j * wide) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            along = np.subtract(end, start)
            across = direction[0] * along[1] - direction[1] * along[0]
            if abs(across) < 1e-9:
                continue
            t = (start[0] * along[1] - start[1] * along[0]) / across
            u = (start[0] * direction[1] - start[1] * direction[0]) / across
            if 0 < t < min(nearest[0], REACH) and 0 <= u <= 1:
                nearest = t, -direction @ np.array(velocity)
    return nearest


def test_rays_agree_with_intersections_of_edges_in_crowded_scenes():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(20):
        positions = rng.uniform((-30, -12), (50, 12), (SLOTS, 2))
        positions[:, 0] += np.where(np.abs(positions[:, 0]) < 4, 8, 0)  # no box contains the driver
        others = np.column_stack([np.arange(SLOTS), positions, rng.uniform(-9, 9, (SLOTS, 2))])
        rows = [(int(slot), *rest) for slot, *rest in others]
        state = scene(*rows, speed=rng.uniform(0, 18), drift=rng.uniform(-3, 3))
        distance, closing = ray_readings(state)
        boxes = np.stack(traffic_boxes(state), 1).astype(float)
        for r, angle in enumerate(ANGLES):
            expected, speed = nearest_edge(boxes, np.array([np.cos(angle), np.sin(angle)]))
            assert distance[r] == pytest.approx(expected, abs=2e-3)
            assert closing[r] == pytest.approx(speed, abs=2e-3)
            hits += np.isfinite(expected)
    assert hits > 100


def test_closing_speeds_are_positive_for_approaching_boxes():
    others = (CAR, 20, 0, 4, 0), (1, -20, 0, 13, 0), (2, 0, 4, 0, -2)
    _, closing = ray_readings(scene(*others, speed=10))
    assert closing[[ray(0), ray(180), ray(90), ray(-90)]] == pytest.approx([6, 3, 2, 0])
    _, closing = ray_readings(scene((CAR, 20, 0, 14, 0), speed=10, drift=0))
    assert closing[ray(0)] == pytest.approx(-4)


def test_a_ray_sees_the_nearest_box_and_none_beyond_the_fog():
    state = scene((CAR, 40, 0, 2, 0), (1, 20, 0, 9, 0))
    distance, closing = ray_readings(state)
    assert (distance[0], closing[0]) == (pytest.approx(17.75, abs=1e-3), pytest.approx(1))
    for sight, visible in ((17.8, True), (17.7, False), (4.0, False)):
        foggy, empty = (OBSERVE(s, HOME._replace(sight=sight)) for s in (state, scene()))
        assert (foggy == empty).all() != visible
        if visible:  # readings are not rescaled by the range of sight
            np.testing.assert_array_equal(foggy, OBSERVE(state, HOME))


def test_the_own_state_is_observed_in_constant_units():
    state = scene(x=75.0, y=-2.55, speed=9.0, drift=1.5, time=30)
    own = [0.5, -0.5, 0.5, 0.5, 0.2]
    np.testing.assert_allclose(OBSERVE(state, HOME)[:5], own, atol=1e-6)
    assert Timid().observation(state, None, HOME)[3] == pytest.approx(75 / 220)
    assert np.all(OBSERVE(state, HOME)[5:] == 0)


@pytest.mark.parametrize(
    ("others", "seconds"),
    [
        ([(CAR, 24.5, 0, 5, 0)], 4.0),  # 20 m between bumpers, closing at 5 m/s
        ([(CAR, 24.5, 0, 12, 0)], 10.0),  # moves away
        ([(CAR, 24.5, 1.81, 5, 0)], 10.0),  # passes
        ([(CAR, -14.5, 0, 15, 0)], 2.0),  # from behind
        ([(CROSSER, 20, -9.15, 0, 4)], 1.685),  # reaches the path when the driver does, 16.85 m on
        ([(CROSSER, 20, -30.0, 0, 4)], 10.0),  # too late
        ([(CAR, 24.5, 0, 5, 0), (1, 12.25, 0, 9, 0)], 4.0),
    ],
)
def test_time_to_collision_assumes_constant_speeds(others, seconds):
    state = scene(*others, speed=10.0)
    info = ENV.transition_info(state, 0, state, HOME)
    assert info["collision"] == pytest.approx(seconds, abs=1e-3)
    assert info["harm"] == 0


def test_looming_rises_for_approaching_boxes_but_not_in_fog():
    state = scene((CAR, 22.25, 0, 5, 0), speed=10.0)  # 20 m from the sensor, 4 s
    assert looming(OBSERVE(state, HOME)) == pytest.approx(0.2, abs=1e-4)
    assert looming(OBSERVE(state, HOME._replace(sight=10.0))) == 0
    receding = OBSERVE(scene((CAR, 22.25, 0, 15, 0), speed=10.0), HOME)
    beside = OBSERVE(scene((CAR, 0, 4, 0, -3), speed=10.0), HOME)
    assert looming(receding) == looming(beside) == 0
    assert looming(jnp.stack([receding, beside])).shape == (2,)


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "crash"),
    [
        ((CAR, 4.49, 0), True),
        ((CAR, 4.51, 0), False),
        ((CAR, -4.49, 1.79), True),
        ((CAR, -4.49, 1.81), False),
        ((CROSSER, 3.14, 3.14), True),
        ((CROSSER, 3.16, 3.14), False),
        ((CROSSER, 3.14, 3.16), False),
        ((CONE, 2.54, -1.19), True),
        ((CONE, 2.56, -1.19), False),
        ((CONE, 2.54, -1.21), False),
    ],
)
def test_overlapping_boxes_crash_and_near_misses_do_not(other, crash):
    state = scene((*other, 0, 0))
    assert bool(ENV.terminal(state, None, HOME)) == crash
    assert ENV.reward(state, 0, state, None, HOME) == -float(crash)
    assert ENV.transition_info(state, 0, state, HOME)["harm"] == float(crash)


@pytest.mark.parametrize(
    ("fields", "end", "reward"),
    [
        ({"y": 5.09}, False, 0),
        ({"y": 5.11}, True, -1),
        ({"y": -5.11}, True, -1),
        ({"x": 149.9}, False, 0),
        ({"x": 150.0}, True, 1),
        ({"x": 150.0, "y": 5.2}, True, -1),
        ({"time": 149}, False, 0),
        ({"time": 150}, True, 0),
    ],
)
def test_an_episode_ends_off_the_road_at_the_goal_or_out_of_time(fields, end, reward):
    state = scene(**fields)
    assert bool(ENV.terminal(state, None, HOME)) == end
    assert ENV.reward(state, 0, state, None, HOME) == reward


def test_running_out_of_time_terminates_and_does_not_truncate():
    state = scene(time=149)
    env_state = EnvState(World(HOME), state, OBSERVE(state, HOME), None, jnp.int32(149))
    _, transition = jax.jit(ENV.step)(new(0), env_state, jnp.int32(COAST))
    assert transition.terminated and not transition.truncated
    assert (transition.reward, transition.info["harm"]) == (0, 0)
    assert ENV.success(jnp.array([1.0, 0.0, -1.0]), jnp.ones(3)).tolist() == [True, False, False]


# --- the car ----------------------------------------------------------------------------------


@pytest.mark.parametrize("grip", [1.0, 0.5, 0.07])
@pytest.mark.parametrize("speed", [18.0, 6.0])
def test_brakes_stop_within_v_squared_over_2a(speed, grip):
    a = 5.0 * grip
    steps = int(np.ceil(speed / a / 0.2)) + 1
    last = drive(scene(speed=speed), [BRAKE + 1] * steps, HOME._replace(grip=grip))[-1]
    assert last.speed == 0
    assert last.x == pytest.approx(speed**2 / (2 * a), abs=a * 0.2**2)


def test_gas_coasting_and_the_highest_speed():
    gas = drive(scene(speed=2.0), [GAS + 1] * 30)
    np.testing.assert_allclose([s.speed for s in gas[:3]], [2.0, 2.8, 3.6], rtol=1e-6)
    assert gas[-1].speed == 18
    coast = drive(scene(speed=7.0), [COAST + 1] * 5)[-1]
    assert (coast.speed, coast.x) == (7, pytest.approx(7))
    other = drive(scene(speed=2.0), [GAS + 1, BRAKE + 1], HOME._replace(gas=3.0, brake=2.0))
    np.testing.assert_allclose([s.speed for s in other], [2.0, 2.6, 2.2], rtol=1e-6)


def test_sideways_speed_is_limited_by_grip_and_speed():
    left, right = (drive(scene(speed=10.0), [COAST + w] * 3)[-1] for w in (0, 2))
    assert (left.y, left.drift, right.y) == (pytest.approx(1.8), 3, -left.y)
    straight = drive(left, [COAST + 1])[-1]
    assert straight.drift == 0
    icy = drive(scene(speed=10.0), [COAST] * 3, HOME._replace(grip=0.1))
    np.testing.assert_allclose([s.drift for s in icy], [0, 0.3, 0.6, 0.9], rtol=1e-5)
    assert drive(scene(speed=0.0), [COAST] * 3)[-1].y == 0
    assert drive(scene(speed=2.5), [COAST])[-1].drift == pytest.approx(1.5)


@pytest.mark.parametrize("grip", [1.0, 0.3])
def test_finer_controls_contain_the_nine_actions_and_lie_between_them(grip):
    fine, params = Drive(levels=5), HOME._replace(grip=grip)
    state = scene((CAR, 30, 0, 8, 0), speed=10.0, drift=0.7)

    def after(env):
        actions = jnp.arange(env.spec.num_actions)
        step = jax.jit(jax.vmap(env.transition, (None, 0, None, None)))
        grid = jax.tree.map(np.asarray, step(state, actions, new(0), params))
        return jax.tree.map(
            lambda leaf: leaf.reshape(env.levels, env.levels, *leaf.shape[1:]), grid
        )

    coarse, finer = after(ENV), after(fine)
    for a, b in zip(jax.tree.leaves(coarse), jax.tree.leaves(finer), strict=True):
        assert a.tobytes() == b[::2, ::2].tobytes()
    faster = np.array([0.5, 0.5, 0.4, 0.4]) * grip  # half of 5 and of 4 m/s^2 in .2 s
    np.testing.assert_allclose(np.diff(finer.speed[:, 2]), faster, rtol=1e-4)
    assert (np.diff(finer.drift, axis=1) <= 0).all()  # from left to right
    if grip == 1:
        np.testing.assert_allclose(finer.drift[2], [3, 1.5, 0, -1.5, -2.3], atol=1e-6)


def test_three_levels_keep_the_shapes_of_the_class_and_others_get_their_own():
    fine = Timid(levels=7)
    assert ENV.spec is Drive.spec and ENV.action_space is Drive.action_space
    assert (fine.spec.num_actions, fine.action_space.n, fine.spec.obs_dim) == (49, 49, 37)
    assert Timid.spec.num_actions == 9


@pytest.mark.parametrize("levels", [1, 2, 4, -3, 3.0, "3", None, True])
def test_other_numbers_of_levels_are_refused(levels):
    with pytest.raises(
        ValueError, match=r"^Timid: levels=.*, expected an odd number such as 3 or 5$"
    ):
        Timid(levels=levels)


# --- the others -------------------------------------------------------------------------------


@pytest.mark.parametrize("headway", [1.5, 0.3])
def test_cars_keep_their_headway_to_the_car_ahead_and_to_the_driver(headway):
    calm = HOME._replace(headway=headway, restless=0.0)
    state = scene((0, 60, 4, 8, 0), (1, 90, 4, 6, 0), (2, -40, -4, 8, 0), y=-4.0, speed=5.0)
    state = state._replace(traffic=state.traffic._replace(wanted=jnp.array([9.0, 6] + [9.0] * 5)))
    states = drive(state, [COAST + 1] * 140, calm)
    for ahead, behind, speed in ((lambda s: s.traffic.x[1], 0, 6.0), (lambda s: s.x, 2, 5.0)):
        room = [float(ahead(s) - s.traffic.x[behind]) - 4.5 for s in states]
        assert min(room) > 1.0
        assert room[-1] == pytest.approx(2 + headway * speed, abs=0.6)
        assert states[-1].traffic.vx[behind] == pytest.approx(speed, abs=0.2)


def test_cars_stop_behind_a_standing_driver():
    states = drive(scene((0, -50, 0, 8, 0), speed=0.0), [COAST + 1] * 60, HOME._replace(restless=0))
    assert states[-1].traffic.vx[0] == pytest.approx(0, abs=0.05)
    assert -7.5 < states[-1].traffic.x[0] < -4.5


def starts(params, seeds=256):
    """Starts of many episodes -> (the driver's y [seeds], Traffic [seeds, ...])."""
    return PLACE(jnp.arange(seeds), params)


@partial(jax.jit, static_argnums=1)
def rollouts(params, seeds, speed):
    """States [150, seeds] of episodes in which the driver keeps lane and speed."""

    def episode(seed):
        state = ENV.initial(new(seed), params)._replace(speed=speed)
        return jax.lax.scan(step, state, seeds + 150 * seed + jnp.arange(150))[1]

    def step(state, seed):
        return (state := STEP(state, COAST + 1, seed, params)), state

    return jax.vmap(episode, out_axes=1)(jnp.arange(seeds))


def test_cars_never_overlap_and_stay_on_the_road():
    state = rollouts(HOME, 64, 6.0)
    x, y = np.asarray(state.traffic.x)[..., :CARS], np.asarray(state.traffic.y)[..., :CARS]
    distance = np.abs(x[..., :, None] - x[..., None, :]) + 99 * np.eye(CARS)
    same_lane = np.abs(y[..., :, None] - y[..., None, :]) < 1.8
    assert np.where(same_lane, distance, 99).min() > 4.5
    assert np.abs(y).max() <= 4
    moved = np.abs(np.diff(np.asarray(state.traffic.lane), axis=0)) > 0
    assert 0.001 < moved.mean() < 0.005  # restless is .005 a step, if there is room
    assert set(np.unique(np.asarray(state.traffic.lane))) == {-4.0, 0.0, 4.0}


def test_left_lanes_are_faster_and_mirror_reflects_the_traffic():
    y, traffic = starts(HOME)
    lane, wanted = np.asarray(traffic.lane), np.asarray(traffic.wanted)
    means = [wanted[lane == at].mean() for at in (-4, 0, 4)]
    np.testing.assert_allclose(means, [4.5, 8.0, 11.5], atol=0.2)
    assert set(np.unique(y)) == {-4.0, 0.0, 4.0}
    mirrored_y, mirrored_traffic = starts(HOME._replace(mirror=1.0))
    np.testing.assert_array_equal(mirrored_y, y)
    flipped = traffic._replace(y=traffic.y.at[:, :CARS].multiply(-1), lane=-traffic.lane)
    jax.tree.map(np.testing.assert_array_equal, mirrored_traffic, flipped)
    _, half = starts(HOME._replace(mirror=0.5))
    mirrored = (half.lane == -traffic.lane).all(1) & (traffic.lane != 0).any(1)
    assert mirrored.mean() == pytest.approx(0.5, abs=0.1)


def test_a_mirrored_scene_stays_mirrored():
    calm = HOME._replace(restless=0.0)
    state = scene((0, 30, 4, 8, 0), (1, 40, 4, 5, 0), (2, 20, 0, 5, 0), (CROSSER, 50, 9, 0, 0))
    state = state._replace(traffic=state.traffic._replace(lane=state.traffic.lane.at[2].set(4.0)))
    signs = {"y": -state.y, "drift": -state.drift}
    mirrored_traffic = {name: -getattr(state.traffic, name) for name in ("y", "vy", "lane", "dash")}
    mirrored = state._replace(**signs, traffic=state.traffic._replace(**mirrored_traffic))
    both = drive(state, [GAS] * 5, calm), drive(mirrored, [GAS + 2] * 5, calm)
    for a, b in zip(*both, strict=True):
        np.testing.assert_array_equal(a.traffic.x, b.traffic.x)
        np.testing.assert_array_equal(a.traffic.y, -b.traffic.y)
        assert (a.x, a.y) == (b.x, -b.y)


def test_crossing_cars_wait_for_the_driver_and_never_give_way():
    state = scene((CROSSER, 50, -10, 0, 0), (CROSSER + 1, 90, -10, 0, 0), speed=10.0)
    ys = np.array([s.traffic.y[CROSSER : CROSSER + 2] for s in drive(state, [COAST + 1] * 30)])
    distance = 50 - 28  # metres, reached after 2.2 s
    assert (ys[: int(distance / 2), 0] == -10).all() and (ys[:, 1] == -10).all()
    np.testing.assert_allclose(np.diff(ys[13:, 0]), 6 * 0.2, rtol=1e-4)
    assert ys[-1, 0] > 10
    near, far = (scene((CROSSER, 30, -1, 0, 6), speed=speed) for speed in (10.0, 2.0))
    paths = [[s.traffic.y[CROSSER] for s in drive(s, [COAST + 1] * 3)] for s in (near, far)]
    assert paths[0] != paths[1]  # beyond 28 m from the driver they wait


@pytest.mark.parametrize("crossing", [0.0, 0.5, 1.0])
def test_the_number_of_crossing_cars_is_set_by_crossing(crossing):
    _, traffic = starts(HOME._replace(crossing=crossing))
    x, y, dash = map(np.asarray, (traffic.x[:, 7:10], traffic.y[:, 7:10], traffic.dash))
    assert (x > 0).mean() == pytest.approx(crossing, abs=0.06)
    assert (np.abs(y) == 10).all() and (np.sign(y) == -np.sign(dash)).all()
    assert (dash > 0).mean() == pytest.approx(0.5, abs=0.06)
    assert np.abs(dash).min() >= 4 and np.abs(dash).max() <= 8


@pytest.mark.parametrize("closed", [0.0, 0.1, 0.3, 0.45])
def test_cones_close_a_share_of_the_road_and_leave_the_rest(closed):
    _, traffic = starts(HOME._replace(closed=closed))
    x = np.asarray(traffic.x)[:, CONE:].reshape(-1, 3, 4)
    y = np.asarray(traffic.y)[:, CONE:].reshape(-1, 3, 4)
    if closed == 0:
        assert (x == AWAY).all()
        return
    assert (np.diff(x, axis=2) == 2).all() and x.min() > 25 and x.max() < 150
    assert (x[:, 1:, 0] - x[:, :-1, -1]).min() > 12  # room to change sides
    side = np.sign(y[..., :1])
    inner, outer = (side * y - 0.3), (side * y + 0.3)
    np.testing.assert_allclose(inner[..., -1], 6 - 12 * closed, atol=1e-4)  # the rest is open
    holes = np.append(6 - outer[..., :1], inner[..., :-1] - outer[..., 1:], -1)
    assert holes.max() < 1.8  # no car slips between two of them, or between them and the edge
    assert (side > 0).mean() == pytest.approx(0.5, abs=0.06)


# --- the shifts -------------------------------------------------------------------------------


def shifted(name: str, severity=1.0) -> World:
    shift = next(shift for shift in SUITE.shifts if shift.name == name)
    return shift(SUITE.world, severity, new(0))


def test_aggressive_cars_cut_in_and_tailgate():
    shares = []
    for severity in (0.0, 0.5, 1.0):
        state = rollouts(shifted("aggressive", severity).params, 64, 8.0)
        ahead = np.asarray(state.traffic.x[..., :CARS] - state.x[..., None])
        lane = np.abs(np.asarray(state.traffic.y[..., :CARS] - state.y[..., None])) < 1.8
        shares.append((lane & (ahead > 0) & (ahead < 12)).any(-1).mean())
    assert shares[0] < 0.6 * shares[1] and shares[1] < shares[2]


CHANGED = {
    **{"cones": {"closed"}, "cross": {"crossing"}, "ice": {"grip"}, "fog": {"sight"}},
    **{name: {name} for name in ("mirror", "noise", "dropout", "delay", "flip")},
    **{"aggressive": {"cut_in", "headway", "gap"}, "late_ice": set()},  # it is scheduled
}


@pytest.mark.parametrize("shift", SUITE.shifts, ids=lambda shift: shift.name)
def test_each_shift_changes_its_own_fields_only(shift):
    home, world = with_channel(SUITE.world), shift(SUITE.world, 1.0, new(0))
    before, after = ({**w.params._asdict(), **w.channel._asdict()} for w in (home, world))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == set().union(*(CHANGED[part] for part in shift.name.split("|")))


def test_timid_has_a_longer_road_and_a_slower_car():
    env = Timid()
    params = env.get_default_params(grip=0.5)
    assert (params.gas, params.brake, params.start, params.grip, env.goal) == (3, 6, 10, 0.5, 220)
    assert not env.terminal(scene(x=219.0), None, params)
    assert env.terminal(scene(x=220.0), None, params)
    assert load_suite("Timid").world.params.gas == 3
    assert jax.jit(env.initial)(new(0), params).speed == 10


# --- the picture ------------------------------------------------------------------------------


def image_of(state: State, **params) -> np.ndarray:
    return picture(ENV, state, HOME._replace(**params))


def test_the_picture_shows_road_traffic_and_weather():
    from envs.worlds.drive import render as colours

    metre, driver_x = colours.SCALE, colours.DRIVER_X
    image = image_of(scene(x=40.0))
    assert image.shape == (360, 640, 3)
    car = coloured(image[:256], colours.DRIVER)
    assert np.ptp(car[:, 1]) == pytest.approx(4.5 * metre, abs=4)
    moved = coloured(image_of(scene(x=90.0, y=4.0))[:256], colours.DRIVER)
    np.testing.assert_allclose(moved.mean(0) - car.mean(0), [-4 * metre, 0], atol=3)  # it scrolls
    cones = coloured(image_of(scene((CONE, 60, 2, 0, 0), x=40.0)), colours.ORANGE)
    assert len(cones) > 5 and cones[:, 1].mean() == pytest.approx(driver_x + 20 * metre, abs=3)
    assert len(coloured(image, colours.ORANGE)) == 0
    crosser = image_of(scene((CROSSER, 60, -10, 0, 0), x=40.0))
    assert len(coloured(crosser, colours.CROSSER)) > 150
    hit = coloured(image_of(scene((CAR, 60, 0, 8, 0), x=40.0))[:256], colours.HIT)
    assert hit[:, 1].mean() == pytest.approx(driver_x + 17.75 * metre, abs=4)
    assert len(coloured(image_of(scene(x=40.0), grip=0.0), colours.ICE)) > 1e4
    assert image_of(scene(x=40.0), sight=10.0)[:256, 400:].mean() > image[:256, 400:].mean() + 30
    assert len(coloured(image, colours.BAD)) == 0
    assert len(coloured(image_of(scene((CAR, 43, 0, 0, 0), x=40.0))[:256], colours.BAD)) > 200
    road = {"cut_in": 0.1, "mirror": 1.0, "closed": 0.1, "crossing": 0.5}
    for name, value in road.items():
        assert (image_of(scene(), **{name: value}) != image_of(scene())).any()


@pytest.mark.parametrize(
    ("fields", "ending"),
    [({"x": 151.0}, "SAFE"), ({"y": 5.2}, "BAD"), ({"time": 150}, "INK")],
)
def test_the_picture_shows_how_the_episode_ended(fields, ending):
    from envs.worlds.drive import render as colours

    corner = image_of(scene(**fields))[310:, 500:]
    assert len(coloured(corner, getattr(colours, ending))) > 30
    assert len(coloured(image_of(scene())[310:, 500:], getattr(colours, ending))) == 0


# --- learning ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_ppo_learns_to_arrive():
    with jax.debug_key_reuse(False):  # `vmap` over split keys counts as a reuse
        scores = train_and_score(replace(SUITE, shifts=()), seeds=4)
    assert scores["none", 0.0]["success"].mean() > 0.9
