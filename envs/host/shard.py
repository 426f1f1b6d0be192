"""Shard of a pool: some of its environments in one process, seeded, stepped and replayed."""

import os
import pickle
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.host.fault import Fault, LastingFault

NUMBER_REMEDY = "find its division by zero, logarithm or overflow, or clip it by gymnasium.wrappers"
RAISED_REMEDY = "fix the environment, or catch this exception in a wrapper"
REPLAY_REMEDY = (
    "draw from self.np_random, which super().reset(seed=seed) seeds, and set all state in reset; "
    "or accept it by load_suite(..., reproducible=False) or --not-reproducible"
)


def _bits(array: np.ndarray, dtype=None) -> bytes:
    """Bytes of an array, cast to `dtype` first if one is given."""
    return array.astype(dtype or array.dtype).tobytes()


def _plain(actions: np.ndarray) -> Iterable:
    """Actions [n, ...] one by one, discrete ones as int, which `Discrete.contains` finds faster."""
    return actions.tolist() if actions.ndim == 1 and actions.dtype.kind == "i" else actions


class _TrackedEnv(gymnasium.Wrapper):
    """One environment; before each call it writes [index, episode seed, calls] to `progress`."""

    def __init__(self, make, index: int, info_keys: Sequence[str], progress: memoryview):
        self._index, self._seed, self._info_keys, self._progress = index, -1, info_keys, progress
        self.mark()
        super().__init__(make())

    def mark(self) -> None:
        """Writes index and episode seed to the shared memory and counts the call."""
        progress = self._progress
        progress[0], progress[1], progress[2] = self._index, self._seed, progress[2] + 1

    def reset(self, *, seed=None, options=None):
        self._seed = seed
        self.mark()
        return self.env.reset(seed=seed)[0], {}

    def step(self, action):
        self.mark()
        obs, reward, terminated, truncated, info = self.env.step(action)
        missing = [key for key in self._info_keys if key not in info]
        if missing:
            raise KeyError(f"info has no {missing[0]!r}, only {sorted(info)}")
        return obs, reward, terminated, truncated, [info[key] for key in self._info_keys]


class EnvShard:
    """Part of a pool's environments in one process."""

    def __init__(self, progress: memoryview):
        self._progress = progress
        self.envs: list[_TrackedEnv] = []

    def call(self, method: str, *args) -> Any:
        """Calls `make`, `replay` or `step`; turns any exception into `Fault`."""
        try:
            result = getattr(self, method)(*args)
        except Fault:
            raise
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            location = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            text = " ".join(str(error).split())
            raise Fault(
                f"raised {type(error).__name__}: {text} ({location})", RAISED_REMEDY
            ) from error
        self._progress[0] = -1
        return result

    def make(self, make: Callable | bytes, num_envs: int, info_keys: Sequence[str]):
        """Makes the environments -> (observation space, action space, limit or None, exact replay).

        The limit is that of an episode; the last is whether a seed and actions determine it.
        """
        self.close()
        make = pickle.loads(make) if isinstance(make, bytes) else make
        self._info_keys = info_keys
        self.envs = [_TrackedEnv(make, i, info_keys, self._progress) for i in range(num_envs)]
        first_env = self.envs[0].env
        spaces = first_env.observation_space, first_env.action_space
        if any((env.observation_space, env.action_space) != spaces for env in self.envs):
            raise LastingFault("has other spaces whenever it is made", "declare the same each time")
        limit = None
        if first_env.has_wrapper_attr("_max_episode_steps"):  # of gymnasium's TimeLimit
            limit = first_env.get_wrapper_attr("_max_episode_steps")
        checked = first_env.has_wrapper_attr("reproducible")
        self._reproducible = not checked or first_env.get_wrapper_attr("reproducible")
        return *spaces, limit, self._reproducible

    def replay(self, seeds, length, actions, expected) -> np.ndarray:
        """Replays episodes: seeds [b], length [b], actions [b, L, ...] -> obs [b, ...].

        Environments that are not reproducible start these episodes anew.

        Raises:
            LastingFault: if the observations differ from `expected`, compared in its dtype.
        """
        obs = self._empty_obs()
        for i, env in enumerate(self.envs):
            obs[i] = env.reset(seed=int(seeds[i]))[0]
        for i, env in enumerate(self.envs if self._reproducible else ()):
            for action in _plain(actions[i, : length[i]]):
                obs[i] = env.step(action)[0]
            if expected is not None and _bits(obs[i], expected.dtype) != _bits(expected[i]):
                raise LastingFault(
                    "replayed its seed and actions to other observations", REPLAY_REMEDY
                )
        self._check_finite(obs)
        return obs

    def step(self, actions, seeds):
        """Steps all environments; resets those that end with `seeds` [b].

        Returns:
            next_obs [b, ...], obs [b, ...] to act on, reward, terminated, truncated, info.
        """
        next_obs, count = self._empty_obs(), len(self.envs)
        reward, info = np.empty(count), np.empty((len(self._info_keys), count), np.float32)
        terminated, truncated = np.empty((2, count), bool)
        for i, (env, action) in enumerate(zip(self.envs, _plain(actions), strict=True)):
            next_obs[i], reward[i], terminated[i], truncated[i], scalars = env.step(action)
            if scalars:
                info[:, i] = scalars
        self._check_finite(next_obs, reward)
        obs = next_obs.copy()
        for i in np.flatnonzero(terminated | truncated):
            obs[i] = self.envs[i].reset(seed=int(seeds[i]))[0]
        self._check_finite(obs)
        results = next_obs, obs, reward.astype(np.float32), terminated, truncated
        return *results, dict(zip(self._info_keys, info, strict=True))

    def close(self) -> None:
        """Closes the environments."""
        for env in self.envs:
            env.close()
        self.envs = []

    def _empty_obs(self) -> np.ndarray:
        """Array for the observations of all environments, [b, ...]."""
        space = self.envs[0].observation_space
        return np.empty((len(self.envs), *space.shape), space.dtype)

    def _check_finite(self, obs: np.ndarray, reward: np.ndarray | None = None) -> None:
        """Raises `LastingFault` for the first environment whose obs or reward is not finite."""
        for name, array in (("observation", obs), ("reward", reward)):
            if array is None:
                continue
            with np.errstate(over="ignore"):
                finite = np.isfinite(array.astype(np.float32))
            if finite.all():
                continue
            first = np.argwhere(~finite)[0]
            self.envs[first[0]].mark()
            raise LastingFault(
                f"returned {name} {array[tuple(first)]}, expected a finite number of float32",
                NUMBER_REMEDY,
            )
