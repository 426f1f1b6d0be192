"""Environments that somebody else wrote, stepped on the host: exact, restartable, resumable.

Every episode is seeded by (pool seed, environment index, episode number), so the whole state of a
pool is the episode number of each environment and the actions of its episode so far. Making the
environments afresh and acting those episodes out again brings the state back; resuming a run and
replacing a worker that raised, died or hung are this one operation, and neither changes the stream.

Workers are plain subprocesses. They inherit no lock and no thread, import neither jax nor the
caller's main module, leave Ctrl-C to the caller, and end when the caller ends, however it ends.
"""

from __future__ import annotations

import logging
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

ATTEMPTS = 3  # failures in a row of one worker on one step before the pool gives up
STARTUP = 60.0  # seconds that a worker may take to import and make its first environment
GRACE = 2.0  # seconds that a worker has to close its environments when the pool ends

RAISED = "mend the environment, or catch this in a wrapper"
DIED = "the environment crashes its process, or memory ran out (then use fewer environments)"
HUNG = "mend the environment, or raise `timeout` if it is only slow"
STRAYED = "it keeps something across resets, draws from a generator of its own, or was changed"
IMPORTABLE = "define it in a module, or use functools.partial(gymnasium.make, id), or workers=0"
LOG = logging.getLogger(__name__)


class Step(NamedTuple):
    """What one step of B environments gave; numpy arrays.

    Attributes:
        obs: [B, ...] the observation to act on; after an end, the first one of the next episode.
        next_obs: [B, ...] the true successor, before any reset.
        reward: [B] float32.
        terminated: [B] bool.
        truncated: [B] bool.
        info: name -> [B] float32, the scalars asked for by name.
    """

    obs: np.ndarray
    next_obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: dict[str, np.ndarray]


class HostFailure(RuntimeError):
    """An environment failed `ATTEMPTS` times in a row on the same step.

    Attributes:
        indices: the environments that may be at fault; a single one nearly always.
        seeds: the seeds of their episodes.
        cause: what happened, such as "died with exit code 3".
    """

    def __init__(self, message: str, indices: list[int], seeds: list[int], cause: str):
        """Makes the error from its one line and the facts in it."""
        super().__init__(message)
        self.indices, self.seeds, self.cause = indices, seeds, cause


class _Fault(Exception):
    """One failure of one shard, as (cause, remedy)."""


class _Log(NamedTuple):
    """Where every environment is. With the actions of its episode, all that is to be known."""

    episode: np.ndarray  # [B] int32
    length: np.ndarray  # [B] int32, steps taken in the episode
    seeds: np.ndarray  # [B] uint32, of the episode
    next_seeds: np.ndarray  # [B] uint32, of the episode after it
    obs: np.ndarray | None  # [B, ...]


def _bits(array: np.ndarray, dtype=None) -> bytes:
    return array.astype(dtype or array.dtype).tobytes()


def episode_seed(seed: int, index: int, episode: int) -> int:
    """Returns the 32-bit seed of an episode of environment `index` in a pool seeded by `seed`."""
    sequence = np.random.SeedSequence(seed, spawn_key=(index, episode))
    return int(sequence.generate_state(1)[0])


class _Member(gymnasium.Wrapper):
    """One environment, which says where it is before each call: [index, episode seed, calls]."""

    def __init__(self, make, index: int, info_keys: Sequence[str], progress: memoryview):
        self._index, self._seed, self._info_keys, self._progress = index, -1, info_keys, progress
        self._mark()
        super().__init__(make())

    def _mark(self) -> None:
        progress = self._progress
        progress[0], progress[1], progress[2] = self._index, self._seed, progress[2] + 1

    def reset(self, *, seed=None, options=None):
        self._seed = seed
        self._mark()
        return self.env.reset(seed=seed)[0], {}

    def step(self, action):
        self._mark()
        obs, reward, terminated, truncated, info = self.env.step(action)
        missing = [key for key in self._info_keys if key not in info]
        if missing:
            raise KeyError(f"info has no {missing[0]!r}, only {sorted(info)}")
        kept = {key: float(info[key]) for key in self._info_keys}
        return obs, reward, terminated, truncated, kept


class _Shard:
    """Some of a pool's environments, in one process, under gymnasium's `SyncVectorEnv`."""

    def __init__(self, progress: memoryview):
        self._progress = progress
        self.envs = None

    def call(self, verb: str, *args) -> Any:
        """Does `make`, `replay` or `step`; whatever goes wrong in it is raised as `_Fault`."""
        try:
            answer = getattr(self, verb)(*args)
        except _Fault:
            raise
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            text = " ".join(str(error).split())
            raise _Fault(f"raised {type(error).__name__}: {text} ({where})", RAISED) from error
        self._progress[0] = -1
        return answer

    def make(self, make: Callable | bytes, num_envs: int, info_keys: Sequence[str]):
        """Makes the environments; returns their two spaces and their longest episode, or None."""
        make = pickle.loads(make) if isinstance(make, bytes) else make
        self._info_keys = info_keys
        self.envs = SyncVectorEnv(
            [lambda i=i: _Member(make, i, info_keys, self._progress) for i in range(num_envs)],
            copy=False,
            autoreset_mode=AutoresetMode.DISABLED,
        )
        first = self.envs.envs[0].env
        limit = getattr(first.spec, "max_episode_steps", None)
        limit = limit or getattr(first.unwrapped, "max_steps", None)
        return self.envs.single_observation_space, self.envs.single_action_space, limit

    def replay(self, seeds, length, actions, expected) -> np.ndarray:
        """Acts out the episodes so far: seeds [b], length [b], actions [b, L, ...] -> obs [b, ...].

        Raises if that does not lead to `expected`, compared in the precision `expected` has.
        """
        obs = self.envs.reset(seed=seeds.tolist())[0].copy()
        for i, env in enumerate(self.envs.envs):
            for action in actions[i, : length[i]]:
                obs[i] = env.step(action)[0]
            if expected is not None and _bits(obs[i], expected.dtype) != _bits(expected[i]):
                raise _Fault("was not brought back by its seed and actions", STRAYED)
        return obs

    def step(self, actions, seeds):
        """Steps all; resets to `seeds` those that end, and returns their first obs as second."""
        obs, reward, terminated, truncated, info = self.envs.step(actions)
        next_obs, ended = obs.copy(), terminated | truncated
        if ended.any():
            obs, _ = self.envs.reset(seed=seeds.tolist(), options={"reset_mask": ended})
        info = {key: info[key].astype(np.float32) for key in self._info_keys}
        return next_obs, obs[ended], reward.astype(np.float32), terminated, truncated, info


class _Local:
    """A shard in the caller's process: nothing isolates it and nothing can interrupt it."""

    def __init__(self):
        self.progress = memoryview(bytearray(24)).cast("q")
        self.pid, self._shard = os.getpid(), None

    def start(self) -> None:
        self._shard = _Shard(self.progress)

    def ask(self, *call) -> None:
        self._call = call

    def answer(self) -> Any:
        return self._shard.call(*self._call)

    def hang_up(self) -> None:
        pass

    def stop(self, grace: float = 0.0) -> None:
        with suppress(Exception):
            self._shard.envs.close()


class _Worker:
    """A shard in a process of its own."""

    def __init__(self, timeout: float):
        self._timeout, self._process = timeout, None
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, shared with every process started
        self._file.write(bytes(24))
        self._file.flush()
        self.progress = memoryview(mmap.mmap(self._file.fileno(), 24)).cast("q")

    def start(self) -> None:
        """Starts the process, without waiting for it."""
        self.progress[0] = -1
        self._pipe, theirs = Pipe()
        descriptors = theirs.fileno(), self._file.fileno()
        path = [str(entry) for entry in sys.path]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:] = {path!r}; "
                f"from {__name__} import serve; serve{descriptors}",
            ],
            stdin=subprocess.PIPE,  # nothing is written: its end says that the caller has ended
            pass_fds=descriptors,
            process_group=0,  # Ctrl-C does not reach it; whatever it starts is stopped with it
            env=os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        self.pid, self._patience = self._process.pid, STARTUP + self._timeout

    def ask(self, *call) -> None:
        """Sends a call; `answer` tells whether anyone was there to read it."""
        self._asked = time.monotonic(), self.progress[2]
        with suppress(OSError):
            self._pipe.send(call)

    def answer(self) -> Any:
        """Returns the answer to the call, or raises `_Fault`; slow is not stuck."""
        since, calls = self._asked
        while not self._pipe.poll(self._timeout / 4):
            if calls != self.progress[2]:
                since, calls, self._patience = time.monotonic(), self.progress[2], self._timeout
            elif time.monotonic() - since >= self._patience:
                raise _Fault(f"gave no answer within {self._patience:g} s", HUNG)
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self.stop()
            code = self._process.returncode
            how = "" if code >= 0 else f" ({signal.strsignal(-code)})"
            raise _Fault(f"died with exit code {code}{how}", DIED) from None
        if isinstance(answer, _Fault):
            raise answer
        self._patience = self._timeout
        return answer

    def hang_up(self) -> None:
        """Asks the process to close its environments and end."""
        if self._process is not None:
            self._pipe.close()

    def stop(self, grace: float = 0.0) -> None:
        """Ends the process and all that it started, at the latest in `grace` seconds."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._pipe.close()


def serve(descriptor: int, file: int) -> None:
    """Runs a worker: answers the calls on the pipe `descriptor`, marks progress in `file`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for inherited in descriptor, file:
        os.set_inheritable(inherited, False)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    shard = _Shard(memoryview(mmap.mmap(file, 24)).cast("q"))
    with suppress(OSError):
        pipe = Connection(descriptor)
        for call in _calls(pipe):
            try:
                answer = shard.call(*call)
            except _Fault as fault:
                answer = fault
            pipe.send(answer)
    with suppress(Exception):
        shard.envs.close()
    sys.stdout.flush()
    os._exit(0)


def _calls(pipe: Connection) -> Iterator[tuple]:
    with suppress(EOFError):
        while True:
            yield pipe.recv()


def _end_with_caller() -> None:
    os.read(0, 1)
    time.sleep(GRACE)
    os._exit(1)


def _parcel(make: Callable, name: str) -> bytes:
    try:
        parcel = pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"{name}: `make` cannot be pickled ({error}); {IMPORTABLE}") from error
    if b"__main__" in parcel:
        raise ValueError(f"{name}: `make` is defined in the main module; {IMPORTABLE}")
    return parcel


class HostPool:
    """B environments of one kind, stepped together by worker processes.

    A worker that raises, dies or hangs is replaced and the step tried again, which changes nothing
    in the stream; only after `ATTEMPTS` failures in a row is `HostFailure` raised. It and any other
    interruption close the pool, but `snapshot` still gives the state before the unfinished step.

    Attributes:
        name: what messages call the environment.
        num_envs: B.
        single_observation_space: the space of one observation.
        single_action_space: the space of one action.
        recoveries: how many failures were recovered from so far.
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
    ):
        """Starts the workers and makes the environments.

        Args:
            make: makes one environment. It must be picklable and importable without jax, such as
                `functools.partial(gymnasium.make, "CartPole-v1")`.
            num_envs: B.
            seed: the seed of the pool, non-negative.
            name: what messages call the environment, such as its gymnasium id.
            workers: processes to use, one for each core if None; 0 steps the environments in the
                caller's process, where an exception is still recovered from, but neither a crash
                nor a hang is.
            timeout: seconds that a single call of one environment may take.
            info_keys: scalars that the environment reports in its info at every step.

        Raises:
            ValueError: if a number is out of range or `make` cannot be sent to a worker.
            HostFailure: if the environment cannot be made.
        """
        if num_envs < 1 or seed < 0 or timeout <= 0 or (workers is not None and workers < 0):
            raise ValueError(
                f"{name}: num_envs >= 1, seed >= 0, workers >= 0 and timeout > 0 are needed, "
                f"not {num_envs}, {seed}, {workers} and {timeout}"
            )
        workers = (os.cpu_count() or 1) if workers is None else workers
        count = min(max(workers, 1), num_envs)
        self.name, self.num_envs, self.recoveries = name, num_envs, 0
        self._seed, self._closed = seed, False
        self._log = self._log_of(np.zeros(num_envs, np.int32), np.zeros(num_envs, np.int32), None)
        bounds = np.linspace(0, num_envs, count + 1).astype(int).tolist()
        self._rows = [slice(*pair) for pair in zip(bounds[:-1], bounds[1:], strict=True)]
        parcel = _parcel(make, name) if workers else make
        self._made = [("make", parcel, r.stop - r.start, tuple(info_keys)) for r in self._rows]
        self._shards = [_Worker(timeout) if workers else _Local() for _ in self._rows]
        with self._closing_when_interrupted():
            for shard in self._shards:
                shard.start()
            spaces = self._all(self._made)[0]
        self.single_observation_space, self.single_action_space, self._limit = spaces

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers; the caller's own where there are none."""
        return tuple(shard.pid for shard in self._shards)

    def reset(self) -> np.ndarray:
        """Begins the first episode of every environment; returns obs [B, ...]."""
        space, zeros = self.single_action_space, np.zeros(self.num_envs, np.int32)
        self._actions = np.zeros((self.num_envs, self._limit or 1024, *space.shape), space.dtype)
        self._log = self._log_of(zeros, zeros, None)
        return self._replay()

    def step(self, actions: np.ndarray) -> Step:
        """Steps every environment once; those that end begin their next episode.

        Args:
            actions: [B, ...] in the action space; not clipped.

        Raises:
            ValueError: if the shape of `actions` is not [B, ...] of the action space.
            HostFailure: if an environment fails `ATTEMPTS` times in a row.
        """
        log = self._begun()
        actions = np.asarray(actions).astype(self._actions.dtype, casting="same_kind")
        wanted = (self.num_envs, *self._actions.shape[2:])
        if actions.shape != wanted:
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
            self._log = self._after(ended, obs)
        return Step(obs.copy(), next_obs, reward, terminated, truncated, info)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns the state of the pool, a few kilobytes an environment, to go on from exactly.

        Returns:
            seed [B] uint32 and episode [B] int32: of the current episode; length [B] int32: the
            steps taken in it; actions [B, L, ...]: those taken in it, then zeros; obs [B, ...]: the
            current observations, against which `restore` checks itself. L is the limit that the
            environment declares, so that all shapes are fixed; without one, L starts at 1,024 and
            doubles whenever an episode is longer.
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
        seed, episode, length, obs, actions = (
            np.asarray(snapshot[key]) for key in ("seed", "episode", "length", "obs", "actions")
        )
        if seed.shape != (self.num_envs,) or actions.shape[2:] != space.shape:
            raise ValueError(f"{self.name}: the snapshot is of a pool with other sizes")
        log = self._log_of(episode.astype(np.int32), length.astype(np.int32), obs.copy())
        if (log.seeds != seed).any():
            raise ValueError(f"{self.name}: the snapshot is of a pool with another seed")
        self._actions, self._log = actions.astype(space.dtype), log
        return self._replay()

    def _begun(self) -> _Log:
        if self._log.obs is None:
            raise RuntimeError(f"{self.name}: call reset or restore first")
        return self._log

    def _log_of(self, episode: np.ndarray, length: np.ndarray, obs: np.ndarray | None) -> _Log:
        pairs = [
            [episode_seed(self._seed, i, n + k) for k in (0, 1)]
            for i, n in enumerate(episode.tolist())
        ]
        seeds, next_seeds = np.array(pairs, np.uint32).T
        return _Log(episode, length, seeds, next_seeds, obs)

    def _after(self, ended: np.ndarray, obs: np.ndarray) -> _Log:
        """Returns the log after a step that ended the episodes `ended` [B] bool."""
        log, next_seeds = self._log, self._log.next_seeds.copy()
        episode, length = log.episode + ended, np.where(ended, 0, log.length + 1)
        for i in np.flatnonzero(ended):
            next_seeds[i] = episode_seed(self._seed, i, int(episode[i]) + 1)
        return _Log(episode, length, np.where(ended, log.next_seeds, log.seeds), next_seeds, obs)

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
            except _Fault as fault:
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
        log, rows = self._log, range(self.num_envs)[self._rows[k]]
        member, seed, _ = self._shards[k].progress
        if member < 0:  # it was in none of them
            who = (
                f"environment {rows[0]}"
                if len(rows) == 1
                else f"environments {rows[0]} to {rows[-1]}"
            )
            return list(rows), log.seeds[rows].tolist(), who
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

    def __enter__(self):
        """Returns the pool, to be closed at the end of the block."""
        return self

    def __exit__(self, *_):
        """Closes the pool."""
        self.close()
