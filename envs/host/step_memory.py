"""Memory that a worker process shares with its caller: the arrays of one step."""

import math
import mmap
import os
from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

ALIGNED = 64  # bytes, at multiples of which arrays begin


class StepMemory:
    """Arguments and results of a step of b environments, in a file mapped by both processes.

    Args:
        file: descriptor of the file, which is enlarged as needed.
        count: b.
        observation_space, action_space: of one environment.
        info_keys: scalars of `info` that a step returns.

    Raises:
        OSError: if the disk has no room for it.
    """

    def __init__(
        self,
        file: int,
        count: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        info_keys: Sequence[str],
    ):
        self._info_keys = info_keys
        obs = (count, *observation_space.shape), observation_space.dtype
        parts = [
            ((count, *action_space.shape), action_space.dtype),
            ((count,), np.uint32),  # seeds
            obs,  # next_obs
            obs,
            ((count,), np.float32),  # reward
            ((count,), bool),  # terminated
            ((count,), bool),  # truncated
            ((len(info_keys), count), np.float32),
        ]
        bytes_used = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in parts]
        starts = np.cumsum([0, *(-(-size // ALIGNED) * ALIGNED for size in bytes_used)]).tolist()
        os.posix_fallocate(file, 0, starts[-1] + ALIGNED)
        memory = mmap.mmap(file, starts[-1] + ALIGNED)
        self._arrays = [
            np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)
            for (shape, dtype), start in zip(parts, starts[:-1], strict=True)
        ]

    def write_call(self, actions: np.ndarray, seeds: np.ndarray) -> None:
        """Writes the arguments of a step."""
        self._arrays[0][:], self._arrays[1][:] = actions, seeds

    def read_call(self) -> tuple[np.ndarray, np.ndarray]:
        """Arguments of a step: copies, so that no environment changes what its caller sent."""
        return self._arrays[0].copy(), self._arrays[1].copy()

    def write_results(self, results: tuple) -> None:
        """Writes the results of a step, as `EnvShard.step` returns them."""
        *arrays, info = results
        for target, array in zip(self._arrays[2:-1], arrays, strict=True):
            target[...] = array
        for target, array in zip(self._arrays[-1], info.values(), strict=True):
            target[...] = array

    def read_results(self) -> tuple:
        """Results of a step: views, which the next step changes."""
        info = dict(zip(self._info_keys, self._arrays[-1], strict=True))
        return *self._arrays[2:-1], info
