"""Shards of a pool that are restarted after a fault, with the call that failed made again."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from envs.host.episode_log import EpisodeLog
from envs.host.fault import Fault, HostFailure, LastingFault
from envs.host.local_shard import LocalShard
from envs.host.worker import GRACE, WorkerShard

ATTEMPTS = 3  # consecutive failures of a worker on one call before HostFailure is raised
STEPPING = ("step", "rollout")  # calls after which an environment is in another state
LOG = logging.getLogger(__name__)

CallsBefore = Callable[[int, str], list[tuple]]


class RecoveringShards:
    """Shards that are called together, and replaced one by one where they fail.

    Args:
        name: of the environment in messages.
        shards: not started yet.
        rows: the environments of each.

    Attributes:
        recoveries: number of failures recovered from so far.
        cut_off: None to repeat a step that failed; or the names of its scalars of `info`, to
            truncate the episodes before it.
    """

    def __init__(
        self, name: str, shards: Sequence[LocalShard | WorkerShard], rows: Sequence[slice]
    ):
        self.name, self.recoveries, self.cut_off = name, 0, None
        self._shards, self._rows = shards, rows

    def __getitem__(self, k: int) -> LocalShard | WorkerShard:
        """Shard number `k`."""
        return self._shards[k]

    def start(self) -> None:
        """Starts all of them, without waiting."""
        for shard in self._shards:
            shard.start()

    def call_all(
        self,
        calls: Sequence[tuple],
        log: EpisodeLog,
        calls_before: CallsBefore,
        stopped: Callable[[], bool] | None = None,
    ) -> list | None:
        """Makes one call to each shard, in parallel; returns the results, None if `stopped`.

        Args:
            calls: a method of `EnvShard` and its arguments, for each shard.
            log: of the environments before the call.
            calls_before: (shard, method) -> the calls that bring a new shard to this state.
            stopped: returns whether to stop waiting.

        Raises:
            HostFailure: if one fails `ATTEMPTS` times in a row.
        """
        for shard, call in zip(self._shards, calls, strict=True):
            shard.send(*call)
        results = []
        for k, call in enumerate(calls):
            results.append(self._result(k, call, log, calls_before, stopped))
            if results[-1] is None:
                return None
        return results

    def close(self) -> None:
        """Ends them; waits at most `GRACE` seconds for the environments to close."""
        deadline = time.monotonic() + GRACE
        for shard in self._shards:
            shard.disconnect()
        for shard in self._shards:
            shard.stop(max(0.0, deadline - time.monotonic()))

    def _result(
        self,
        k: int,
        call: tuple,
        log: EpisodeLog,
        calls_before: CallsBefore,
        stopped: Callable[[], bool] | None,
    ) -> Any:
        """Waits for the result of shard `k`; after a fault restores it and repeats the call."""
        shard, faults = self._shards[k], 0
        while True:
            try:
                if faults:
                    first_obs = _restored(shard, calls_before(k, call[0]))
                    if call[0] == "step" and self.cut_off is not None:
                        return _truncated(log.obs[self._rows[k]], first_obs, self.cut_off)
                    shard.send(*call)
                return shard.receive(stopped)
            except Fault as fault:
                shard.stop()
                faults += 1
                (cause, remedy), lasting = fault.args, isinstance(fault, LastingFault)
                indices, seeds, place = self._locate_fault(k, call[0], log)
                if lasting or faults == ATTEMPTS:
                    times = "" if lasting else f", {ATTEMPTS} times in a row"
                    message = f"{self.name}: {place} {cause}{times}: {remedy}"
                    raise HostFailure(message, indices, seeds, cause) from fault
                self.recoveries += 1
                LOG.warning("%s: %s %s; restarting its worker", self.name, place, cause)

    def _locate_fault(
        self, k: int, method: str, log: EpisodeLog
    ) -> tuple[list[int], list[int], str]:
        """Returns indices and episode seeds of the environments at fault, and a description."""
        rows = list(range(len(log.episode)))[self._rows[k]]
        member, seed, _, steps = self._shards[k].progress
        if member < 0:  # the worker was in no call of an environment
            return rows, log.seeds[rows].tolist(), f"worker of environments {rows[0]}-{rows[-1]}"
        index = rows[member]
        if seed < 0:
            return [index], log.seeds[[index]].tolist(), f"environment {index}, when made,"
        if method != "rollout":
            steps = log.length[index] if seed == log.seeds[index] else 0
        return [index], [seed], f"environment {index} (episode seed {seed}, step {steps})"


def _restored(shard: LocalShard | WorkerShard, calls: list[tuple]) -> Any:
    """Starts a shard anew and makes some calls -> the result of the last one."""
    shard.start()
    result = None
    for call in calls:
        shard.send(*call)
        result = shard.receive()
    return result


def _truncated(last_obs: np.ndarray, first_obs: np.ndarray, info_keys: Sequence[str]) -> tuple:
    """Result of a step (`EnvShard.step`) in which all episodes are truncated where they were."""
    count = len(last_obs)
    info = {key: np.zeros(count, np.float32) for key in info_keys}
    ends = np.zeros(count, bool), np.ones(count, bool)
    return last_obs, first_obs, np.zeros(count, np.float32), *ends, info
