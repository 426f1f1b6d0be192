"""Memory that a worker process shares with its caller: the arrays of a step or of a rollout."""

import math
import mmap
import os
from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from envs.host.fault import LastingFault

ALIGNED = 64  # bytes, at multiples of which arrays begin
ROOM_REMEDY = "free some of the temporary folder (TMPDIR), or step in this process: workers=0"

Parts = list[tuple[tuple[int, ...], np.dtype | type]]  # shape and dtype of each array


def shared_arrays(file: int, parts: Parts) -> list[np.ndarray]:
    """Arrays in a file that is mapped by both processes, and enlarged as needed.

    Args:
        file: descriptor.
        parts: shapes and dtypes.

    Raises:
        LastingFault: if the disk has no room for them.
    """
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in parts]
    starts = np.cumsum([0, *(-(-size // ALIGNED) * ALIGNED for size in sizes)]).tolist()
    try:
        os.posix_fallocate(file, 0, starts[-1] + ALIGNED)
        memory = mmap.mmap(file, starts[-1] + ALIGNED)
    except OSError as error:
        cause = f"has no room for its {starts[-1]:,} bytes of arrays ({error.strerror})"
        raise LastingFault(cause, ROOM_REMEDY) from error
    return [
        np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)
        for (shape, dtype), start in zip(parts, starts[:-1], strict=True)
    ]


def rollout_parts(
    steps: int, count: int, observation_space: spaces.Space, action_space: spaces.Space
) -> Parts:
    """Shapes and dtypes of the results of T steps of b environments (`EnvShard.rollout`).

    They are action, next_obs, obs to act on, reward, terminated and truncated, [T, b, ...] each.
    """
    obs = (steps, count, *observation_space.shape), observation_space.dtype
    chosen = np.int32 if action_space.dtype.kind == "i" else np.float32
    scalars = [((steps, count), dtype) for dtype in (np.float32, bool, bool)]
    action = (steps, count, *action_space.shape), chosen
    return [action, obs, obs, *scalars]


class RolloutMemory:
    """Results of rollouts of b environments, in a file mapped by both processes.

    Args:
        file: descriptor of the file.
        sizes: b, observation space and action space.
    """

    def __init__(self, file: int, sizes: tuple[int, spaces.Space, spaces.Space]):
        self._file, self._sizes, self._steps = file, sizes, 0

    def arrays(self, steps: int) -> list[np.ndarray]:
        """Arrays of T = `steps` steps, which the next rollout changes.

        Raises:
            LastingFault: if the disk has no room for them.
        """
        if steps != self._steps:
            self._arrays = shared_arrays(self._file, rollout_parts(steps, *self._sizes))
            self._steps = steps
        return self._arrays


class StepMemory:
    """Arguments and results of a step of b environments, in a file mapped by both processes.

    Args:
        file: descriptor of the file, which is enlarged as needed.
        count: b.
        observation_space, action_space: of one environment.
        info_keys: scalars of `info` that a step returns.

    Raises:
        LastingFault: if the disk has no room for it.
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
            ((count,), bool),  # live
            ((1,), bool),  # whether to step only these
            obs,  # next_obs
            obs,
            ((count,), np.float32),  # reward
            ((count,), bool),  # terminated
            ((count,), bool),  # truncated
            ((len(info_keys), count), np.float32),
        ]
        self._arrays = shared_arrays(file, parts)

    def write_call(self, actions: np.ndarray, live: np.ndarray | None) -> None:
        """Writes the arguments of a step."""
        self._arrays[0][:], self._arrays[2][:] = actions, live is not None
        if live is not None:
            self._arrays[1][:] = live

    def read_call(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Arguments of a step: copies, so that no environment changes what its caller sent."""
        actions, live, some = self._arrays[:3]
        return actions.copy(), live.copy() if some[0] else None

    def write_results(self, results: tuple) -> None:
        """Writes the results of a step, as `EnvShard.step` returns them."""
        *arrays, info = results
        for target, array in zip(self._arrays[3:-1], arrays, strict=True):
            target[...] = array
        for target, array in zip(self._arrays[-1], info.values(), strict=True):
            target[...] = array

    def read_results(self) -> tuple:
        """Results of a step: views, which the next step changes."""
        info = dict(zip(self._info_keys, self._arrays[-1], strict=True))
        return *self._arrays[3:-1], info
