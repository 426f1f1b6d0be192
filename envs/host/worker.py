"""A process of its own for some environments, so that they may raise, crash or hang.

The process is a plain subprocess. It inherits no lock and no thread, imports neither jax nor the
caller's main module, leaves Ctrl-C to the caller, and ends when the caller ends, however it ends.
"""

from __future__ import annotations

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
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

STARTUP = 60.0  # seconds that a worker may take to import and to begin its first environment
GRACE = 2.0  # seconds that a worker has to close its environments when the caller is done or gone

RAISED = "mend the environment, or catch this in a wrapper"
DIED = "the environment crashes its process, or memory ran out (then use fewer environments)"
HUNG = "mend the environment, or raise `timeout` if it is only slow"
IMPORTABLE = "define it in a module, or use functools.partial(gymnasium.make, id), or workers=0"
STRAYED = "it keeps something across resets, draws from a generator of its own, or was changed"


class Fault(Exception):
    """One failure of one shard, as (cause, remedy)."""


def _bits(array: np.ndarray, dtype=None) -> bytes:
    return array.astype(dtype or array.dtype).tobytes()


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


class EnvShard:
    """Some of a pool's environments, in one process, under gymnasium's `SyncVectorEnv`."""

    def __init__(self, progress: memoryview):
        self._progress = progress
        self.envs = None

    def call(self, verb: str, *args) -> Any:
        """Does `make`, `replay` or `step`; whatever goes wrong in it is raised as `Fault`."""
        try:
            answer = getattr(self, verb)(*args)
        except Fault:
            raise
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            text = " ".join(str(error).split())
            raise Fault(f"raised {type(error).__name__}: {text} ({where})", RAISED) from error
        self._progress[0] = -1
        return answer

    def make(self, make: Callable | bytes, num_envs: int, info_keys: Sequence[str]):
        """Makes the environments; returns their two spaces and their longest episode, or None."""
        if self.envs is not None:
            self.envs.close()
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
                raise Fault("was not brought back by its seed and actions", STRAYED)
        return obs

    def step(self, actions, seeds):
        """Steps all; resets to `seeds` those that end, and returns their first obs as second."""
        obs, reward, terminated, truncated, info = self.envs.step(actions)
        next_obs, ended = obs.copy(), terminated | truncated
        if ended.any():
            obs, _ = self.envs.reset(seed=seeds.tolist(), options={"reset_mask": ended})
        info = {key: info[key].astype(np.float32) for key in self._info_keys}
        return next_obs, obs[ended], reward.astype(np.float32), terminated, truncated, info


class LocalShard:
    """A shard in the caller's process, with the methods of `WorkerShard`; nothing isolates it."""

    def __init__(self):
        self.progress = memoryview(bytearray(24)).cast("q")
        self._shard = None

    def start(self) -> None:
        """Begins with nothing made."""
        self._shard = EnvShard(self.progress)

    def ask(self, *call) -> None:
        """Keeps the call for `answer`."""
        self._call = call

    def answer(self) -> Any:
        """Does what was asked for, or raises `Fault`."""
        return self._shard.call(*self._call)

    def hang_up(self) -> None:
        """Does nothing: nobody is at the other end."""

    def stop(self, grace: float = 0.0) -> None:
        """Closes the environments."""
        with suppress(Exception):
            self._shard.envs.close()


def pickled_make(make: Callable[[], gymnasium.Env], name: str) -> bytes:
    """Returns `make` as it is sent to a worker; raises ValueError if no worker could open it."""
    try:
        sent = pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"{name}: `make` cannot be pickled ({error}); {IMPORTABLE}") from error
    if b"__main__" in sent:
        raise ValueError(f"{name}: `make` is defined in the main module; {IMPORTABLE}")
    return sent


class WorkerShard:
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
        """Returns the answer to the call, or raises `Fault`; slow is not stuck."""
        since, calls = self._asked
        while not self._pipe.poll(self._timeout / 4):
            if calls != self.progress[2]:
                since, calls, self._patience = time.monotonic(), self.progress[2], self._timeout
            elif time.monotonic() - since >= self._patience:
                raise Fault(f"gave no answer within {self._patience:g} s", HUNG)
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self.stop()
            code = self._process.returncode
            how = "" if code >= 0 else f" ({signal.strsignal(-code)})"
            raise Fault(f"died with exit code {code}{how}", DIED) from None
        if isinstance(answer, Fault):
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
    shard = EnvShard(memoryview(mmap.mmap(file, 24)).cast("q"))
    with suppress(OSError):
        pipe = Connection(descriptor)
        for call in _calls(pipe):
            try:
                answer = shard.call(*call)
            except Fault as fault:
                answer = fault
            pipe.send(answer)
    with suppress(Exception):
        shard.envs.close()
    sys.stdout.flush()
    _end()


def _end() -> None:
    os.killpg(os.getpid(), signal.SIGKILL)  # whatever the environments started ends too


def _calls(pipe: Connection) -> Iterator[tuple]:
    with suppress(EOFError):
        while True:
            yield pipe.recv()


def _end_with_caller() -> None:
    os.read(0, 1)
    time.sleep(GRACE)
    _end()
