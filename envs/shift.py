"""A shift is data: a pure function from a world to a world, the identity at severity 0.

Six makers cover most of them; `first | second` composes. The same shift serves jitted worlds and
host-stepped ones, since both are a `World` of params and channel.
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
    """A named way for a world to differ.

    Attributes:
        name: unique within a suite.
        family: what it claims to touch, and touches alone; one of FAMILIES, or several joined
            by `|` for a composition.
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
        """The shifted world.

        What a world becomes later is shifted as it is itself.

        Raises:
            ValueError: for a severity outside [0, 1] (where it is known before tracing), for a
                world that lacks the field, or for a second schedule.
        """
        if isinstance(severity, (int, float)) and not 0 <= severity <= 1:
            raise ValueError(f"shift {self.name}: severity {severity} is outside [0, 1]")
        now, scheduled = with_channel(world)._replace(scheduled=None), world.scheduled
        shifted = self.fn(now, severity, key)
        if scheduled is None:
            return shifted
        if shifted.scheduled is not None:
            raise ValueError(f"shift {self.name}: one schedule a world; schedule the composition")
        then = self.fn(World(scheduled.params, scheduled.channel), severity, jax.random.clone(key))
        return shifted._replace(
            scheduled=scheduled._replace(params=then.params, channel=then.channel)
        )

    def __or__(self, other: "Shift") -> "Shift":
        """This shift, then the other."""

        def both(world: World, severity: jax.Array, key: jax.Array) -> World:
            k_self, k_other = jax.random.split(key)
            return other(self(world, severity, k_self), severity, k_other)

        return Shift(f"{self.name}|{other.name}", f"{self.family}|{other.family}", both)


def with_channel(world: World) -> World:
    """The same world with a channel to disturb."""
    return world if world.channel is not None else world._replace(channel=Channel())


def scale(name: str, family: str, path: str, to: float) -> Shift:
    """Multiplies the field at `path`, such as "params.force", by up to `to`."""

    def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
        return edit(world, path, lambda value: value * (1 + severity * (to - 1)))

    return Shift(name, family, fn)


def ramp(name: str, family: str, path: str, to: float) -> Shift:
    """Moves the field at `path` from what it is to `to`: for fields whose rest is 0."""

    def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
        return edit(world, path, lambda value: value + severity * (to - value))

    return Shift(name, family, fn)


def ramps(name: str, family: str, ends: Mapping[str, float]) -> Shift:
    """Moves several fields at once, each path from what it is to its end, as one shift."""
    moves = (ramp(name, family, path, to) for path, to in ends.items())
    return replace(reduce(or_, moves), name=name, family=family)


def box(
    name: str,
    family: str,
    path: str,
    outer: Mapping[str, Interval],
    inner: Mapping[str, Interval] | None = None,
) -> Shift:
    """Draws every field of `outer` under `path` uniformly from its interval, outside `inner`'s.

    Packer et al. (2018): R is `box(outer=R)`, E is `box(outer=E, inner=R)`. Severity moves the
    field from what it is towards what was drawn.

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
    """Replaces the field at `path` by one of `choices`, with probability `severity`."""

    def fn(world: World, severity: jax.Array, key: jax.Array) -> World:
        k_swap, k_choice = jax.random.split(key)
        swapped = jax.random.uniform(k_swap) < severity
        chosen = jnp.asarray(choices)[jax.random.randint(k_choice, (), 0, len(choices))]
        return edit(world, path, lambda value: jnp.where(swapped, chosen, value))

    return Shift(name, family, fn)


def edit(tree: Any, path: str, fn: Callable[[Any], Any]) -> Any:
    """Replaces what lies at a dotted path through named tuples and mappings by fn of it.

    Raises:
        ValueError: if there is no such field, naming those there are.
    """
    name, _, rest = path.partition(".")
    fields = tree if isinstance(tree, Mapping) else getattr(tree, "_asdict", dict)()
    if name not in fields:
        raise ValueError(f"this world has no field {name!r}; it has {', '.join(fields) or 'none'}")
    value = edit(fields[name], rest, fn) if rest else fn(fields[name])
    return {**tree, name: value} if isinstance(tree, Mapping) else tree._replace(**{name: value})


def _towards(severity: jax.Array, drawn: jax.Array) -> Callable[[Any], Any]:
    return lambda value: value + severity * (drawn - value)


def _outside(key: jax.Array, outer: Interval, inner: Interval | None) -> jax.Array:
    """Uniform over `outer` less `inner`."""
    low, high = outer
    gap_low, gap_high = inner or (high, high)
    drawn = jax.random.uniform(key, minval=low, maxval=high - (gap_high - gap_low))
    return jnp.where(drawn < gap_low, drawn, drawn + (gap_high - gap_low))
