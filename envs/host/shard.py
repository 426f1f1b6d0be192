"""Shard of a pool: some of its environments in one process, seeded, stepped and replayed."""

import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from envs.host.env_set import EnvSet
from envs.host.episode_log import episode_seed
from envs.host.fault import Fault, LastingFault
from envs.host.policy import executed
from envs.host.rollout_call import RolloutCall

PROGRESS = 32  # bytes of the four numbers of `EnvShard`
MEASURED = 0.1  # seconds of steps, after which their time is known
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


class EnvShard:
    """Part of a pool's environments in one process.

    Args:
        progress: to which [index, episode seed, calls so far, steps of the episode] are written
            before each call of an environment; the index is -1 between them.
    """

    def __init__(self, progress: memoryview):
        self._progress = progress
        self._set: EnvSet | None = None
        self.stopped: Callable[[], bool] | None = None  # asked before each step of a rollout

    def call(self, method: str, *args) -> Any:
        """Calls a method; turns any exception into `Fault`."""
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
        self._info_keys, self._count = info_keys, num_envs
        self._set = EnvSet(make, num_envs, info_keys, self._progress)
        first_env = self._set.envs[0]
        spaces = first_env.observation_space, first_env.action_space
        if any((env.observation_space, env.action_space) != spaces for env in self._set.envs):
            raise LastingFault("has other spaces whenever it is made", "declare the same each time")
        self._action_dtype, limit = spaces[1].dtype, None
        if first_env.has_wrapper_attr("_max_episode_steps"):  # of gymnasium's TimeLimit
            limit = first_env.get_wrapper_attr("_max_episode_steps")
        checked = first_env.has_wrapper_attr("reproducible")
        self._reproducible = not checked or first_env.get_wrapper_attr("reproducible")
        return *spaces, limit, self._reproducible

    def replay(self, origin, length, actions, expected) -> np.ndarray:
        """Replays episodes: length [b], actions [b, L, ...] -> obs [b, ...].

        Environments that are not reproducible start these episodes anew.

        Args:
            origin: seed of the pool, streams [b] and numbers [b] of the episodes.
            length: [b] of the episodes.
            actions: [b, L, ...] of the episodes.
            expected: observations at their ends, compared in their dtype; None to compare none.

        Raises:
            LastingFault: if the observations differ from `expected`.
        """
        self._pool_seed, self._streams = origin[0], origin[1].tolist()
        self._episodes = (origin[2] - 1).tolist()
        obs, everything = self._empty_obs(), range(self._count)
        if self._set.batch is not None:
            self._set.batch.clear()
        self._start_next(obs, everything)
        for t in range(length.max() if self._reproducible else 0):
            some = [i for i in everything if length[i] > t]
            unused = np.zeros(self._count, np.float32), *np.zeros((2, self._count), bool)
            self._set.step_some(some, _plain(actions[:, t]), obs, *unused)
        if expected is not None and self._reproducible:
            same = [_bits(obs[i], expected.dtype) == _bits(expected[i]) for i in everything]
            if not all(same):
                self._set.mark(same.index(False))
                raise LastingFault(
                    "replayed its seed and actions to other observations", REPLAY_REMEDY
                )
        self._obs = obs
        return obs

    def step(self, actions, live=None):
        """Steps the environments once, with actions [b, ...]; starts the next episodes at ends.

        Args:
            actions: [b, ...].
            live: [b] the environments that are stepped; the others keep their observations, and no
                next episode starts. None to step all.

        Returns:
            next_obs [b, ...], obs [b, ...] to act on, reward, terminated, truncated, info.
        """
        obs, reward = self._obs.copy(), np.zeros(self._count, np.float32)
        terminated, truncated = np.zeros((2, self._count), bool)
        info = np.zeros((len(self._info_keys), self._count), np.float32)
        arrays = obs, reward, terminated, truncated
        ended = self._set.step_some(_indices(live, self._count), _plain(actions), *arrays, info)
        next_obs = obs.copy()
        if live is None:
            self._start_next(obs, ended)
        self._obs = obs
        return next_obs, obs, *arrays[1:], dict(zip(self._info_keys, info, strict=True))

    def rollout(self, call: RolloutCall, results: Sequence[np.ndarray]) -> bool:
        """Steps the environments T times, acting by a policy -> whether it was not stopped.

        Args:
            call: the policy, and where the environments are in their streams of episodes.
            results: arrays that are written, as `envs.host.step_memory.rollout_parts` lists them.
                An environment that is not live keeps its observation, with reward 0.
        """
        chosen, next_obs, obs, reward, terminated, truncated = results
        shape = self._obs.shape[1:]
        padded = np.zeros((len(call.policy.layers[0][0]), call.num_envs, *shape), self._obs.dtype)
        rows = slice(call.first_row, call.first_row + self._count)
        current = padded.reshape(-1, *shape)[rows]  # a view: the rows that are acted on and change
        current[:] = self._obs
        reward[:], terminated[:], truncated[:] = 0, False, False
        indices = _indices(call.live, self._count)
        for t in range(call.steps):
            if self.stopped is not None and self.stopped():
                return False
            if not indices:
                chosen[t:], next_obs[t:], obs[t:] = 0, current, current
                break
            acted = call.policy.act(padded, None if call.noise is None else call.noise[t])
            chosen[t] = acted.reshape(-1, *acted.shape[2:])[rows]
            actions = _plain(executed(chosen[t]).astype(self._action_dtype, copy=False))
            arrays = current, reward[t], terminated[t], truncated[t]
            ended = self._set.step_some(indices, actions, *arrays)
            next_obs[t] = current
            if call.live is None:
                self._start_next(current, ended)
            obs[t] = current
            if call.live is not None:
                indices = [i for i in indices if i not in ended]
        self._obs = current.copy()
        return True

    def step_seconds(self, actions) -> float:
        """Median seconds of a step of the first environment, which is then in another episode."""
        seconds = []
        self._set.reset(0, 0)
        for action in _plain(actions):
            start = time.perf_counter()
            _, _, terminated, truncated, _ = self._set.step(0, action)
            seconds.append(time.perf_counter() - start)
            if terminated or truncated:
                self._set.reset(0, 0)
            if sum(seconds) > MEASURED:
                break
        return float(np.median(seconds))

    def reports_mask(self) -> bool:
        """Whether the first reset of the first environment reported `info["action_mask"]`."""
        env = self._set.envs[0]
        return env.has_wrapper_attr("reports_mask") and bool(env.get_wrapper_attr("reports_mask"))

    def close(self) -> None:
        """Closes the environments."""
        if self._set is not None:
            self._set.close()
        self._set = None

    def _start_next(self, obs: np.ndarray, indices: Sequence[int]) -> None:
        """Starts the next episodes of some environments, whose first observations go to `obs`."""
        for i in indices:
            self._episodes[i] += 1
        if indices:
            self._set.start(obs, indices, self._seed_of)

    def _seed_of(self, i: int, ahead: int) -> int:
        """Seed of the episode of environment `i` that is `ahead` of its current one."""
        return episode_seed(self._pool_seed, self._streams[i], self._episodes[i] + ahead)

    def _empty_obs(self) -> np.ndarray:
        """Array for the observations of all environments, [b, ...]."""
        space = self._set.envs[0].observation_space
        return np.empty((self._count, *space.shape), space.dtype)


def _indices(live: np.ndarray | None, count: int) -> list[int]:
    """Indices of the environments that are live: all if that is None."""
    return list(range(count)) if live is None else np.flatnonzero(live).tolist()
