"""Shard of a pool: some of its environments in one process, seeded, stepped and replayed."""

import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

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
        scalars = {key: float(info[key]) for key in self._info_keys}
        return obs, reward, terminated, truncated, scalars


class EnvShard:
    """Part of a pool's environments in one process, in gymnasium's `SyncVectorEnv`."""

    def __init__(self, progress: memoryview):
        self._progress = progress
        self.envs = None

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
        if self.envs is not None:
            self.envs.close()
        make = pickle.loads(make) if isinstance(make, bytes) else make
        self._info_keys = info_keys
        self.envs = SyncVectorEnv(
            [lambda i=i: _TrackedEnv(make, i, info_keys, self._progress) for i in range(num_envs)],
            copy=False,
            autoreset_mode=AutoresetMode.DISABLED,
        )
        first_env = self.envs.envs[0].env
        limit = None
        if first_env.has_wrapper_attr("_max_episode_steps"):  # of gymnasium's TimeLimit
            limit = first_env.get_wrapper_attr("_max_episode_steps")
        checked = first_env.has_wrapper_attr("reproducible")
        self._reproducible = not checked or first_env.get_wrapper_attr("reproducible")
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        return *spaces, limit, self._reproducible

    def replay(self, seeds, length, actions, expected) -> np.ndarray:
        """Replays episodes: seeds [b], length [b], actions [b, L, ...] -> obs [b, ...].

        Environments that are not reproducible start these episodes anew.

        Raises:
            LastingFault: if the observations differ from `expected`, compared in its dtype.
        """
        obs = self.envs.reset(seed=seeds.tolist())[0].copy()
        for i, env in enumerate(self.envs.envs if self._reproducible else ()):
            for action in actions[i, : length[i]]:
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
            next_obs [b, ...], first obs of the new episodes, reward, terminated, truncated, info.
        """
        obs, reward, terminated, truncated, info = self.envs.step(actions)
        self._check_finite(obs, reward)
        next_obs, ended = obs.copy(), terminated | truncated
        if ended.any():
            obs, _ = self.envs.reset(seed=seeds.tolist(), options={"reset_mask": ended})
            self._check_finite(obs)
        info = {key: info[key].astype(np.float32) for key in self._info_keys}
        return next_obs, obs[ended], reward.astype(np.float32), terminated, truncated, info

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
            self.envs.envs[first[0]].mark()
            raise LastingFault(
                f"returned {name} {array[tuple(first)]}, expected a finite number of float32",
                NUMBER_REMEDY,
            )
