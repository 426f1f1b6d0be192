"""Batch of gymnasium environments stepped by worker processes: reproducible and resumable.

Every episode is seeded by (pool seed, stream of the environment, episode number), so that the state
of a pool is the episode number of each environment and the actions of its episode so far. It is
restored by making the environments anew and replaying these episodes. This one operation resumes a
run and replaces a worker that raised, died or hung; neither changes any observation or reward.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import gymnasium
import numpy as np

from envs.host.action_buffer import empty_buffer, with_room, write_actions
from envs.host.episode_log import EpisodeLog, first_log
from envs.host.local_shard import LocalShard
from envs.host.policy import TanhPolicy
from envs.host.recovery import STEPPING, RecoveringShards
from envs.host.results import HostRollout, HostStep, joined_rollout, joined_step, log_after
from envs.host.rollout_call import rollout_call
from envs.host.worker import WorkerShard, pickled_make

LOG = logging.getLogger(__name__)


class HostPool(AbstractContextManager):
    """B environments of one kind, stepped together by worker processes.

    A worker that raises, dies or hangs is replaced and the step repeated, with the same results;
    episodes of environments that are not reproducible are truncated before that step instead. After
    `envs.host.recovery.ATTEMPTS` failures in a row `HostFailure` is raised. This and any other
    exception close the pool, but `snapshot` still returns the state before the unfinished step.

    Args:
        make: makes one environment. It must be picklable and importable without jax, such as
            `functools.partial(gymnasium.make, "CartPole-v1")`.
        num_envs: B.
        seed: the seed of the pool, non-negative.
        name: of the environment in messages, such as its gymnasium id.
        workers: number of processes, at most `num_envs`; one per core if None. With 0 the
            environments run in the caller's process, which recovers from exceptions; a hang ends
            the pool, and a crash the process.
        timeout: seconds that a single call of one environment may take.
        info_keys: scalars to return, which the environment must put into its info at every step.
        streams: [B] the stream of episode seeds of each environment, 0 to B - 1 if None;
            environments on the same stream have the same episodes.

    Attributes:
        single_observation_space, single_action_space: the spaces of one environment.
        closed: whether the pool is closed.

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
        if (workers or 0) > num_envs:
            raise ValueError(f"{name}: {workers} workers for {num_envs} environments; use fewer")
        workers = min(os.cpu_count() or 1, num_envs) if workers is None else workers
        count = max(workers, 1)
        self.name, self.num_envs = name, num_envs
        self._seed, self._streams, self.closed = seed, np.array(streams, int), False
        bounds = np.linspace(0, num_envs, count + 1).astype(int).tolist()
        self._rows = [slice(*pair) for pair in zip(bounds[:-1], bounds[1:], strict=True)]
        self._info_keys = tuple(info_keys)
        kind = WorkerShard if workers else LocalShard
        self._shards = RecoveringShards(name, [kind(timeout) for _ in self._rows], self._rows)
        self._pack_make = partial(pickled_make, name=name) if workers else lambda make: make
        with self._close_on_error():
            self._shards.start()
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
        self._shards.cut_off = None if self._reproducible else self._info_keys

    def reset(self) -> np.ndarray:
        """Starts the first episode of every environment; returns obs [B, ...]."""
        self._actions = empty_buffer(self.num_envs, self._limit, self.single_action_space)
        self._log = first_log(self._seed, self._streams)
        return self._replay()

    def step(self, actions: np.ndarray, live: np.ndarray | None = None) -> HostStep:
        """Steps every environment once; where an episode ends, the next one starts.

        Args:
            actions: [B, ...] in the action space; not clipped.
            live: [B] the environments that are stepped, each to the end of its episode; the others
                keep their observations, with reward 0. None for all.

        Raises:
            ValueError: if `actions` has another shape.
            HostFailure: if an environment fails `ATTEMPTS` times in a row.
        """
        log = self._started_log()
        actions = np.asarray(actions).astype(self._actions.dtype, casting="same_kind")
        if actions.shape != (expected := (self.num_envs, *self._actions.shape[2:])):
            raise ValueError(f"{self.name}: actions have shape {actions.shape}, not {expected}")
        self._actions = with_room(self._actions, int(log.length.max()) + 1)
        self._actions[np.arange(self.num_envs), log.length] = actions
        with self._close_on_error():
            calls = [("step", actions[rows], _part(live, rows)) for rows in self._rows]
            step = joined_step(self._call_all(calls))
            if live is None:
                ended = step.terminated | step.truncated
                self._log = log.after(ended[None], step.obs)
            else:
                self._log = log._replace(length=log.length + live, obs=step.obs)
        return step._replace(obs=step.obs.copy())

    def rollout(
        self,
        policy: TanhPolicy,
        noise: np.ndarray | None,
        steps: int,
        stopped: Callable[[], bool],
        live: np.ndarray | None = None,
    ) -> HostRollout | None:
        """Steps every environment T times, acting where it is stepped; None if `stopped()`.

        What it returns depends neither on the number of workers nor on faults recovered from. A
        stop closes the pool, which then is in the state before the call.

        Args:
            policy: of S seeds, to each of which B / S consecutive environments belong.
            noise: [T, S, B / S, A] of the policy; None for its mode.
            steps: T.
            stopped: returns whether to stop.
            live: as in `step`.

        Raises:
            HostFailure: if an environment fails `ATTEMPTS` times in a row.
        """
        log, size = self._started_log(), self.num_envs // len(policy.layers[0][0])
        with self._close_on_error():
            calls = []
            for rows in self._rows:
                call = rollout_call(policy, noise, size, rows, _part(live, rows), steps)
                calls.append(("rollout", call))
            results = self._call_all(calls, stopped)
        if results is None:
            self.close()
            return None
        rollout = joined_rollout(log.obs, results)
        self._log, taken = log_after(log, rollout, live)
        self._actions = with_room(self._actions, int(self._log.length.max()))
        write_actions(self._actions, rollout.action, self._log.length, taken, live)
        return rollout

    def step_seconds(self, actions: np.ndarray) -> float:
        """Seconds of a step of one environment, measured with actions [n, ...]; call reset next."""
        with self._close_on_error():
            return self._call_all([("step_seconds", actions)] * len(self._rows))[0]

    def reports_mask(self) -> bool:
        """Whether the first reset of the first environment reported `info["action_mask"]`."""
        with self._close_on_error():
            return self._call_all([("reports_mask",)] * len(self._rows))[0]

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns the state of the pool, a few kilobytes per environment, for `restore`.

        Returns:
            seed [B] uint32 and episode [B] int32 of the current episode; length [B] int32, its
            steps so far; actions [B, L, ...] of these steps, padded with zeros; obs [B, ...], the
            current observations, which `restore` compares with. L is the episode limit that the
            environment declares, so that no shape changes; if it declares none, or a very long
            one, L doubles whenever an episode is longer (`envs.host.action_buffer`).
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
        log = EpisodeLog(self._seed, self._streams, *position, arrays["obs"])
        if (log.seeds != arrays["seed"]).any():
            raise ValueError(f"{self.name}: the snapshot is of a pool with another seed")
        self._actions, self._log = arrays["actions"].astype(space.dtype), log
        if not self._reproducible:
            LOG.warning("%s is not reproducible: its episodes under way start anew", self.name)
            self._log = log._replace(length=np.zeros_like(log.length))
        return self._replay()

    @property
    def recoveries(self) -> int:
        """Number of failures recovered from so far."""
        return self._shards.recoveries

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
        return "replay", (log.seed, log.streams[rows], log.episode[rows]), length, actions, obs

    @contextmanager
    def _close_on_error(self) -> Iterator[None]:
        """Closes the pool if the block raises; RuntimeError if it is closed already."""
        if self.closed:
            raise RuntimeError(f"{self.name}: the pool is closed")
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _call_all(
        self, calls: Iterable[tuple], stopped: Callable[[], bool] | None = None
    ) -> list | None:
        """Makes one call to each shard, in parallel; returns the results, None if `stopped`."""
        return self._shards.call_all(list(calls), self._log, self._calls_before, stopped)

    def _calls_before(self, k: int, method: str) -> list[tuple]:
        """Calls that bring a new shard `k` to its state before a call of `method`."""
        before = [] if method == "make" else [self._make_calls[k]]
        return before + ([self._replay_call(self._rows[k])] if method in STEPPING else [])

    def close(self) -> None:
        """Ends the workers; waits at most `GRACE` seconds for the environments to close."""
        self.closed = True
        self._shards.close()

    def __exit__(self, *_):
        self.close()


def _part(live: np.ndarray | None, rows: slice) -> np.ndarray | None:
    """The rows of a mask [B] of live environments; None if that is None."""
    return None if live is None else live[rows]
