"""Suite: a training world and its shifts; `runs.engine.presets` adds agents and sizes to it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect import HeadFactory
from envs.schedule import unscheduled
from envs.shift import Shift, with_channel
from envs.world import World

SEVERITIES = (0.25, 0.5, 0.75, 1.0)


class Point(NamedTuple):
    """Evaluation condition: a shift at a severity; "none" at 0 is in distribution."""

    shift: str
    family: str
    severity: float


def checked_shifts(
    shifts: Any, kwargs: Any, reproducible: Any, workers: Any, timeout: Any
) -> tuple[Shift, ...] | None:
    """Checks the types of the arguments of `envs.load_suite` -> the shifts, or None.

    Raises:
        ValueError: for an argument of a wrong type.
    """
    if isinstance(shifts, Iterable) and not isinstance(shifts, str):
        shifts = tuple(shifts)
    made = isinstance(shifts, tuple) and all(isinstance(shift, Shift) for shift in shifts)
    named = isinstance(kwargs, Mapping) and all(isinstance(key, str) for key in kwargs)
    count = isinstance(workers, Integral) and not isinstance(workers, bool) and workers >= 0
    for name, value, fits, expected in (
        ("shifts", shifts, made, "those of envs.shift in a list, such as [ramp(...)]"),
        ("kwargs", kwargs, named, "a dict of arguments by name"),
        ("workers", workers, count, "a whole number of at least 0"),
    ):
        if not (fits or value is None):
            raise ValueError(f"load_suite: {name}={value!r}, expected {expected}, or None")
    if reproducible not in (True, False):
        raise ValueError(f"load_suite: reproducible={reproducible!r}, expected True or False")
    if not (isinstance(timeout, Real) and 0 < timeout < math.inf):
        raise ValueError(f"load_suite: timeout={timeout!r}, expected seconds, more than 0")
    return shifts


@dataclass(frozen=True)
class Suite:
    """Benchmark of a comparison: training world, shifts to evaluate under, severities.

    Attributes:
        name: of the suite.
        env: the family of worlds, an `envs.world.Env` (jitted) or `envs.host.suite.HostEnv`.
        world: the world that agents are trained in.
        shifts: what agents are evaluated under.
        randomised: the training distribution of the arm `random`; None where there is none.
        severities: at which each shift is evaluated, beside severity 0.
        setpoint: target of each variable of `info["body"]`, in its unit.
        innate: factory of the built-in head of these worlds; None where there is none.
    """

    name: str
    env: Any
    world: World
    shifts: tuple[Shift, ...]
    randomised: Shift | None = None
    severities: tuple[float, ...] = SEVERITIES
    setpoint: float | tuple[float, ...] = 0.0
    innate: HeadFactory | None = None

    def __post_init__(self):
        names = [shift.name for shift in self.shifts]
        if len(set(names)) < len(names):
            raise ValueError(f"suite {self.name} has two shifts of one name among {names}")
        if not all(0 < severity <= 1 for severity in self.severities):
            raise ValueError(f"suite {self.name}: severities {self.severities} must be in (0, 1]")
        if self.shifts and not self.severities:
            raise ValueError(f"suite {self.name} has shifts and no severities: give some in (0, 1]")

    def points(self) -> tuple[Point, ...]:
        """Lists the P evaluation conditions: in distribution, then each shift by severity."""
        base = Point("none", "none", 0.0)
        return (base,) + tuple(
            Point(shift.name, shift.family, severity)
            for shift in self.shifts
            for severity in self.severities
        )

    def worlds(self, key: jax.Array, draws: int) -> World:
        """Stacks the worlds of all points into one pytree with leading axes [P, draws].

        If any world has a schedule, the others get one that never begins.
        """
        stacked = [jax.vmap(lambda _: with_channel(self.world))(jnp.arange(draws))]
        for i, shift in enumerate(self.shifts):
            keys = jax.random.split(jax.random.fold_in(key, i), draws)
            for severity in self.severities:
                same = jax.random.clone(keys)  # the same draws at all severities
                stacked.append(jax.vmap(lambda k, s=severity, f=shift: f(self.world, s, k))(same))
        if any(world.scheduled is not None for world in stacked):
            stacked = [jax.vmap(unscheduled)(world) for world in stacked]
        return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *stacked)
