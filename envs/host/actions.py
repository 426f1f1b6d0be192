"""Maps standard actions to the action space of an environment; no jax.

Standard are 0..n-1, several such choices at once, and [A] in [-1, 1].
"""

import math
from functools import partial

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

UNBOUNDED = 1e9  # a bound of at least this size counts as none: 0.3 would become a third of it
LARGEST = 10_000  # most numbers in one observation or action, and most discrete actions
FARTHEST = 0.999  # of a component with one bound: an action up to here, 1,999 units off the bound


def standard_actions(env: gymnasium.Env, id: str) -> gymnasium.Env:
    """Wraps `env` so that its actions are 0..n-1, several such choices, or [A] clipped to [-1, 1].

    `Discrete` actions are counted from 0, and so are those of `MultiDiscrete` and `MultiBinary`,
    which are several choices [n], one after another. Those of a box are flattened. A component with
    two bounds is rescaled to them, to equal shares of every integer if it is of integers; one with
    one bound is mapped to the half-line by bound + (1 + a) / (1 - a), or bound - (1 - a) / (1 + a).

    Raises:
        ValueError: for a component without bounds, for more than LARGEST components or discrete
            actions, and for other spaces.
    """
    space = env.action_space
    discrete = isinstance(space, spaces.Discrete)
    several = isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary)
    size = int(space.n) if discrete else math.prod(space.shape or ())
    if several:
        return _several_choices(env, id)
    if not 1 <= size <= LARGEST:
        raise ValueError(
            f"{id}: action space {space} has {size} {'actions' if discrete else 'components'}, "
            f"expected 1 to {LARGEST}; map it by gymnasium.wrappers.TransformAction"
        )
    if discrete:
        if space.start == 0 and space.dtype == np.int64:
            return env
        counted = partial(shaped_choices, space=space, start=np.asarray(space.start))
        return wrappers.TransformAction(env, counted, spaces.Discrete(int(space.n)))
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"{id}: action space {space} is neither discrete nor a Box; map it by "
            "gymnasium.wrappers.TransformAction"
        )
    check_bounds(space, f"{id}: action space")
    low, high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
    below, above = low > -UNBOUNDED, high < UNBOUNDED
    free = np.flatnonzero(~below & ~above)
    if free.size:
        raise ValueError(
            f"{id}: action space {space} has no bounds in component {free[0]} (from {UNBOUNDED:g} "
            "on a bound counts as none); give it some by gymnasium.wrappers.TransformAction"
        )
    plain = space.dtype.kind == "f" and len(space.shape) == 1 and (below & above).all()
    if plain and (low < high).all():
        ends = -np.ones_like(space.low), np.ones_like(space.high)
        return wrappers.ClipAction(wrappers.RescaleAction(env, *ends))
    to_action = partial(box_action, space=space, low=low, high=high)
    vector = spaces.Box(-1.0, 1.0, low.shape, np.float32)
    return wrappers.TransformAction(env, to_action, vector)


def _several_choices(env: gymnasium.Env, id: str) -> gymnasium.Env:
    """Wraps `env` so that its `MultiDiscrete` or `MultiBinary` actions are choices [n] from 0.

    Raises:
        ValueError: for more than LARGEST actions of all choices, or a choice of none.
    """
    space = env.action_space
    binary = isinstance(space, spaces.MultiBinary)
    sizes = np.full(space.shape, 2) if binary else space.nvec
    if not 1 <= sizes.sum() <= LARGEST or sizes.min() < 1:
        raise ValueError(
            f"{id}: action space {space} has {sizes.sum()} actions in {sizes.size} choices, "
            f"expected 1 to {LARGEST} in all; map it by gymnasium.wrappers.TransformAction"
        )
    start = np.zeros_like(sizes) if binary else np.broadcast_to(space.start, sizes.shape)
    if sizes.ndim == 1 and not start.any() and space.dtype == np.int64:
        return env
    to_action = partial(shaped_choices, space=space, start=start)
    return wrappers.TransformAction(env, to_action, spaces.MultiDiscrete(sizes.ravel()))


def shaped_choices(action: np.ndarray, *, space: spaces.Space, start: np.ndarray) -> np.ndarray:
    """Element of `space`, in its dtype, for choices [n] or one, from 0; `start` is the least."""
    return (np.reshape(action, start.shape) + start).astype(space.dtype)


def check_bounds(space: spaces.Box, name: str) -> None:
    """Checks that no lower bound is above the upper one, or NaN; ValueError if so."""
    wrong = ~(space.low <= space.high)
    if wrong.any():
        i = tuple(map(int, np.argwhere(wrong)[0]))
        raise ValueError(
            f"{name} has the bounds {space.low[i]} and {space.high[i]} at {list(i)}, expected two "
            "numbers, the lower one first; correct its low and high"
        )


def box_action(
    action: np.ndarray, *, space: spaces.Box, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Element of `space` for an action [A] in [-1, 1]; low, high [A] are the bounds, in float64."""
    action = np.clip(action.astype(np.float64), -1.0, 1.0)
    upper, lower = low <= -UNBOUNDED, high >= UNBOUNDED  # the side without a bound
    integers = space.dtype.kind in "biu"
    share = (action + 1) / 2
    with np.errstate(over="ignore", invalid="ignore"):
        value = low + share * (high - low + integers)
    up, down = (np.minimum(side, FARTHEST) for side in (action, -action))
    value = np.where(lower, low + (1 + up) / (1 - up), value)
    value = np.where(upper, high - (1 + down) / (1 - down), value)
    value = np.clip(np.floor(value) if integers else value, low, high)
    return value.astype(space.dtype).reshape(space.shape)
