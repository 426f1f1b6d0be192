"""Environments that somebody else wrote, stepped on the host: exact, restartable, resumable.

Every episode is seeded by (pool seed, stream of the environment, episode number), so that a pool is
nothing but the episode number of each environment and the actions of its episode so far. Making the
environments afresh and acting those episodes out again brings it back. Resuming a run and replacing
a worker that raised, died or hung are this one operation, and neither changes what is experienced.
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

from envs.host.episode_log import EpisodeLog, advance_log, make_log
from envs.host.worker import GRACE, Fault, LocalShard, WorkerShard, pickled_make

ATTEMPTS = 3  # failures in a row of one worker on one step before the pool gives up
LONGEST = 100_000  # steps; no room is made beforehand for episodes declared to be longer
LOG = logging.getLogger(__name__)


class HostStep(NamedTuple):
    """What one step of B environments gave, as numpy arrays."""

    obs: np.ndarray  # [B, ...] to act on; after an end, the first one of the next episode
    next_obs: np.ndarray  # [B, ...] the true successor, before any reset
    reward: np.ndarray  # [B] float32
    terminated: np.ndarray  # [B] bool
    truncated: np.ndarray  # [B] bool
    info: dict[str, np.ndarray]  # [B] float32, the scalars asked for by name


class HostFailure(RuntimeError):
    """An environment failed `ATTEMPTS` times in a row on the same step.

    Attributes:
        indices, seeds: the environments that may be at fault, nearly always one; their episodes.
        cause: what happened, such as "died with exit code 3".
    """

    def __init__(self, message: str, indices: list[int], seeds: list[int], cause: str):
        super().__init__(message)
        self.indices, self.seeds, self.cause = indices, seeds, cause


class HostPool(AbstractContextManager):
    """B environments of one kind, stepped together by worker processes.

    A worker that raises, dies or hangs is replaced and the step tried again, which changes nothing
    in the stream; only after `ATTEMPTS` failures in a row is `HostFailure` raised. It and any other
    interruption close the pool, but `snapshot` still gives the state before the unfinished step.

    Args:
        make: makes one environment. It must be picklable and importable without jax, such as
            `functools.partial(gymnasium.make, "CartPole-v1")`.
        num_envs: B.
        seed: the seed of the pool, non-negative.
        name: what messages call the environment, such as its gymnasium id.
        workers: processes to use, one a core if None. With 0 the environments are stepped in the
            caller's process, where an exception is recovered from too, but no crash and no hang.
        timeout: seconds that a single call of one environment may take.
        info_keys: scalars that the environment reports in its info at every step.
        streams: [B] the stream of episodes that each environment follows, 0 to B - 1 if None;
            environments on the same stream meet the same episodes.

    Attributes:
        single_observation_space, single_action_space: the spaces of one environment.
        recoveries: how many failures were recovered from so far.

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
        self._sent = partial(pickled_make, name=name) if workers else lambda make: make
        with self._closing_when_interrupted():
            for shard in self._shards:
                shard.start()
        self.remake(make)

    def remake(self, make: Callable[[], gymnasium.Env], seed: int | None = None) -> None:
        """Puts environments of another make in the place of these, in the same processes.

        Args:
            make: makes one environment, with the spaces of these.
            seed: the pool's from now on; None for the one that it has.

        Raises:
            ValueError: if `make` cannot be sent to a worker.
            HostFailure: if the environment cannot be made.
        """
        self._seed = self._seed if seed is None else seed
        with self._closing_when_interrupted():
            sent, keys = self._sent(make), self._info_keys
            self._made = [("make", sent, rows.stop - rows.start, keys) for rows in self._rows]
            self._log = make_log(
                self._seed, self._streams, *np.zeros((2, self.num_envs), np.int32), None
            )
            spaces = self._all(self._made)[0]
        self.single_observation_space, self.single_action_space, self._limit = spaces

    def reset(self) -> np.ndarray:
        """Begins the first episode of every environment; returns obs [B, ...]."""
        space = self.single_action_space
        room = self._limit if self._limit and self._limit <= LONGEST else 1024
        self._actions = np.zeros((self.num_envs, room, *space.shape), space.dtype)
        self._log = self._at_the_start()
        return self._replay()

    def step(self, actions: np.ndarray) -> HostStep:
        """Steps every environment once; those that end begin their next episode.

        Args:
            actions: [B, ...] in the action space; not clipped.

        Raises:
            ValueError: if `actions` has another shape.
            HostFailure: if an environment fails `ATTEMPTS` times in a row.
        """
        log = self._begun()
        actions = np.asarray(actions).astype(self._actions.dtype, casting="same_kind")
        if actions.shape != (wanted := (self.num_envs, *self._actions.shape[2:])):
            raise ValueError(f"{self.name}: actions have shape {actions.shape}, not {wanted}")
        if log.length.max() == self._actions.shape[1]:  # no limit is declared, or it is wrong
            self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)], axis=1)
        self._actions[np.arange(self.num_envs), log.length] = actions
        with self._closing_when_interrupted():
            calls = [("step", actions[rows], log.next_seeds[rows]) for rows in self._rows]
            *arrays, infos = zip(*self._all(calls), strict=True)
            next_obs, fresh, reward, terminated, truncated = map(np.concatenate, arrays)
            info = {key: np.concatenate([part[key] for part in infos]) for key in infos[0]}
            ended = terminated | truncated
            obs = next_obs.copy()
            obs[ended] = fresh
            self._log = advance_log(log, self._seed, self._streams, ended, obs)
        return HostStep(obs.copy(), next_obs, reward, terminated, truncated, info)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns the state of the pool, a few kilobytes an environment, to go on from exactly.

        Returns:
            seed [B] uint32 and episode [B] int32, of the current episode; length [B] int32, its
            steps so far; actions [B, L, ...], those of the steps, then zeros; obs [B, ...], the
            current ones, by which `restore` checks itself. L is the limit that the environment
            declares, so that no shape changes; where it declares none, or more than `LONGEST`, L
            is 1,024 and doubles whenever an episode is longer.
        """
        log, actions = self._begun(), self._actions.copy()
        actions[np.arange(actions.shape[1]) >= log.length[:, None]] = 0
        now = {"seed": log.seeds, "episode": log.episode, "length": log.length, "obs": log.obs}
        return {key: array.copy() for key, array in now.items()} | {"actions": actions}

    def restore(self, snapshot: dict[str, np.ndarray]) -> np.ndarray:
        """Goes on from a snapshot, whatever the number of workers; returns obs [B, ...].

        Raises:
            ValueError: if the snapshot is of a pool with another size, seed or action space.
            HostFailure: if the environment does not come to the observations of the snapshot.
        """
        space = self.single_action_space
        given = {key: np.array(leaf) for key, leaf in snapshot.items()}
        if given["seed"].shape != (self.num_envs,) or given["actions"].shape[2:] != space.shape:
            raise ValueError(f"{self.name}: the snapshot is of a pool with other sizes")
        past = (given[key].astype(np.int32) for key in ("episode", "length"))
        log = make_log(self._seed, self._streams, *past, given["obs"])
        if (log.seeds != given["seed"]).any():
            raise ValueError(f"{self.name}: the snapshot is of a pool with another seed")
        self._actions, self._log = given["actions"].astype(space.dtype), log
        return self._replay()

    def _at_the_start(self) -> EpisodeLog:
        none = np.zeros((2, self.num_envs), np.int32)
        return make_log(self._seed, self._streams, *none, None)

    def _begun(self) -> EpisodeLog:
        if self._log.obs is None:
            raise RuntimeError(f"{self.name}: call reset or restore first")
        return self._log

    def _replay(self) -> np.ndarray:
        with self._closing_when_interrupted():
            obs = np.concatenate(self._all([self._history(rows) for rows in self._rows]))
            self._log = self._log._replace(obs=obs)
        return obs.copy()

    def _history(self, rows: slice) -> tuple:
        """Returns the call that brings fresh environments to where the log says they are."""
        log, length = self._log, self._log.length[rows]
        actions = self._actions[rows, : length.max()].copy()
        obs = None if log.obs is None else log.obs[rows]
        return "replay", log.seeds[rows], length, actions, obs

    @contextmanager
    def _closing_when_interrupted(self) -> Iterator[None]:
        if self._closed:
            raise RuntimeError(f"{self.name}: the pool is closed")
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _all(self, calls: Sequence[tuple]) -> list:
        """Makes one call of each shard, all at the same time; returns the answers."""
        for shard, call in zip(self._shards, calls, strict=True):
            shard.ask(*call)
        return [self._answer(k, call) for k, call in enumerate(calls)]

    def _answer(self, k: int, call: tuple) -> Any:
        """Waits for an answer; after a fault brings shard `k` back to where it was, asks again."""
        shard, faults = self._shards[k], 0
        while True:
            try:
                if faults:
                    self._bring_back(k, call[0])
                    shard.ask(*call)
                return shard.answer()
            except Fault as fault:
                shard.stop()
                faults += 1
                cause, remedy = fault.args
                indices, seeds, who = self._accused(k)
                if faults == ATTEMPTS:
                    line = f"{self.name}: {who} {cause}, {ATTEMPTS} times in a row: {remedy}"
                    raise HostFailure(line, indices, seeds, cause) from fault
                self.recoveries += 1
                LOG.warning("%s: %s %s; starting it again", self.name, who, cause)

    def _bring_back(self, k: int, verb: str) -> None:
        """Starts shard `k` afresh and does what came before `verb`."""
        shard = self._shards[k]
        shard.start()
        if verb != "make":
            shard.ask(*self._made[k])
            shard.answer()
        if verb == "step":
            shard.ask(*self._history(self._rows[k]))
            shard.answer()

    def _accused(self, k: int) -> tuple[list[int], list[int], str]:
        """Returns the environments at fault in shard `k`, their seeds, and both in words."""
        log, rows = self._log, list(range(self.num_envs))[self._rows[k]]
        member, seed, _ = self._shards[k].progress
        if member < 0:  # it was in none of them
            return rows, log.seeds[rows].tolist(), f"worker of environments {rows[0]}-{rows[-1]}"
        index = rows[member]
        if seed < 0:
            return [index], log.seeds[[index]].tolist(), f"environment {index}, when made,"
        steps = log.length[index] if seed == log.seeds[index] else 0
        return [index], [seed], f"environment {index} (episode seed {seed}, step {steps})"

    def close(self) -> None:
        """Ends the workers; waits at most `GRACE` seconds for environments to close themselves."""
        self._closed = True
        until = time.monotonic() + GRACE
        for shard in self._shards:
            shard.hang_up()
        for shard in self._shards:
            shard.stop(max(0.0, until - time.monotonic()))

    def __exit__(self, *_):
        self.close()
