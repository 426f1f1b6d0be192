"""Shifts: pure functions from a world to a changed one, the identity at severity 0; their parts.

`scale`, `ramp`, `ramps`, `box` and `swap` make most of them; `first | second` composes. A shift
works for jitted and host-stepped worlds, since both are a `World` of params and channel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

import jax
import jax.numpy as jnp

from envs.channel import Channel
from envs.world import World

FAMILIES = ("dynamics", "layout", "social", "sensor", "actuator", "reward", "time")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Shift:
    """Named distribution shift of a world.

    Attributes:
        name: unique within a suite.
        family: what it may change, and nothing else; one of FAMILIES, or several joined by `|`
            for a composition.
        fn: (world, severity in [0, 1], key) -> world; pure, jittable, the identity at 0 bit for
            bit, and of the same structure and dtypes.
    """

    name: str
    family: str
    fn: Callable[[World, jax.Array, jax.Array], World]

    def __post_init__(self):
        for family in self.family.split("|"):
            if family not in FAMILIES:
                raise ValueError(f"shift {self.name}: {family} is no family; take {FAMILIES}")

    def __call__(self, world: World, severity: jax.Array | float, key: jax.Array) -> World:
        """Applies the shift to a world, and to its scheduled params and channel if it has any.

        Raises:
            ValueError: for a severity outside [0, 1] (if it is a Python number), for a world that
                lacks the field, or for a second schedule.
        """
        if isinstance(severity, (int, float)) and not 0 <= severity <= 1:
            raise ValueError(f"shift {self.name}: severity {severity} is outside [0, 1]")
        base, scheduled = with_channel(world)._replace(scheduled=None), world.scheduled
        shifted = self.fn(base, severity, key)
        if scheduled is None:
            return shifted
        if shifted.scheduled is not None:
            raise ValueError(f"shift {self.name}: one schedule a world; schedule the composition")
        later = self.fn(World(scheduled.params, scheduled.channel), severity, jax.random.clone(key))
        return shifted._replace(
            scheduled=scheduled._replace(params=later.params, channel=later.channel)
        )

    def __or__(self, other: "Shift") -> "Shift":
        """Composes two shifts: this one, then the other, at the same severity."""

        def composed(world: World, severity: jax.Array, key: jax.Array) -> World:
            k_self, k_other = jax.random.split(key)
            return other(self(world, severity, k_self), severity, k_other)

        return Shift(f"{self.name}|{other.name}", f"{self.family}|{other.family}", composed)


def with_channel(world: World) -> World:
    """Adds the default channel to a world that has none."""
    return world if world.channel is not None else world._replace(channel=Channel())


def scale(name: str, family: str, path: str, to: float) -> Shift:
    """Shift that multiplies the field at `path`, such as "params.force", by up to `to`."""

    def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
        return edit(world, path, lambda value: value * (1 + severity * (to - 1)))

    return Shift(name, family, fn)


def ramp(name: str, family: str, path: str, to: float) -> Shift:
    """Shift that moves the field at `path` linearly to `to`; also for fields that are 0."""

    def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
        return edit(world, path, lambda value: value + severity * (to - value))

    return Shift(name, family, fn)


def ramps(name: str, family: str, ends: Mapping[str, float]) -> Shift:
    """Shift that moves several fields at once, {path: end}, each linearly to its end."""
    moves = (ramp(name, family, path, to) for path, to in ends.items())
    return replace(reduce(or_, moves), name=name, family=family)


def box(
    name: str,
    family: str,
    path: str,
    outer: Mapping[str, Interval],
    inner: Mapping[str, Interval] | None = None,
) -> Shift:
    """Shift that draws the fields of `outer` uniformly from their intervals, outside `inner`.

    Packer et al. (2018): R is `box(outer=R)`, E is `box(outer=E, inner=R)`. Fields lie under
    `path`; severity moves each linearly from its value to the drawn one.

    Raises:
        ValueError: if an interval is reversed, or one of `inner` is not inside that of `outer`.
    """
    for field, (low, high) in {**outer, **(inner or {})}.items():
        least, most = outer.get(field, (0.0, 0.0))
        if not (field in outer and least <= low <= high <= most):
            raise ValueError(f"shift {name}: ({low}, {high}) is no interval of {field} in outer")

    def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
        for k_field, (field, interval) in zip(
            jax.random.split(key, len(outer)), outer.items(), strict=True
        ):
            drawn = _outside(k_field, interval, (inner or {}).get(field))
            world = edit(world, f"{path}.{field}", _towards(severity, drawn))
        return world

    return Shift(name, family, fn)


def swap(name: str, family: str, path: str, choices: Sequence[Any]) -> Shift:
    """Shift that replaces the field at `path` by one of `choices`, with probability `severity`."""

    def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
        k_swap, k_choice = jax.random.split(key)
        swapped = jax.random.uniform(k_swap) < severity
        chosen = jnp.asarray(choices)[jax.random.randint(k_choice, (), 0, len(choices))]
        return edit(world, path, lambda value: jnp.where(swapped, chosen, value))

    return Shift(name, family, fn)


def edit(tree: Any, path: str, fn: Callable[[Any], Any]) -> Any:
    """Applies fn to the field at a dotted path of nested named tuples and mappings.

    Raises:
        ValueError: if there is no such field, or nothing in it; the message lists the others.
    """
    name, _, rest = path.partition(".")
    fields = tree if isinstance(tree, Mapping) else getattr(tree, "_asdict", dict)()
    fields = {key: value for key, value in fields.items() if value is not None}
    if name not in fields:
        raise ValueError(f"this world has no field {name!r}; it has {', '.join(fields) or 'none'}")
    value = edit(fields[name], rest, fn) if rest else fn(fields[name])
    return {**tree, name: value} if isinstance(tree, Mapping) else tree._replace(**{name: value})


def _towards(severity: jax.Array, target: jax.Array) -> Callable[[Any], Any]:
    return lambda value: value + severity * (target - value)


def _outside(key: jax.Array, outer: Interval, inner: Interval | None) -> jax.Array:
    """Samples uniformly from the interval `outer` without `inner`."""
    low, high = outer
    gap_low, gap_high = inner or (high, high)
    drawn = jax.random.uniform(key, minval=low, maxval=high - (gap_high - gap_low))
    return jnp.where(drawn < gap_low, drawn, drawn + (gap_high - gap_low))
