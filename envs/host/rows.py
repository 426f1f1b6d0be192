"""Observations with an image or an action mask as one row each, as `affect.observation` reads them.

No jax: worker processes import this.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.host.fault import LastingFault
from envs.host.images import ImageFacts

MASK = "action_mask"  # key of `info`
MASK_REMEDY = "report it in the info of reset and of every step, or at none"


class ImageRows(gymnasium.ObservationWrapper):
    """Environment that observes bytes [D]: those of an image, then those of numbers in float32.

    Args:
        env: the environment.
        facts: of its image.
    """

    def __init__(self, env: gymnasium.Env, facts: ImageFacts):
        super().__init__(env)
        self.image_facts, self._key = facts, facts.key
        space = env.observation_space
        self._rest = None
        if facts.key is not None and len(space) > 1:
            self._rest = spaces.Dict({k: part for k, part in space.items() if k != facts.key})
        self.numbers = 0 if self._rest is None else spaces.flatdim(self._rest)
        size = facts.height * facts.width * facts.channels + 4 * self.numbers
        self.observation_space = spaces.Box(0, 255, (size,), np.uint8)

    @property
    def rest_space(self) -> spaces.Box | None:
        """Space of the numbers [V] beside the image; None if there are none."""
        return None if self._rest is None else spaces.flatten_space(self._rest)

    def observation(self, observation: Any) -> np.ndarray:
        """Row [D] of an observation."""
        image = observation if self._key is None else observation[self._key]
        flat = np.asarray(image, np.uint8).ravel()
        if self._rest is None:
            return flat
        rest = {key: observation[key] for key in self._rest}
        numbers = np.asarray(spaces.flatten(self._rest, rest), np.float32)
        if not np.isfinite(numbers).all():
            raise LastingFault(
                f"returned numbers beside {self._key!r} that are not finite in float32",
                "find its division by zero, logarithm or overflow",
            )
        return np.concatenate([flat, numbers.view(np.uint8)])


class MaskedRows(gymnasium.Wrapper):
    """Environment whose observations end with the mask of its actions, from `info["action_mask"]`.

    It takes the standard actions of `envs.host.actions`, and refuses one that the mask forbids.

    Args:
        env: the environment.
        sizes: numbers of actions of each choice.
    """

    def __init__(self, env: gymnasium.Env, sizes: tuple[int, ...]):
        super().__init__(env)
        self._sizes, self._starts = sizes, np.cumsum([0, *sizes[:-1]])
        space, count = env.observation_space, sum(sizes)
        low = np.concatenate([space.low, np.zeros(count, space.dtype)])
        high = np.concatenate([space.high, np.ones(count, space.dtype)])
        self.observation_space = spaces.Box(low, high, dtype=space.dtype)
        self._mask = np.ones(count, bool)

    def reset(self, **kwargs: Any) -> tuple:
        """Starts an episode -> (obs [D + n], info)."""
        obs, info = self.env.reset(**kwargs)
        return self._row(obs, info, True), info

    def step(self, action: Any) -> tuple:
        """Takes one step -> (obs [D + n], reward, terminated, truncated, info)."""
        chosen = self._starts + np.atleast_1d(action)
        if not self._mask[chosen].all():
            raise LastingFault(
                f"was given the action {action}, which its mask forbids",
                "choose an action that the action_mask before it allows",
            )
        obs, reward, terminated, truncated, info = self.env.step(action)
        row = self._row(obs, info, not (terminated or truncated))
        return row, reward, terminated, truncated, info

    def _row(self, obs: np.ndarray, info: dict, goes_on: bool) -> np.ndarray:
        """An observation with the mask of the next action, of which some are allowed."""
        if MASK not in info:
            raise LastingFault(f"has no {MASK!r} in its info", MASK_REMEDY)
        mask, count = _flat(info[MASK]), len(self._mask)
        if mask is None or mask.shape != (count,):
            got = "no array" if mask is None else f"{mask.size} entries"
            raise LastingFault(f"has an {MASK} of {got}, expected {count}", "one for each action")
        if (wrong := (mask != 0) & (mask != 1)).any():
            raise LastingFault(
                f"has an {MASK} with {mask[wrong][0]:g}, expected 0 and 1", "1 for what is allowed"
            )
        self._mask = mask > 0
        if goes_on and not np.logical_or.reduceat(self._mask, self._starts).all():
            raise LastingFault(
                f"has an {MASK} that allows no action", "allow one, or end the episode before"
            )
        return np.concatenate([obs, self._mask.astype(obs.dtype)])


def random_action(
    space: spaces.Space, rng: np.random.Generator, allowed: np.ndarray | None = None
) -> np.ndarray:
    """Random action of a standard space: one of those allowed, or uniform in [-1, 1].

    Args:
        space: `Discrete`, `MultiDiscrete` or a box.
        rng: source of randomness.
        allowed: mask [n]; None allows all.
    """
    if isinstance(space, spaces.Box):
        return rng.uniform(-1.0, 1.0, space.shape).astype(space.dtype)
    sizes = choices(space)
    if allowed is None:
        drawn = np.array([rng.integers(size) for size in sizes])
    else:
        parts = np.split(allowed > 0, np.cumsum(sizes)[:-1])
        drawn = np.array([rng.choice(np.flatnonzero(part)) for part in parts])
    return drawn if isinstance(space, spaces.MultiDiscrete) else drawn[0]


def choices(space: spaces.Space) -> tuple[int, ...]:
    """Numbers of actions of each choice of a standard space; () of a box."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    return tuple(map(int, space.nvec)) if isinstance(space, spaces.MultiDiscrete) else ()


def _flat(mask: Any) -> np.ndarray | None:
    """A mask, or nested tuples of those of several choices, as one array; None if it is none."""
    try:
        flat = np.ravel(mask)
    except ValueError:  # of several lengths
        parts = [_flat(part) for part in mask]
        return None if any(part is None for part in parts) else np.concatenate(parts)
    return flat if flat.dtype.kind in "biuf" else None
