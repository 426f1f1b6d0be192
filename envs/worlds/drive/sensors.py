"""What the driver of `envs.worlds.drive.drive` senses: sixteen rays, and how soon two things will touch.

Both are slab tests of a ray against axis-aligned boxes (Kay & Kajiya, 1986). `ray_observation` takes the boxes
one by one and all rays at once: no gather, no sort, and a loop, without which XLA merges the test
into whatever reads the observation and a step takes ten times as long.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ANGLES = np.radians([0, 5, -5, 12, -12, 25, -25, 45, -45, 70, -70, 90, -90, 135, -135, 180])
REACH, RUSH = 60.0, 20.0  # m, m/s: the units of distance and closing speed, whatever the shift
AHEAD = np.abs(ANGLES) < np.radians(15)
NEVER = 10.0  # s; a later collision is none


class Boxes(NamedTuple):
    """Axis-aligned boxes relative to the driver: centre, half extents (m) and velocity (m/s)."""

    x: jax.Array
    y: jax.Array
    long: jax.Array
    wide: jax.Array
    vx: jax.Array
    vy: jax.Array


def ray_observation(boxes: Boxes, sight: jax.Array | float) -> jax.Array:
    """Proximity [16] of what each ray meets within `sight` metres, and how fast it nears [16].

    Proximity is 1 - distance / 60 m, 0 where nothing is met; the speed at which the distance
    shrinks is in units of 20 m/s, 0 where nothing is met.

    Args:
        boxes: [N] each.
        sight: metres, at most 60.
    """
    cos, sin = jnp.array(np.cos(ANGLES), jnp.float32), jnp.array(np.sin(ANGLES), jnp.float32)
    per_x, per_y = _inverse(np.cos(ANGLES)), _inverse(np.sin(ANGLES))

    def meet(met, box):
        nearest, closing = met
        enter, leave = _slabs(box, per_x, per_y)
        nearer = (enter <= leave) & (leave >= 0) & (enter < nearest)
        nearest = jnp.where(nearer, _larger(enter, 0.0), nearest)
        return (nearest, jnp.where(nearer, -(box.vx * cos + box.vy * sin), closing)), None

    nothing = jnp.full(ANGLES.shape, sight, jnp.float32), jnp.zeros(ANGLES.shape)
    (nearest, closing), _ = jax.lax.scan(meet, nothing, boxes)
    near = jnp.where(nearest < sight, 1 - nearest / REACH, 0.0)
    return jnp.concatenate([near, closing / RUSH])


def time_to_collision(boxes: Boxes, long: float, wide: float) -> jax.Array:
    """Seconds [] until a box of these half extents at the origin touches one, at most 10.

    Everybody is taken to go on as they do now.
    """
    grown = boxes._replace(long=boxes.long + long, wide=boxes.wide + wide)
    enter, leave = _slabs(grown, _over(-boxes.vx), _over(-boxes.vy))
    met = (enter <= leave) & (leave >= 0)
    return jnp.where(met, jnp.clip(enter, 0.0, NEVER), NEVER).min()


def looming(obs: jax.Array) -> jax.Array:
    """How soon the driver's own eyes say that it will hit what is ahead, [...] in [0, 1].

    1 / (1 + seconds to contact) over the rays within 15 degrees of straight ahead: the visual
    variable tau (Lee, 1976), without parameters. It knows what was sensed and nothing else, so
    fog and noise blind it as they blind the driver.

    Args:
        obs: [..., 37] of `envs.worlds.drive.drive.Drive`.
    """
    near, closing = obs[..., 5:21][..., AHEAD], obs[..., 21:][..., AHEAD] * RUSH
    away = jnp.maximum((1 - near) * REACH, 1e-3)
    return jnp.where((near > 0) & (closing > 0), closing / (closing + away), 0.0).max(-1)


def _slabs(box: Boxes, per_x: jax.Array, per_y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where a ray from the origin enters a box and leaves it; it misses if it leaves first."""
    mid_x, half_x = box.x * per_x, box.long * jnp.abs(per_x)
    mid_y, half_y = box.y * per_y, box.wide * jnp.abs(per_y)
    enter = _larger(mid_x - half_x, mid_y - half_y)
    return enter, _smaller(mid_x + half_x, mid_y + half_y)


def _larger(one: jax.Array, other: jax.Array | float) -> jax.Array:
    """The larger of two numbers: `jnp.maximum` without its care for what is not a number."""
    return jnp.where(one > other, one, other)


def _smaller(one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.where(one < other, one, other)


def _inverse(component: np.ndarray) -> jax.Array:
    """One over a component of the rays' directions, 1e6 where it is 0."""
    flat = np.abs(component) < 1e-6
    return jnp.array(np.where(flat, 1e6, 1 / np.where(flat, 1.0, component)), jnp.float32)


def _over(speed: jax.Array) -> jax.Array:
    return 1 / jnp.where(jnp.abs(speed) < 1e-6, 1e-6, speed)
