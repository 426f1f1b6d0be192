"""The others on the road of `envs.worlds.drive.drive`: cars that keep their headway, cars that cross, cones.

All are axis-aligned boxes in 22 fixed slots, those that are not there parked far away, so that
every world has the same shapes. Cars follow the vehicle ahead at a headway in seconds, change
lanes now and then, and see neither cones nor who crosses; who crosses yields to nobody.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from envs.worlds.drive.drive import Params

CARS, CROSSING, SITES, CONES = 7, 3, 3, 4  # CONES in each of SITES
SLOTS = CARS + CROSSING + SITES * CONES
LANE, ROAD, STEP = 4.0, 12.0, 0.2  # m, m, s
LONG, WIDE, CONE = 2.25, 0.9, 0.3  # half extents of a car and of a cone, m
HALF_LONG = np.repeat(np.float32([LONG, WIDE, CONE]), [CARS, CROSSING, SITES * CONES])
HALF_WIDE = np.repeat(np.float32([WIDE, LONG, CONE]), [CARS, CROSSING, SITES * CONES])
DRAWN = 3 * CARS, 4 * CROSSING, 2 * SITES, 2  # random numbers of each, and of the episode
AWAY = -1000.0  # m, where those are who are not there
DRIFT, GAIN, LOSS = 2.0, 2.0, 6.0  # of cars: m/s sideways, m/s^2 faster, m/s^2 slower
WAITING, NOTICE = 10.0, 28.0  # m from the middle of the road; m before them that they set off


class Traffic(NamedTuple):
    """Where everything is and where it is going.

    Attributes:
        x: [22] metres along the road, the centre of each box.
        y: [22] metres to the left of its middle.
        vx: [22] m/s.
        vy: [22] m/s.
        lane: [7] the y that a car is steering for.
        wanted: [7] m/s at which a car would like to go.
        dash: [3] m/s, signed, at which those who wait to cross will.
    """

    x: jax.Array
    y: jax.Array
    vx: jax.Array
    vy: jax.Array
    lane: jax.Array
    wanted: jax.Array
    dash: jax.Array


def sample_traffic(key: jax.Array, params: "Params") -> tuple[jax.Array, Traffic]:
    """Draws an episode's start: the driver's y, who is at x = 0 in any lane, and all others."""
    draws = _uniforms(key, sum(DRAWN))
    cars, crossing, sites, (mirror, own) = jnp.split(draws, np.cumsum(DRAWN)[:-1])
    car_x, car_lane, wanted = _cars(cars.reshape(3, CARS), params)
    lane = jnp.where(mirror < params.mirror, -car_lane, car_lane)
    cross_x, cross_y, dash = _crossing(crossing.reshape(4, CROSSING), params)
    cone_x, cone_y = _cones(sites.reshape(2, SITES), params)
    still = jnp.zeros((SLOTS - CARS,))
    others = Traffic(
        x=jnp.concatenate([car_x, cross_x, cone_x]),
        y=jnp.concatenate([lane, cross_y, cone_y]),
        vx=jnp.concatenate([wanted, still]),
        vy=jnp.zeros((SLOTS,)),
        lane=lane,
        wanted=wanted,
        dash=dash,
    )
    return LANE * (jnp.floor(3 * own) - 1), others


def _uniforms(key: jax.Array, num: int) -> jax.Array:
    """Numbers [num] in [0, 1), in steps of 2^-16, two from each random word."""
    words = jax.random.bits(key, (-(-num // 2),))
    halves = jnp.concatenate([words >> 16, words & 0xFFFF])[:num]
    return halves.astype(jnp.float32) / 2**16


def _cars(draws: jax.Array, params: "Params") -> tuple[jax.Array, jax.Array, jax.Array]:
    """One behind the driver and six ahead; the further right a lane, the slower."""
    where, which, speed = draws
    start = jnp.array([-28.0] + [14.0 + 22.0 * n for n in range(CARS - 1)])
    lane = jnp.floor(3 * which) - 1
    wanted = params.slow + speed * (params.fast - params.slow) + params.left_faster * lane
    return start + 12 * where, LANE * lane, wanted


def _crossing(draws: jax.Array, params: "Params") -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each waits beside the road, on either side, if it is there at all."""
    there, where, side, speed = draws
    sign = jnp.where(side < 0.5, -1.0, 1.0)
    x = 40.0 * jnp.arange(1, CROSSING + 1) + 20 * where
    return jnp.where(there < params.crossing, x, AWAY), WAITING * sign, -sign * (4 + 4 * speed)


def _cones(draws: jax.Array, params: "Params") -> tuple[jax.Array, jax.Array]:
    """Each site closes a share of the road from one side, by a slanting row of cones."""
    where, side = draws
    sign = jnp.where(side < 0.5, -1.0, 1.0)
    along, across = jnp.arange(CONES) * 2.0, jnp.arange(1, CONES + 1) / CONES
    start = 30.0 + 38.0 * jnp.arange(SITES) + 16 * where
    depth = params.closed * ROAD * across - CONE
    y = sign[:, None] * (ROAD / 2 - depth)[None, :]
    x = jnp.where(params.closed > 0, start[:, None] + along[None, :], AWAY)
    return x.reshape(-1), y.reshape(-1)


def step_traffic(
    traffic: Traffic, x: jax.Array, y: jax.Array, key: jax.Array, params: "Params"
) -> Traffic:
    """Everybody after a step of .2 s that began with the driver at (x, y)."""
    cars = Traffic(*(part[:CARS] for part in traffic))
    aim, at_driver = _intentions(cars, x, y, key, params)
    room, clear = jnp.full((CARS,), 1e3), jnp.ones((CARS,), bool)
    others = [(cars.x[n], cars.y[n], cars.lane[n]) for n in range(CARS)] + [(x, y, y)]
    for n, (other_x, other_y, other_lane) in enumerate(others):
        other, ahead = jnp.arange(CARS) != n, other_x - cars.x
        in_way = (jnp.abs(other_y - cars.y) < LANE / 2) | (jnp.abs(other_y - cars.lane) < LANE / 2)
        room = jnp.where(other & in_way & (ahead > 0), jnp.minimum(room, ahead), room)
        there = (jnp.abs(other_y - aim) < LANE / 2) | (jnp.abs(other_lane - aim) < LANE / 2)
        taken = other & there & (jnp.abs(ahead) < params.gap + 2 * LONG)
        clear &= ~(taken & ~at_driver if n == CARS else taken)
    lane = jnp.where(clear & (jnp.abs(cars.lane - cars.y) < 0.1), aim, cars.lane)
    target = jnp.clip((room - 2 * LONG - 2) / params.headway, 0.0, cars.wanted)
    speed = cars.vx + jnp.clip(target - cars.vx, -LOSS * STEP, GAIN * STEP)
    sideways = jnp.clip((lane - cars.y) / STEP, -DRIFT, DRIFT)
    waiting = traffic.x[CARS : CARS + CROSSING] - x > NOTICE
    cross, still = jnp.where(waiting, 0.0, traffic.dash), jnp.zeros((SITES * CONES,))
    vx = jnp.concatenate([speed, jnp.zeros((CROSSING,)), still])
    vy = jnp.concatenate([sideways, cross, still])
    x, y = traffic.x + vx * STEP, traffic.y + vy * STEP
    return traffic._replace(x=x, y=y, vx=vx, vy=vy, lane=lane)


def _intentions(
    cars: Traffic, x: jax.Array, y: jax.Array, key: jax.Array, params: "Params"
) -> tuple[jax.Array, jax.Array]:
    """The lane that each car would like next [7], and whether it is to cut in on the driver [7]."""
    u = jax.random.uniform(key, (CARS,))
    side = jnp.where(u < params.restless, jnp.where(u < params.restless / 2, LANE, -LANE), 0.0)
    own, lead = LANE * jnp.clip(jnp.round(y / LANE), -1, 1), cars.x - x
    beside = jnp.abs(jnp.abs(cars.lane - own) - LANE) < 0.1
    at_driver = (u > 1 - params.cut_in) & beside & (lead > LONG) & (lead < 4 * LONG + 7)
    return jnp.where(at_driver, own, jnp.clip(cars.lane + side, -LANE, LANE)), at_driver
