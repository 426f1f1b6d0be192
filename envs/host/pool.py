"""Batch of gymnasium environments stepped by worker processes: reproducible and resumable.

Every episode is seeded by (pool seed, stream of the environment, episode number), so that the state
of a pool is the episode number of each environment and the actions of its episode so far. It is
restored by making the environments anew and replaying these episodes. This one operation resumes a
run and replaces a worker that raised, died or hung; neither changes any observation or reward.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs.host.episode_log import EpisodeLog, advance_log, first_log, make_log
from envs.host.fault import Fault, HostFailure, LastingFault
from envs.host.worker import GRACE, LocalShard, WorkerShard, pickled_make

ATTEMPTS = 3  # consecutive failures of a worker on one step before HostFailure is raised
LONGEST = 100_000  # steps of an episode; no action buffer is preallocated for so long a one
FEW = 1024  # steps of an episode for which a buffer is preallocated where there is no limit
LOG = logging.getLogger(__name__)


class HostStep(NamedTuple):
    """Result of one step of B environments, as numpy arrays."""

    obs: np.ndarray  # [B, ...] to act on; after an end, the first obs of the next episode
    next_obs: np.ndarray  # [B, ...] successor, before any reset
    reward: np.ndarray  # [B] float32
    terminated: np.ndarray  # [B] bool
    truncated: np.ndarray  # [B] bool
    info: dict[str, np.ndarray]  # [B] float32, one entry for each of `info_keys`


class HostPool(AbstractContextManager):
    """B environments of one kind, stepped together by worker processes.

    A worker that raises, dies or hangs is replaced and the step repeated, with the same results;
    episodes of environments that are not reproducible are truncated before that step instead. After
    `ATTEMPTS` failures in a row `HostFailure` is raised. This and any other exception close the
    pool, but `snapshot` still returns the state before the unfinished step.

    Args:
        make: makes one environment. It must be picklable and importable without jax, such as
            `functools.partial(gymnasium.make, "CartPole-v1")`.
        num_envs: B.
        seed: the seed of the pool, non-negative.
        name: of the environment in messages, such as its gymnasium id.
        workers: number of processes; one per core if None. With 0 the environments run in the
            caller's process, which recovers from exceptions, but not from crashes and hangs.
        timeout: seconds that a single call of one environment may take.
        info_keys: scalars to return, which the environment must put into its info at every step.
        streams: [B] the stream of episode seeds of each environment, 0 to B - 1 if None;
            environments on the same stream have the same episodes.

    Attributes:
        single_observation_space, single_action_space: the spaces of one environment.
        recoveries: number of failures recovered from so far.

    Raises:
        ValueError: if a number is out of range or `make` cannot be sent to a worker.
        HostFailure: if the environment cannot be made.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env],
        num_envs: int,
        seed: int,
        *,
        name: str,
        workers: int | None = None,
        timeout: float = 60.0,
        info_keys: Sequence[str] = (),
        streams: Sequence[int] | None = None,
    ):
        streams = range(num_envs) if streams is None else streams
        if num_envs < 1 or seed < 0 or timeout <= 0 or (workers or 0) < 0:
            raise ValueError(f"{name}: num_envs must be >= 1, seed and workers >= 0, timeout > 0")
        if len(streams) != num_envs:
            raise ValueError(f"{name}: {len(streams)} streams for {num_envs} environments")
        workers = (os.cpu_count() or 1) if workers is None else workers
        count = min(max(workers, 1), num_envs)
        self.name, self.num_envs, self.recoveries = name, num_envs, 0
        self._seed, self._streams, self._closed = seed, np.array(streams, int), False
        bounds = np.linspace(0, num_envs, count + 1).astype(int).tolist()
        self._rows = [slice(*pair) for pair in zip(bounds[:-1], bounds[1:], strict=True)]
        self._info_keys = tuple(info_keys)
        self._shards = [WorkerShard(timeout) if workers else LocalShard() for _ in self._rows]
        self._pack_make = partial(pickled_make, name=name) if workers else lambda make: make
        with self._close_on_error():
            for shard in self._shards:
                shard.start()
        self.remake(make)

    def remake(self, make: Callable[[], gymnasium.Env], seed: int | None = None) -> None:
        """Replaces the environments by those of another `make`, in the same processes.

        Args:
            make: makes one environment, with the same spaces as now.
            seed: new seed of the pool; None to keep the current one.

        Raises:
            ValueError: if `make` cannot be sent to a worker.
            HostFailure: if the environment cannot be made.
        """
        self._seed = self._seed if seed is None else seed
        with self._close_on_error():
            packed, keys = self._pack_make(make), self._info_keys
            self._make_calls = [("make", packed, s.stop - s.start, keys) for s in self._rows]
            self._log = first_log(self._seed, self._streams)
            properties = self._call_all(self._make_calls)[0]
        self.single_observation_space, self.single_action_space, *rest = properties
        self._limit, self._reproducible = rest

    def reset(self) -> np.ndarray:
        """Starts the first episode of every environment; returns obs [B, ...]."""
        space = self.single_action_space
        capacity = self._limit if self._limit and self._limit < LONGEST else FEW
        self._actions = np.zeros((self.num_envs, capacity, *space.shape), space.dtype)
        self._log = first_log(self._seed, self._streams)
        return self._replay()

    def step(self, actions: np.ndarray) -> HostStep:
        """Steps every environment once; where an episode ends, the next one starts.

        Args:
            actions: [B, ...] in the action space; not clipped.

        Raises:
            ValueError: if `actions` has another shape.
            HostFailure: if an environment fails `ATTEMPTS` times in a row.
        """
        log = self._started_log()
        actions = np.asarray(actions).astype(self._actions.dtype, casting="same_kind")
        if actions.shape != (expected := (self.num_envs, *self._actions.shape[2:])):
            raise ValueError(f"{self.name}: actions have shape {actions.shape}, not {expected}")
        if log.length.max() == self._actions.shape[1]:  # the buffer is full: double it
            self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)], axis=1)
        self._actions[np.arange(self.num_envs), log.length] = actions
        with self._close_on_error():
            calls = [("step", actions[rows], log.next_seeds[rows]) for rows in self._rows]
            *arrays, infos = zip(*self._call_all(calls), strict=True)
            next_obs, obs, reward, terminated, truncated = map(np.concatenate, arrays)
            info = {key: np.concatenate([part[key] for part in infos]) for key in infos[0]}
            ended = terminated | truncated
            self._log = advance_log(log, self._seed, self._streams, ended, obs)
        return HostStep(obs.copy(), next_obs, reward, terminated, truncated, info)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns the state of the pool, a few kilobytes per environment, for `restore`.

        Returns:
            seed [B] uint32 and episode [B] int32 of the current episode; length [B] int32, its
            steps so far; actions [B, L, ...] of these steps, padded with zeros; obs [B, ...], the
            current observations, which `restore` compares with. L is the episode limit that the
            environment declares, so that no shape changes; if it declares none, or more than
            `LONGEST`, L is FEW and doubles whenever an episode is longer.
        """
        log, actions = self._started_log(), self._actions.copy()
        actions[np.arange(actions.shape[1]) >= log.length[:, None]] = 0
        state = {"seed": log.seeds, "episode": log.episode, "length": log.length, "obs": log.obs}
        return {key: array.copy() for key, array in state.items()} | {"actions": actions}

    def restore(self, snapshot: dict[str, np.ndarray]) -> np.ndarray:
        """Restores a snapshot, taken with any number of workers; returns obs [B, ...].

        Raises:
            ValueError: if the snapshot is of a pool with another size, seed or action space.
            HostFailure: if replaying an episode does not lead to the observations of the snapshot.
        """
        space = self.single_action_space
        arrays = {key: np.array(array) for key, array in snapshot.items()}
        if arrays["seed"].shape != (self.num_envs,) or arrays["actions"].shape[2:] != space.shape:
            raise ValueError(f"{self.name}: the snapshot is of a pool with other sizes")
        position = (arrays[key].astype(np.int32) for key in ("episode", "length"))
        log = make_log(self._seed, self._streams, *position, arrays["obs"])
        if (log.seeds != arrays["seed"]).any():
            raise ValueError(f"{self.name}: the snapshot is of a pool with another seed")
        self._actions, self._log = arrays["actions"].astype(space.dtype), log
        if not self._reproducible:
            LOG.warning("%s is not reproducible: its episodes under way start anew", self.name)
            self._log = log._replace(length=np.zeros_like(log.length))
        return self._replay()

    def _started_log(self) -> EpisodeLog:
        """The log; RuntimeError before the first `reset` or `restore`."""
        if self._log.obs is None:
            raise RuntimeError(f"{self.name}: call reset or restore first")
        return self._log

    def _replay(self) -> np.ndarray:
        """Replays the current episodes in all shards; returns obs [B, ...]."""
        with self._close_on_error():
            obs = np.concatenate(self._call_all([self._replay_call(rows) for rows in self._rows]))
            self._log = self._log._replace(obs=obs)
        return obs.copy()

    def _replay_call(self, rows: slice) -> tuple:
        """Returns the call that replays the current episodes of the environments `rows`."""
        log, length = self._log, self._log.length[rows]
        actions = self._actions[rows, : length.max()].copy()
        obs = None if log.obs is None else log.obs[rows]
        return "replay", log.seeds[rows], length, actions, obs

    @contextmanager
    def _close_on_error(self) -> Iterator[None]:
        """Closes the pool if the block raises; RuntimeError if it is closed already."""
        if self._closed:
            raise RuntimeError(f"{self.name}: the pool is closed")
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _call_all(self, calls: Sequence[tuple]) -> list:
        """Makes one call to each shard, in parallel; returns the results."""
        for shard, call in zip(self._shards, calls, strict=True):
            shard.send(*call)
        return [self._result(k, call) for k, call in enumerate(calls)]

    def _result(self, k: int, call: tuple) -> Any:
        """Waits for the result of shard `k`; after a fault restores it and repeats the call."""
        shard, faults = self._shards[k], 0
        while True:
            try:
                if faults:
                    first_obs = self._restore_shard(k, call[0])
                    if call[0] == "step" and not self._reproducible:
                        return self._cut_off(k, first_obs)
                    shard.send(*call)
                return shard.receive()
            except Fault as fault:
                shard.stop()
                faults += 1
                (cause, remedy), lasting = fault.args, isinstance(fault, LastingFault)
                indices, seeds, place = self._locate_fault(k)
                if lasting or faults == ATTEMPTS:
                    times = "" if lasting else f", {ATTEMPTS} times in a row"
                    message = f"{self.name}: {place} {cause}{times}: {remedy}"
                    raise HostFailure(message, indices, seeds, cause) from fault
                self.recoveries += 1
                LOG.warning("%s: %s %s; restarting its worker", self.name, place, cause)

    def _cut_off(self, k: int, first_obs: np.ndarray) -> tuple:
        """Result of a step of shard `k` in which all episodes are truncated where they were."""
        last_obs = self._log.obs[self._rows[k]]
        count = len(last_obs)
        info = {key: np.zeros(count, np.float32) for key in self._info_keys}
        ends = np.zeros(count, bool), np.ones(count, bool)
        return last_obs, first_obs, np.zeros(count, np.float32), *ends, info

    def _restore_shard(self, k: int, method: str) -> np.ndarray | None:
        """Restarts shard `k` and restores its state before a call of `method` -> obs of a step."""
        shard = self._shards[k]
        shard.start()
        if method != "make":
            shard.send(*self._make_calls[k])
            shard.receive()
        if method == "step":
            shard.send(*self._replay_call(self._rows[k]))
            return shard.receive()
        return None

    def _locate_fault(self, k: int) -> tuple[list[int], list[int], str]:
        """Returns indices and episode seeds of the environments at fault, and a description."""
        log, rows = self._log, list(range(self.num_envs))[self._rows[k]]
        member, seed, _ = self._shards[k].progress
        if member < 0:  # the worker was in no call of an environment
            return rows, log.seeds[rows].tolist(), f"worker of environments {rows[0]}-{rows[-1]}"
        index = rows[member]
        if seed < 0:
            return [index], log.seeds[[index]].tolist(), f"environment {index}, when made,"
        steps = log.length[index] if seed == log.seeds[index] else 0
        return [index], [seed], f"environment {index} (episode seed {seed}, step {steps})"

    def close(self) -> None:
        """Ends the workers; waits at most `GRACE` seconds for the environments to close."""
        self._closed = True
        deadline = time.monotonic() + GRACE
        for shard in self._shards:
            shard.disconnect()
        for shard in self._shards:
            shard.stop(max(0.0, deadline - time.monotonic()))

    def __exit__(self, *_):
        self.close()
