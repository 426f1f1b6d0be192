"""Traffic of Drive: cars that keep a headway and change lanes, crossing cars, cones.

All are axis-aligned boxes in 22 fixed slots; absent ones are parked far away, so that every world
has the same shapes. Cars follow the vehicle ahead at a headway in seconds, change lanes at random
and ignore cones and crossing cars; crossing cars never give way.
"""

import jax
import jax.numpy as jnp
import numpy as np

from envs.worlds.drive.state import (
    CARS,
    CONE,
    CONES,
    CROSSING,
    LANE,
    LONG,
    ROAD,
    SITES,
    SLOTS,
    STEP,
    Params,
    Traffic,
)

NUM_DRAWS = 3 * CARS, 4 * CROSSING, 2 * SITES, 2  # random numbers of each, of the episode
AWAY = -1000.0  # m, x of absent vehicles and cones
DRIFT, GAIN, LOSS = 2.0, 2.0, 6.0  # of cars: m/s sideways, m/s^2 faster, m/s^2 slower
WAITING, NOTICE = (
    10.0,
    28.0,
)  # m: |y| of waiting crossing cars; driver's distance at which they set off


def sample_traffic(key: jax.Array, params: Params) -> tuple[jax.Array, Traffic]:
    """Draws the driver's initial y (at x = 0, in any lane) and the initial traffic."""
    draws = _uniforms(key, sum(NUM_DRAWS))
    cars, crossing, sites, (mirror, driver_lane) = jnp.split(draws, np.cumsum(NUM_DRAWS)[:-1])
    car_x, car_lane, wanted = _cars(cars.reshape(3, CARS), params)
    lane = jnp.where(mirror < params.mirror, -car_lane, car_lane)
    cross_x, cross_y, dash = _crossing(crossing.reshape(4, CROSSING), params)
    cone_x, cone_y = _cones(sites.reshape(2, SITES), params)
    still = jnp.zeros((SLOTS - CARS,))
    traffic = Traffic(
        x=jnp.concatenate([car_x, cross_x, cone_x]),
        y=jnp.concatenate([lane, cross_y, cone_y]),
        vx=jnp.concatenate([wanted, still]),
        vy=jnp.zeros((SLOTS,)),
        lane=lane,
        wanted=wanted,
        dash=dash,
    )
    return LANE * (jnp.floor(3 * driver_lane) - 1), traffic


def _uniforms(key: jax.Array, num: int) -> jax.Array:
    """Samples [num] uniform numbers in [0, 1), multiples of 2^-16, two from each 32-bit word."""
    words = jax.random.bits(key, (-(-num // 2),))
    halves = jnp.concatenate([words >> 16, words & 0xFFFF])[:num]
    return halves.astype(jnp.float32) / 2**16


def _cars(draws: jax.Array, params: Params) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Initial x, y and desired speed [7] of cars: one behind the driver and six ahead."""
    along, which, speed = draws
    start = jnp.array([-28.0] + [14.0 + 22.0 * n for n in range(CARS - 1)])
    lane = jnp.floor(3 * which) - 1
    wanted = params.slow + speed * (params.fast - params.slow) + params.left_faster * lane
    return start + 12 * along, LANE * lane, wanted


def _crossing(draws: jax.Array, params: Params) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Initial x, y and crossing speed [3] of cars that wait on either side of the road."""
    present, along, side, speed = draws
    sign = jnp.where(side < 0.5, -1.0, 1.0)
    x = 40.0 * jnp.arange(1, CROSSING + 1) + 20 * along
    return jnp.where(present < params.crossing, x, AWAY), WAITING * sign, -sign * (4 + 4 * speed)


def _cones(draws: jax.Array, params: Params) -> tuple[jax.Array, jax.Array]:
    """Positions x, y [12] of cones: at each site a slanting row closes one side of the road."""
    offset, side = draws
    sign = jnp.where(side < 0.5, -1.0, 1.0)
    along, across = jnp.arange(CONES) * 2.0, jnp.arange(1, CONES + 1) / CONES
    start = 30.0 + 38.0 * jnp.arange(SITES) + 16 * offset
    depth = params.closed * ROAD * across - CONE
    y = sign[:, None] * (ROAD / 2 - depth)[None, :]
    x = jnp.where(params.closed > 0, start[:, None] + along[None, :], AWAY)
    return x.reshape(-1), y.reshape(-1)


def step_traffic(
    traffic: Traffic, x: jax.Array, y: jax.Array, key: jax.Array, params: Params
) -> Traffic:
    """Advances all traffic by .2 s, given the driver's position (x, y) before the step."""
    cars = Traffic(*(part[:CARS] for part in traffic))
    aim, at_driver = _intentions(cars, x, y, key, params)
    room, clear = jnp.full((CARS,), 1e3), jnp.ones((CARS,), bool)
    others = [(cars.x[n], cars.y[n], cars.lane[n]) for n in range(CARS)] + [(x, y, y)]
    for n, (other_x, other_y, other_lane) in enumerate(others):
        other, ahead = jnp.arange(CARS) != n, other_x - cars.x
        in_way = (jnp.abs(other_y - cars.y) < LANE / 2) | (jnp.abs(other_y - cars.lane) < LANE / 2)
        room = jnp.where(other & in_way & (ahead > 0), jnp.minimum(room, ahead), room)
        in_aim = (jnp.abs(other_y - aim) < LANE / 2) | (jnp.abs(other_lane - aim) < LANE / 2)
        blocked = other & in_aim & (jnp.abs(ahead) < params.gap + 2 * LONG)
        clear &= ~(blocked & ~at_driver if n == CARS else blocked)
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
    cars: Traffic, x: jax.Array, y: jax.Array, key: jax.Array, params: Params
) -> tuple[jax.Array, jax.Array]:
    """Target lane of each car [7], and whether it is cutting in on the driver [7]."""
    u = jax.random.uniform(key, (CARS,))
    side = jnp.where(u < params.restless, jnp.where(u < params.restless / 2, LANE, -LANE), 0.0)
    driver_lane, lead = LANE * jnp.clip(jnp.round(y / LANE), -1, 1), cars.x - x
    beside = jnp.abs(jnp.abs(cars.lane - driver_lane) - LANE) < 0.1
    at_driver = (u > 1 - params.cut_in) & beside & (lead > LONG) & (lead < 4 * LONG + 7)
    return jnp.where(at_driver, driver_lane, jnp.clip(cars.lane + side, -LANE, LANE)), at_driver
