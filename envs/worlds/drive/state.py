"""State and parameters of Drive, and the geometry of road, cars and cones."""

from typing import NamedTuple

import jax
import numpy as np

CARS, CROSSING, SITES, CONES = 7, 3, 3, 4  # CONES at each of SITES
SLOTS = CARS + CROSSING + SITES * CONES
LANE, ROAD, STEP = 4.0, 12.0, 0.2  # m, m, s
LONG, WIDE, CONE = 2.25, 0.9, 0.3  # half extents of a car and of a cone, m
HALF_LONG = np.repeat(np.float32([LONG, WIDE, CONE]), [CARS, CROSSING, SITES * CONES])
HALF_WIDE = np.repeat(np.float32([WIDE, LONG, CONE]), [CARS, CROSSING, SITES * CONES])


class Params(NamedTuple):
    """Parameters of the driver's car, the other vehicles, the cones and the weather."""

    gas: jax.Array | float = 4.0  # m/s^2
    brake: jax.Array | float = 5.0  # m/s^2
    start: jax.Array | float = 12.0  # m/s, the driver's initial speed
    grip: jax.Array | float = 1.0  # of the tyres, a factor on the driver's accelerations
    sight: jax.Array | float = 60.0  # m, range of the driver's rays
    slow: jax.Array | float = 7.0  # m/s, least desired speed of cars in the middle lane
    fast: jax.Array | float = 9.0  # m/s, greatest
    left_faster: jax.Array | float = 3.5  # m/s, of each lane over the one to its right
    mirror: jax.Array | float = 0.0  # probability that the traffic is mirrored, left for right
    headway: jax.Array | float = 1.5  # s, that cars keep to the vehicle ahead
    gap: jax.Array | float = 12.0  # m, that a car needs free on both sides to change lanes
    restless: jax.Array | float = 0.005  # probability a step that a car tries to change lanes
    cut_in: jax.Array | float = 0.0  # and that a car beside the driver cuts in
    crossing: jax.Array | float = 0.0  # probability that each of three crossing cars is present
    closed: jax.Array | float = 0.0  # share of the road's width that each of three sites closes


class Traffic(NamedTuple):
    """Positions, velocities and targets of all other vehicles and cones.

    Attributes:
        x: [22] metres along the road, the centre of each box.
        y: [22] metres to the left of the middle of the road.
        vx: [22] m/s.
        vy: [22] m/s.
        lane: [7] the y that a car is steering for.
        wanted: [7] m/s, desired speed of a car.
        dash: [3] m/s, signed, speed of a crossing car once it sets off.
    """

    x: jax.Array
    y: jax.Array
    vx: jax.Array
    vy: jax.Array
    lane: jax.Array
    wanted: jax.Array
    dash: jax.Array


class State(NamedTuple):
    """Driver's position (m) and speeds along and across the road (m/s), traffic, steps taken."""

    x: jax.Array
    y: jax.Array
    speed: jax.Array
    drift: jax.Array
    traffic: Traffic
    time: jax.Array
