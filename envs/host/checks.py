"""Checks of what an environment returns: observations, rewards and ends of episodes; no jax."""

import traceback
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.host.fault import LastingFault
from envs.host.rows import MASK, MASK_REMEDY

EXACT = 2**24  # the largest integer up to which float32 holds every integer
ROUNDING = 1e-5  # relative to a bound or 1, by which a rounded observation may leave its space

FLOATS = {float, np.float32, np.float64}
FLAGS = {bool, np.bool_}
SPACE_REMEDY = "widen the space, or map the observation by gymnasium.wrappers.TransformObservation"
RESET_REMEDY = "write reset(self, *, seed=None, options=None), and return (obs, info)"
STEP_REMEDY = "return (obs, reward, terminated, truncated, info) from step"


class Checked(gymnasium.Wrapper):
    """Environment that raises `LastingFault` where it returns what the pool cannot represent.

    Args:
        env: the environment.
        values: whether to check too that numbers are finite, and observations within their bounds;
            otherwise only types and shapes, and whatever would wrap around or lose digits.
        reproducible: whether a seed and actions determine an episode.

    Attributes:
        reports_mask: whether the first reset reported `info["action_mask"]`; None before it.
    """

    def __init__(self, env: gymnasium.Env, values: bool = False, reproducible: bool = True):
        super().__init__(env)
        self.reproducible, self.checks_values = reproducible, values
        space = env.observation_space
        plain = isinstance(space, spaces.Box) and _any_value(space) and not values
        self._plain = (space.shape, space.dtype) if plain else None  # needs no look at its values
        self.reports_mask: bool | None = None
        self._actions = env.action_space

    def reset(self, *, seed=None, options=None):
        """Starts an episode -> (obs, info)."""
        try:
            result = self.env.reset(seed=seed, options=options)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise LastingFault(f"raised TypeError in reset: {error}", RESET_REMEDY) from error
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise LastingFault(
                f"returned {_described(result)} from reset, expected (obs, info)", RESET_REMEDY
            )
        self._check_observation(result[0], "reset")
        self._check_mask(*result)
        actions = self.env.action_space
        if actions is not self._actions and actions != self._actions:
            raise LastingFault(
                f"has after reset the action space {actions}, expected {self._actions}",
                "declare one for all episodes, and let actions that are not allowed do nothing",
            )
        return result

    def step(self, action):
        """Takes one step -> (obs, reward, terminated, truncated, info)."""
        try:
            result = self.env.step(action)
        except (TypeError, ValueError) as error:
            _raise_as_fault(error)
            raise
        if self._is_plain(result):
            return result
        if not (isinstance(result, tuple) and len(result) == 5 and isinstance(result[4], dict)):
            raise LastingFault(
                f"returned {_described(result)} from step, expected 5 values, the last a dict",
                STEP_REMEDY,
            )
        obs, reward, *flags, info = result
        self._check_observation(obs, "step")
        self._check_reward(reward)
        self._check_mask(obs, info)
        for name, flag in zip(("terminated", "truncated"), flags, strict=True):
            array = _array(flag)
            if array.dtype != bool or array.shape != ():
                raise LastingFault(
                    f"returned {name} {_described(flag)}, expected True or False",
                    f"return bool({name})",
                )
        return result

    def _is_plain(self, result: Any) -> bool:
        """Whether a step returned the usual types and shape, so that nothing else is to check."""
        if self._plain is None or type(result) is not tuple or len(result) != 5:
            return False
        obs, reward, terminated, truncated, info = result
        return (
            type(obs) is np.ndarray
            and obs.dtype == self._plain[1]
            and obs.shape == self._plain[0]
            and type(reward) in FLOATS
            and type(terminated) in FLAGS
            and type(truncated) in FLAGS
            and type(info) is dict
        )

    def _check_observation(self, obs: Any, method: str) -> None:
        """Raises `LastingFault` for an observation of `method` that is not in its space."""
        if type(obs) is np.ndarray and (obs.shape, obs.dtype) == self._plain:
            return
        fault = observation_fault(self.env.observation_space, obs, self.checks_values)
        if fault:
            raise LastingFault(f"returned from {method} an {fault}", SPACE_REMEDY)

    def _check_mask(self, obs: Any, info: dict) -> None:
        """Raises `LastingFault` for a mask that would not be respected, if values are checked."""
        reported = MASK in info
        if self.reports_mask is None:
            self.reports_mask = reported
        if not self.checks_values:
            return
        if reported and not self.reports_mask:
            raise LastingFault(f"has {MASK!r} in this info, and not in that of reset", MASK_REMEDY)
        if reported and isinstance(self._actions, spaces.Box):
            raise LastingFault(
                f"has {MASK!r} in its info, and continuous actions",
                "leave it out, or make them discrete by gymnasium.wrappers.TransformAction",
            )
        if isinstance(obs, Mapping) and MASK in obs and not reported:
            raise LastingFault(
                f"has {MASK!r} in its observation, and not in its info",
                "report it in the info of reset and of every step, or drop it by "
                "gymnasium.wrappers.FilterObservation",
            )

    def _check_reward(self, reward: Any) -> None:
        """Raises `LastingFault` for a reward that is not one number."""
        if type(reward) in FLOATS and not self.checks_values:
            return
        array = _array(reward)
        if array.shape != () or array.dtype.kind not in "biuf":
            raise LastingFault(
                f"returned reward {_described(reward)}, expected one number", "return float(reward)"
            )
        if self.checks_values and not abs(float(array)) <= float(np.finfo(np.float32).max):
            raise LastingFault(
                f"returned reward {_described(reward)}, expected a finite number of float32",
                "find its division by zero, logarithm or overflow, or clip it by "
                "gymnasium.wrappers.TransformReward",
            )


def _any_value(space: spaces.Box) -> bool:
    """Whether values of the right dtype may be any: floats, checked elsewhere, and bytes."""
    bytes_ = space.dtype == np.uint8 and (space.low == 0).all() and (space.high == 255).all()
    return space.dtype.kind == "f" or bool(bytes_)


def observation_fault(
    space: spaces.Space, obs: Any, values: bool, name: str = "observation"
) -> str | None:
    """Describes what is wrong with an observation, None if nothing is.

    Args:
        space: made of `Box`, `Discrete`, `MultiDiscrete`, `MultiBinary`, `Dict` and `Tuple`.
        obs: the observation.
        values: whether to check bounds and finiteness of floats too.
        name: of the observation in the description.
    """
    if isinstance(space, spaces.Dict):
        keys = list(space.keys())
        if not isinstance(obs, Mapping) or set(obs) != set(keys):
            return f"{name} {_described(obs)}, expected a dict with the keys {keys}"
        parts = [(f"{name}[{key!r}]", space[key], obs[key]) for key in keys]
    elif isinstance(space, spaces.Tuple):
        if not isinstance(obs, tuple | list) or len(obs) != len(space):
            return f"{name} {_described(obs)}, expected a tuple of {len(space)}"
        parts = [(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(space, obs, strict=True))]
    elif isinstance(space, spaces.Box):
        return _box_fault(space, obs, values, name)
    else:
        return None if space.contains(obs) else f"{name} {_described(obs)}, expected {space}"
    faults = (observation_fault(part, value, values, label) for label, part, value in parts)
    return next(filter(None, faults), None)


def _box_fault(space: spaces.Box, obs: Any, values: bool, name: str) -> str | None:
    """Describes what is wrong with an observation of a box, None if nothing is."""
    array, integers = _array(obs), space.dtype.kind in "biu"
    if array.dtype == object:
        return f"{name} {_described(obs)}, expected numbers of shape {space.shape}"
    if array.shape != space.shape:
        return f"{name} of shape {array.shape}, expected {space.shape}"
    if array.dtype.kind not in ("biu" if integers else "biuf"):
        return f"{name} of dtype {array.dtype}, expected {space.dtype}"
    if integers and (wrong := (array > EXACT) | (array < -EXACT)).any():
        expected = "integers of at most 2^24, beyond which float32 loses digits"
        return f"{name} with {_component(array, wrong)}, expected {expected}"
    if integers or values:
        low, high = (space.low, space.high) if integers else _widened(space)
        wrong = ~((array >= low) & (array <= high))
        if wrong.any():
            first = tuple(np.argwhere(wrong)[0])
            bounds = f"[{space.low[first]:g}, {space.high[first]:g}]"
            expected = "a finite number" if integers else "a finite number of float32"
            return f"{name} with {_component(array, wrong)}, expected {expected} in {bounds}"
    return None


def _widened(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that rounded numbers keep, none beyond the largest of float32."""
    largest = np.finfo(np.float32).max
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    low = low - ROUNDING * np.maximum(1, np.abs(low))
    high = high + ROUNDING * np.maximum(1, np.abs(high))
    return np.maximum(low, -largest), np.minimum(high, largest)


def _array(value: Any) -> np.ndarray:
    """A value as an array: of objects, without dimensions, if it is ragged or cannot be one."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError):
        return np.array(None)


def _component(array: np.ndarray, wrong: np.ndarray) -> str:
    """The first component that is wrong, such as "2 at [3]"."""
    first = tuple(map(int, np.argwhere(wrong)[0]))
    return f"{array[first]}" + (f" at {list(first)}" if first else "")


def _described(value: Any) -> str:
    """A value on one line of at most 60 characters, with its type where that is not obvious."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:50]}... ({type(value).__name__})"


def _raise_as_fault(error: Exception) -> None:
    """Raises `LastingFault` for an error of a wrapper of gymnasium that cannot unpack a result."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if "unpack" in str(error) and "gymnasium" in frame.filename:
        raise LastingFault(f"returned another tuple from step ({error})", STEP_REMEDY) from error
