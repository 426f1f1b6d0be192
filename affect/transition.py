"""Transition, a batch of transitions [T, B], and Spec, what heads and agents are built for."""

import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from affect.image import Image


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
        obs: [T, B, D] observation on which the agent acted; bytes if it holds an image
            (`affect.observation`).
        action: [T, B] integers, [T, B, n] of several choices at once, or [T, B, A] in [-1, 1].
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

    Observations are vectors, perhaps with an image or an action mask; actions are discrete, several
    choices at once, or lie in [-1, 1].

    Attributes:
        obs_dim: numbers of an observation, beside an image and a mask; 0 for an image alone.
        num_actions: number of discrete actions, 0 where actions are others.
        action_dim: A, length of a continuous action, 0 where actions are discrete.
        info: the keys of `Transition.info` that the world fills.
        discount: of that critic, None where it is not known (`Potential` and `GRM` need it).
        action_sizes: numbers of actions of n choices that are made at once; () where there are no
            several.
        masked: whether an observation says which actions are allowed.
        image: of an observation; None where there is none.
        reader: function from images [T, B, H, W, C] of bytes to features [T, B, F] that heads read;
            None for the symbols themselves, or for a frozen random convolution.

    Raises:
        ValueError: unless exactly one of `num_actions`, `action_dim` and `action_sizes` is given;
            for other values that are no shapes, names or discount.
    """

    obs_dim: int
    num_actions: int = 0
    action_dim: int = 0
    info: tuple[str, ...] = ()
    discount: float | None = None
    action_sizes: tuple[int, ...] = ()
    masked: bool = False
    image: Image | None = None
    reader: Callable[[jax.Array], jax.Array] | None = None

    def __post_init__(self) -> None:
        least_obs = 0 if is_a(self.image, Image) else 1
        for name, least in (("obs_dim", least_obs), ("num_actions", 0), ("action_dim", 0)):
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
        self._check_actions()
        if not (self.image is None or is_a(self.image, Image)):
            raise ValueError(f"image is an affect.Image, not {one_line(self.image)}")
        if self.reader is not None and (self.image is None or not callable(self.reader)):
            raise ValueError(f"reader is a function of an image, not {one_line(self.reader)}")

    def _check_actions(self) -> None:
        """Checks that there is one kind of actions, and a mask of discrete ones alone."""
        sizes = tuple(self.action_sizes) if is_a(self.action_sizes, Iterable) else (0,)
        if not all(is_whole(size) and size > 0 for size in sizes):
            raise ValueError(f"action_sizes are numbers of actions, not {self.action_sizes!r}")
        object.__setattr__(self, "action_sizes", tuple(map(int, sizes)))
        kinds = {name: getattr(self, name) for name in ("num_actions", "action_dim")}
        kinds |= {"action_sizes": sizes} if sizes else {}
        if sum(bool(value) for value in kinds.values()) != 1:
            given = " with ".join(f"{name}={value}" for name, value in kinds.items())
            raise ValueError(
                f"a Spec has discrete or continuous actions, not {given}: set exactly one of them"
            )
        if self.masked and self.action_dim:
            raise ValueError("masked=True is of discrete actions: leave it out of continuous ones")

    @property
    def choices(self) -> tuple[int, ...]:
        """Numbers of actions of each discrete choice; () where actions are continuous."""
        return (self.num_actions,) if self.num_actions else self.action_sizes

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of one action: (), (n,) of several choices, or (A,)."""
        return () if self.num_actions else (len(self.action_sizes) or self.action_dim,)

    @property
    def actions(self) -> dict[str, Any]:
        """What tells actions apart, for the card of a head that reads them."""
        sizes = {"action_sizes": list(self.action_sizes)} if self.action_sizes else {}
        return {"num_actions": self.num_actions, "action_dim": self.action_dim, **sizes}

    @property
    def mask_dim(self) -> int:
        """Length of the action mask, 0 where there is none."""
        return sum(self.choices) if self.masked else 0

    @property
    def plain(self) -> bool:
        """Whether an observation is numbers alone."""
        return self.image is None and not self.masked

    @property
    def row(self) -> int:
        """D, length of an observation: of numbers, or of bytes if it holds an image."""
        if self.image is None:
            return self.obs_dim + self.mask_dim
        return self.image.size + 4 * self.obs_dim + self.mask_dim

    @property
    def dtype(self) -> Any:
        """Of observations: uint8 if they hold an image, else float32."""
        return np.float32 if self.image is None else np.uint8

    def require_plain(self, who: str) -> None:
        """Checks that observations are numbers alone, and actions no several choices at once.

        Raises:
            ValueError: naming what there is beside, and `who` does not take it.
        """
        names = "images", "action masks", "several actions at once"
        values = self.image, self.masked, self.action_sizes
        if present := [name for name, value in zip(names, values, strict=True) if value]:
            raise ValueError(f"{who} does not take {' or '.join(present)}: use PPO or A2C")
