"""Transition, a batch of transitions [T, B], and Spec, what heads and agents are built for."""

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax


def is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind, whatever its annotation promises."""
    return isinstance(value, kind)


def is_number(value: Any) -> bool:
    """Whether a value is a real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def one_line(value: Any, most: int = 60) -> str:
    """A value in one line, for messages: an array's dtype and shape, else as Python shows it."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


class Transition(NamedTuple):
    """A batch of experience, time-major: T steps of B environments.

    One type for jitted worlds, host-stepped environments and datasets. `terminated` and
    `truncated` are never merged: the successor has a value only after the second.

    Attributes:
        obs: [T, B, D] observation on which the agent acted.
        action: [T, B] integers, or [T, B, A] in [-1, 1].
        next_obs: [T, B, D] the true successor, before any reset.
        reward: [T, B] the task's own reward, never shaped.
        terminated: [T, B] bool, the episode ended in a terminal state.
        truncated: [T, B] bool, the episode was cut off, as by a time limit.
        first: [T, B] bool, `obs` is the first of an episode.
        info: what the world reports beside reward, each [T, B, ...]: `harm`; `body` [T, B, n],
            the agent's own after the step; `foregone` [T, B, num_actions], what each action would
            have paid; `other`, a dict of another agent's fields and info keys.
    """

    obs: jax.Array
    action: jax.Array
    next_obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    first: jax.Array
    info: dict[str, Any] = {}


@dataclass(frozen=True)
class Spec:
    """Shapes of a world, and the discount of the critic that learns from signals in it.

    Observations are vectors; actions are discrete or lie in [-1, 1].

    Attributes:
        obs_dim: D, length of an observation.
        num_actions: number of discrete actions, 0 where actions are continuous.
        action_dim: A, length of a continuous action, 0 where actions are discrete.
        info: the keys of `Transition.info` that the world fills.
        discount: of that critic, None where it is not known (`Potential` and `GRM` need it).

    Raises:
        ValueError: unless exactly one of `num_actions` and `action_dim` is positive; for other
            values that are no shapes, names or discount.
    """

    obs_dim: int
    num_actions: int = 0
    action_dim: int = 0
    info: tuple[str, ...] = ()
    discount: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("obs_dim", 1), ("num_actions", 0), ("action_dim", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least}, not {value!r}")
        info = tuple(self.info) if is_a(self.info, Iterable) and not is_a(self.info, str) else ("",)
        if not all(is_a(key, str) and key for key in info) or len(set(info)) < len(info):
            raise ValueError(
                f"info is a tuple of names, as in info=('harm',), each once, not {self.info!r}"
            )
        object.__setattr__(self, "info", info)
        if self.discount is not None:
            if not is_number(self.discount) or not 0 < self.discount <= 1:
                raise ValueError(f"discount is in (0, 1] or None, not {self.discount!r}")
            object.__setattr__(self, "discount", float(self.discount))
        if (self.num_actions > 0) == (self.action_dim > 0):
            raise ValueError(
                f"a Spec has discrete or continuous actions, not num_actions={self.num_actions} "
                f"with action_dim={self.action_dim}: set exactly one of them"
            )
