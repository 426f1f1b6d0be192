"""Shifts that begin in the middle of an episode, such as ice half-way down a road."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from envs.shift import Shift
from envs.world import ScheduledParams, World

NEVER = 2**31 - 1  # the onset of a shift that never begins


@dataclass(frozen=True)
class Schedule:
    """Delays a shift to a step of each episode: `Schedule(40)(shift)` is the delayed shift.

    An episode begins in the unshifted world, so its first observation does not change. Step `onset`
    is the first to be shifted, by 1 / (ramp + 1) of the full shift, which is reached `ramp` steps
    later. A shift of what is drawn at reset, such as a layout, has no effect.

    Attributes:
        onset: the first step that is shifted, counted from 0.
        ramp: steps from the onset to the full shift.

    Raises:
        ValueError: if one of them is negative.
    """

    onset: int
    ramp: int = 0

    def __post_init__(self):
        if not (0 <= self.onset < NEVER and 0 <= self.ramp < NEVER):
            raise ValueError(f"{self}: onset and ramp count steps, from 0 on")

    def __call__(self, shift: Shift) -> Shift:
        """Returns the delayed shift, named `late_<name>` and of family `time|<family>`."""

        def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
            later, active = shift(world, severity, key), severity > 0
            if later.scheduled is not None:
                raise ValueError(f"shift {shift.name} is scheduled already; schedule it once")
            onset, ramp = (
                jnp.where(active, jnp.int32(steps), jnp.int32(idle))
                for steps, idle in ((self.onset, NEVER), (self.ramp, 0))
            )
            return world._replace(
                scheduled=ScheduledParams(later.params, later.channel, onset, ramp)
            )

        return Shift(f"late_{shift.name}", f"time|{shift.family}", fn)


def unscheduled(world: World) -> World:
    """Adds a schedule that never begins, so that a world stacks with scheduled ones."""
    if world.scheduled is not None:
        return world
    scheduled = ScheduledParams(world.params, world.channel, jnp.int32(NEVER), jnp.int32(0))
    return world._replace(scheduled=scheduled)
