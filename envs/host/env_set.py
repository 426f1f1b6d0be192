"""Environments of one shard: made, reset and stepped one by one, or together by EnvPool."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.host.envpool_batch import EnvPoolBatch, envpool_batch
from envs.host.fault import LastingFault

LARGE = 1e30  # the square of a vector, up to which all its components are finite in float32
NUMBER_REMEDY = "find its division by zero, logarithm or overflow, or clip it by gymnasium.wrappers"


class EnvSet:
    """Environments that are marked as they are called, so that a fault can be located.

    Args:
        make: makes one environment.
        count: b.
        info_keys: scalars of `info` that a step returns.
        progress: of `envs.host.shard.EnvShard`.
    """

    def __init__(self, make: Callable, count: int, info_keys: Sequence[str], progress: memoryview):
        self.count, self._info_keys, self._progress = count, info_keys, progress
        self._seeds, self._lengths = [-1] * count, [0] * count
        self.envs: list[gymnasium.Env] = []
        self.batch: EnvPoolBatch | None = None  # steps all of them instead of `envs`
        while len(self.envs) < count and self.batch is None:
            self.mark(len(self.envs))
            self.envs.append(make())
            self.batch = None if info_keys else envpool_batch(self.envs[0], count)

    def close(self) -> None:
        """Closes the environments."""
        for env in self.envs:
            env.close()
        if self.batch is not None:
            self.batch.clear()

    def step_some(
        self,
        indices: Sequence[int],
        actions: Sequence,
        obs: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        info: np.ndarray | None = None,
    ) -> list[int]:
        """Steps the environments of `indices` -> those whose episode ended.

        Their results are written to obs [b, ...], reward, terminated and truncated [b], which are 0
        before, and `info` [keys, b].
        """
        if self.batch is not None:
            return self._step_batch(indices, actions, obs, reward, terminated, truncated)
        rewards, ended = [0.0] * self.count, []
        for i in indices:
            obs[i], rewards[i], ends, stops, values = self.step(i, actions[i])
            if ends or stops:
                terminated[i], truncated[i] = ends, stops
                ended.append(i)
            if info is not None and self._info_keys:
                info[:, i] = self._scalars(values)
        with np.errstate(over="ignore"):
            reward[:] = rewards
            size = 0.0 if obs.dtype == np.uint8 else float(np.vdot(obs, obs))  # bytes are finite
            size += sum(map(abs, rewards))
        if not size < LARGE:  # or not a number
            self._check_finite(obs, indices, np.array(rewards, np.float64))
        return ended

    def _step_batch(
        self,
        indices: Sequence[int],
        actions: Sequence,
        obs: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> list[int]:
        """Steps the environments of `indices` together, as `step_some` does."""
        if not indices:
            return []
        self.mark(indices[0])
        for i in indices:
            self._lengths[i] += 1
        results = self.batch.step(indices, np.asarray(actions)[indices])
        obs[indices], reward[indices], terminated[indices], truncated[indices] = results
        self._check_finite(obs, indices, reward)
        return np.flatnonzero(terminated | truncated).tolist()

    def step(self, i: int, action: Any) -> tuple:
        """Steps one environment."""
        self.mark(i)
        self._lengths[i] += 1
        return self.envs[i].step(action)

    def reset(self, i: int, seed: int) -> Any:
        """Starts an episode of one environment -> obs."""
        self._seeds[i], self._lengths[i] = seed, 0
        self.mark(i)
        return self.envs[i].reset(seed=seed)[0]

    def start(
        self, obs: np.ndarray, indices: Sequence[int], seed_of: Callable[[int, int], int]
    ) -> None:
        """Starts episodes of some environments, whose first observations go to `obs`.

        Args:
            obs: [b, ...], of which the rows `indices` are written.
            indices: of the environments.
            seed_of: (environment, episodes ahead) -> seed of that episode.
        """
        if self.batch is None:
            for i in indices:
                obs[i] = self.reset(i, seed_of(i, 0))
        else:
            for i in indices:
                self._seeds[i], self._lengths[i] = seed_of(i, 0), 0
            self.mark(indices[0])
            obs[indices] = self.batch.reset(indices, seed_of)
        self._check_finite(obs, indices)

    def mark(self, i: int) -> None:
        """Writes where an environment is to the shared memory and counts the call."""
        progress = self._progress
        progress[0], progress[1], progress[3] = i, self._seeds[i], self._lengths[i]
        progress[2] += 1

    def _scalars(self, info: dict) -> list:
        """The scalars of `info_keys`; KeyError if one is missing."""
        missing = [key for key in self._info_keys if key not in info]
        if missing:
            raise KeyError(f"info has no {missing[0]!r}, only {sorted(info)}")
        return [info[key] for key in self._info_keys]

    def _check_finite(
        self, obs: np.ndarray, indices: Sequence[int], reward: np.ndarray | None = None
    ) -> None:
        """Raises `LastingFault` for the first environment whose obs or reward is not finite."""
        for name, array in (("observation", obs), ("reward", reward)):
            if array is None or array.dtype == np.uint8 or not len(indices):
                continue
            with np.errstate(over="ignore"):
                finite = np.isfinite(array if array.dtype == np.float32 else np.float32(array))
            if finite.all():
                continue
            first = np.argwhere(~finite)[0]
            self._lengths[first[0]] -= self._lengths[first[0]] > 0  # before the step
            self.mark(int(first[0]))
            raise LastingFault(
                f"returned {name} {array[tuple(first)]}, expected a finite number of float32",
                NUMBER_REMEDY,
            )
