"""Observations and actions in spaces of gymnasium, as the numbers that heads read.

Observations become vectors [D] as by `gymnasium.spaces.flatten`, and actions 0..n-1, several of
them, or [A] in [-1, 1]. gymnasium is imported when a reader is made.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from affect.transition import Spec, is_a, is_whole, one_line

Reader = Callable[[Any], np.ndarray]


class ObsReader:
    """Function from a batch of observations to vectors [B, D] float32, always new arrays.

    A box is flattened; a discrete number becomes one of n ones, several of them one after the
    other; of a dict the chosen keys are read, in their order.

    Args:
        space: of one observation, of gymnasium.
        keys: of a `Dict` space that heads read.

    Raises:
        ValueError: a space of another kind, or keys that do not fit it.
    """

    def __init__(self, space: Any, keys: Sequence[str] | None = None):
        self.parts = [(key, *_part(part)) for key, part in _chosen(space, keys)]
        self.size = sum(size for _, size, *_ in self.parts)
        if self.size < 1:
            raise ValueError(f"the observation space {space} is empty: heads read numbers")

    def __call__(self, obs: Any) -> np.ndarray:
        """Vectors [B, D] float32 of observations [B, ...], or of a dict of them.

        Raises:
            ValueError: observations of another shape than that of the space.
        """
        vectors = []
        for key, _, shape, read in self.parts:
            if key is not None and not (is_a(obs, Mapping) and key in obs):
                raise ValueError(f"an observation is {one_line(obs)}, expected a dict with {key!r}")
            batch = np.asarray(obs if key is None else obs[key])
            if batch.dtype == object or batch.shape[1:] != shape:
                wanted = ", ".join(["B", *map(str, shape)])
                raise ValueError(f"observations are {one_line(batch)}, expected [{wanted}]")
            vectors.append(read(batch))
        return vectors[0] if len(vectors) == 1 else np.concatenate(vectors, 1)

    def one(self, obs: Any) -> np.ndarray:
        """Vector [1, D] of a single observation.

        Raises:
            ValueError: it has another shape than that of the space.
        """
        if is_a(obs, Mapping):
            return self({key: np.asarray(value)[None] for key, value in obs.items()})
        return self(np.asarray(obs)[None])


def _chosen(space: Any, keys: Sequence[str] | None) -> list[tuple[str | None, Any]]:
    """The parts of a space that are read, by key; the key of a space that is no `Dict` is None."""
    from gymnasium import spaces

    if not is_a(space, spaces.Dict):
        if keys is not None:
            raise ValueError(f"obs_keys={keys!r} choose of a Dict, and the space is {space}")
        return [(None, space)]
    names = list(space.keys())
    if keys is None or is_a(keys, str) or not keys or not set(keys) <= set(names):
        raise ValueError(
            f"observations are a Dict of {names}, and obs_keys={keys!r}: say which of them heads "
            f"read, as in obs_keys=({names[0]!r},)"
        )
    return [(key, space[key]) for key in keys]


def _part(space: Any) -> tuple[int, tuple[int, ...], Reader]:
    """(Length of the vector, shape, function from [B, *shape] to vectors) of a simple space."""
    from gymnasium import spaces

    if is_a(space, spaces.Discrete):
        return int(space.n), (), _one_hot(np.array([space.n]), np.array([space.start]))
    if is_a(space, spaces.MultiDiscrete):
        counts, start = space.nvec.ravel(), np.broadcast_to(space.start, space.nvec.shape).ravel()
        return int(counts.sum()), space.nvec.shape, _one_hot(counts, start)
    if is_a(space, spaces.Box | spaces.MultiBinary):
        shape = tuple(space.shape)
        return math.prod(shape), shape, _flat
    raise ValueError(
        f"heads cannot read the observation space {space}: map it to a Box, as by "
        "gymnasium.wrappers.TransformObservation"
    )


def _flat(batch: np.ndarray) -> np.ndarray:
    """Vectors [B, D] of an array [B, ...]."""
    return np.array(batch, np.float32).reshape(len(batch), -1)


def _one_hot(counts: np.ndarray, start: np.ndarray) -> Reader:
    """Function from whole numbers [B, ...] to a one for each, among `counts` zeros from `start`."""
    offsets, total = np.concatenate([[0], np.cumsum(counts)[:-1]]), int(counts.sum())

    def read(batch: np.ndarray) -> np.ndarray:
        index = batch.reshape(len(batch), -1).astype(np.int64) - start
        if ((index < 0) | (index >= counts)).any():
            raise ValueError(f"an observation has {batch.ravel()[:4]}..., outside its space")
        vectors = np.zeros((len(batch), total), np.float32)
        np.put_along_axis(vectors, index + offsets, 1.0, 1)
        return vectors

    return read


class ActionReader:
    """Function from actions [B, ...] to 0..n-1 [B], those of several choices [B, n], or [B, A].

    Those of choices are int32; each component of a box is mapped to [-1, 1] float32 by its bounds,
    and clipped; one without two bounds by x / (1 + |x|).

    Args:
        space: of one action, of gymnasium.

    Raises:
        ValueError: a space of another kind.
    """

    def __init__(self, space: Any):
        from gymnasium import spaces

        self.num_actions = self.action_dim = 0
        self.action_sizes: tuple[int, ...] = ()
        if is_a(space, spaces.Box):
            self.action_dim, self.box = math.prod(space.shape), _to_unit(space)
            return
        if is_a(space, spaces.Discrete):
            self.num_actions, counts, start = int(space.n), np.array([space.n]), space.start
        elif is_a(space, spaces.MultiDiscrete):
            counts = space.nvec.ravel()
            start = np.broadcast_to(space.start, space.nvec.shape).ravel()
        elif is_a(space, spaces.MultiBinary):
            counts, start = np.full(math.prod(space.shape), 2), 0
        else:
            raise ValueError(f"the action space {space} is no Box and not discrete: map it to one")
        self.action_sizes = () if self.num_actions else tuple(map(int, counts))
        self.start, self.last = start, counts - 1

    def __call__(self, action: Any) -> np.ndarray:
        """Actions [B], [B, n] or [B, A], of actions of the space [B, ...]."""
        batch = np.asarray(action)
        rows = batch.reshape(len(batch), -1)
        if self.action_dim:
            return self.box(rows)
        chosen = np.clip(rows.astype(np.int64) - self.start, 0, self.last).astype(np.int32)
        return chosen[:, 0] if self.num_actions else chosen


def _to_unit(space: Any) -> Reader:
    """Function from actions [B, A] in a box to [-1, 1]."""
    low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
    bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    middle, half = np.zeros_like(low), np.ones_like(low)
    middle[bounded] = low[bounded] / 2 + high[bounded] / 2
    half[bounded] = high[bounded] / 2 - low[bounded] / 2

    def read(action: np.ndarray) -> np.ndarray:
        value = (action.astype(np.float64) - middle) / half
        value = np.where(bounded, np.clip(value, -1, 1), value / (1 + np.abs(value)))
        return value.astype(np.float32)

    return read


def spec_of(
    obs: ObsReader,
    actions: ActionReader,
    info: Mapping[str, tuple[int, ...]] | None = None,
    discount: float | None = None,
) -> Spec:
    """The `Spec` of what readers give.

    Args:
        obs: of the observations.
        actions: of the actions.
        info: key of `info` that heads read -> its shape for one environment, () for a number.
        discount: of the agent that learns.

    Raises:
        ValueError: `info` is no such mapping, or the discount is none.
    """
    sizes = actions.num_actions, actions.action_dim
    return Spec(obs.size, *sizes, info_keys(info), discount, actions.action_sizes)


def info_keys(info: Any) -> tuple[str, ...]:
    """The keys of `info` that heads read, of key -> shape; ValueError if it is no such mapping."""
    shapes = {} if info is None else info
    if not is_a(shapes, Mapping) or not all(
        is_a(shape, tuple) and all(map(is_whole, shape)) for shape in shapes.values()
    ):
        raise ValueError(
            f"info={one_line(info)}: give the shape of each key that heads read, as in "
            'info={"harm": (), "body": (2,)}'
        )
    return tuple(shapes)
