"""Sensors of Drive: 16 distance rays, time to collision, and looming (inverse time to contact).

Rays are slab tests against axis-aligned boxes (Kay & Kajiya, 1986). `ray_observation` scans over
the boxes with all rays at once; without the scan, XLA fuses the test into every consumer of the
observation and a step takes ten times as long.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ANGLES = np.radians([0, 5, -5, 12, -12, 25, -25, 45, -45, 70, -70, 90, -90, 135, -135, 180])
REACH, RUSH = 60.0, 20.0  # m, m/s: units of distance and closing speed under all shifts
AHEAD = np.abs(ANGLES) < np.radians(15)
SENSES = (
    *("speed", "position", "drift", "progress", "time"),
    *(f"{kind}[{angle:.0f}]" for kind in ("near", "closing") for angle in np.degrees(ANGLES)),
)
"""Names of the 37 numbers of an observation; rays by their angle in degrees, left positive."""
NEVER = 10.0  # s; later collisions are ignored


class Boxes(NamedTuple):
    """Axis-aligned boxes relative to the driver: centre, half extents (m) and velocity (m/s)."""

    x: jax.Array
    y: jax.Array
    long: jax.Array
    wide: jax.Array
    vx: jax.Array
    vy: jax.Array


def ray_observation(boxes: Boxes, sight: jax.Array | float) -> jax.Array:
    """Proximity [16] and closing speed [16] of the nearest box on each ray within `sight` metres.

    Proximity is 1 - distance / 60 m, closing speed is in units of 20 m/s; both are 0 for a ray
    that hits nothing.

    Args:
        boxes: [N] each.
        sight: metres, at most 60.
    """
    cos, sin = jnp.array(np.cos(ANGLES), jnp.float32), jnp.array(np.sin(ANGLES), jnp.float32)
    per_x, per_y = _inverse(np.cos(ANGLES)), _inverse(np.sin(ANGLES))

    def hit(carry, box):
        nearest, closing = carry
        enter, leave = _slabs(box, per_x, per_y)
        nearer = (enter <= leave) & (leave >= 0) & (enter < nearest)
        nearest = jnp.where(nearer, _larger(enter, 0.0), nearest)
        return (nearest, jnp.where(nearer, -(box.vx * cos + box.vy * sin), closing)), None

    no_hit = jnp.full(ANGLES.shape, sight, jnp.float32), jnp.zeros(ANGLES.shape)
    (nearest, closing), _ = jax.lax.scan(hit, no_hit, boxes)
    near = jnp.where(nearest < sight, 1 - nearest / REACH, 0.0)
    return jnp.concatenate([near, closing / RUSH])


def time_to_collision(boxes: Boxes, long: float, wide: float) -> jax.Array:
    """Seconds [] until a box of these half extents at the origin touches another, at most 10.

    All velocities are assumed to stay constant.
    """
    grown = boxes._replace(long=boxes.long + long, wide=boxes.wide + wide)
    enter, leave = _slabs(grown, _inverse_speed(-boxes.vx), _inverse_speed(-boxes.vy))
    hits = (enter <= leave) & (leave >= 0)
    return jnp.where(hits, jnp.clip(enter, 0.0, NEVER), NEVER).min()


def looming(obs: jax.Array) -> jax.Array:
    """Looming signal of observations, [...] in [0, 1]: 1 / (1 + time to contact), max over rays.

    The rays are those within 15 degrees of straight ahead; time to contact, in seconds, is the
    visual variable tau (Lee, 1976). There are no parameters. Fog and noise disturb the signal as
    they disturb the observation.

    Args:
        obs: [..., 37] of `envs.worlds.drive.drive.Drive`.
    """
    near, closing = obs[..., 5:21][..., AHEAD], obs[..., 21:][..., AHEAD] * RUSH
    distance = jnp.maximum((1 - near) * REACH, 1e-3)
    return jnp.where((near > 0) & (closing > 0), closing / (closing + distance), 0.0).max(-1)


def _slabs(box: Boxes, per_x: jax.Array, per_y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Distances at which a ray from the origin enters and leaves a box; a miss if leave < enter."""
    mid_x, half_x = box.x * per_x, box.long * jnp.abs(per_x)
    mid_y, half_y = box.y * per_y, box.wide * jnp.abs(per_y)
    enter = _larger(mid_x - half_x, mid_y - half_y)
    return enter, _smaller(mid_x + half_x, mid_y + half_y)


def _larger(a: jax.Array, b: jax.Array | float) -> jax.Array:
    """The larger of two numbers: `jnp.maximum` without its NaN handling."""
    return jnp.where(a > b, a, b)


def _smaller(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(a < b, a, b)


def _inverse(component: np.ndarray) -> jax.Array:
    """Inverse of a component of the ray directions, 1e6 where it is 0."""
    flat = np.abs(component) < 1e-6
    return jnp.array(np.where(flat, 1e6, 1 / np.where(flat, 1.0, component)), jnp.float32)


def _inverse_speed(speed: jax.Array) -> jax.Array:
    return 1 / jnp.where(jnp.abs(speed) < 1e-6, 1e-6, speed)
