"""A shift that arrives in the middle of an episode: a car meets ice on its way."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from envs.shift import Shift
from envs.world import ScheduledParams, World

NEVER = 2**31 - 1  # the onset of what never comes


@dataclass(frozen=True)
class Schedule:
    """When a shift arrives, in steps of each episode; `Schedule(40)(shift)` is the late shift.

    An episode begins in the world as it is, so its first observation is what it was. Step `onset`
    is the first that the shift touches: by 1 / (ramp + 1) of the way, until `ramp` steps later all
    of it is there. What is decided when an episode begins, such as a layout, comes too late to
    matter, and a shift of that alone has no effect.

    Attributes:
        onset: the first step that is touched, counted from 0.
        ramp: steps from there to the whole of the shift.

    Raises:
        ValueError: if one of them is negative.
    """

    onset: int
    ramp: int = 0

    def __post_init__(self):
        if not (0 <= self.onset < NEVER and 0 <= self.ramp < NEVER):
            raise ValueError(f"{self}: onset and ramp count steps, from 0 on")

    def __call__(self, shift: Shift) -> Shift:
        """The shift that arrives so, named `late_` and of family `time|` and its own."""

        def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
            then, comes = shift(world, severity, key), severity > 0
            if then.scheduled is not None:
                raise ValueError(f"shift {shift.name} is scheduled already; schedule it once")
            onset, ramp = (
                jnp.where(comes, jnp.int32(steps), jnp.int32(rest))
                for steps, rest in ((self.onset, NEVER), (self.ramp, 0))
            )
            return world._replace(scheduled=ScheduledParams(then.params, then.channel, onset, ramp))

        return Shift(f"late_{shift.name}", f"time|{shift.family}", fn)


def unscheduled(world: World) -> World:
    """The same world, which says that it never changes: in one form with those that do."""
    if world.scheduled is not None:
        return world
    scheduled = ScheduledParams(world.params, world.channel, jnp.int32(NEVER), jnp.int32(0))
    return world._replace(scheduled=scheduled)
