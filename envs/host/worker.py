"""Worker processes that step gymnasium environments and isolate exceptions, crashes and hangs.

A worker is a plain subprocess. It inherits no lock and no thread, imports neither jax nor the
caller's main module, ignores Ctrl-C, and ends when the caller ends, for whatever reason.
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
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import gymnasium

from envs.host.fault import Fault, LastingFault
from envs.host.shard import EnvShard
from envs.host.step_memory import StepMemory

STARTUP = 60.0  # seconds for a worker to import modules and to make its environments
GRACE = 2.0  # seconds for a worker to close its environments after the caller closes or dies

DIED_REMEDY = "the environment crashes its process, or memory ran out (then use fewer environments)"
HUNG_REMEDY = "fix the environment, or increase `timeout` if it is only slow"
ROOM_REMEDY = "free some of the temporary folder (TMPDIR), or use workers=0"
PICKLE_REMEDY = "define it in a module, or use functools.partial(gymnasium.make, id), or workers=0"


class LocalShard:
    """Shard in the caller's process, with the methods of `WorkerShard` and without isolation."""

    def __init__(self):
        self.progress = memoryview(bytearray(24)).cast("q")
        self._shard = None

    def start(self) -> None:
        """Creates the shard, with no environments yet."""
        self._shard = EnvShard(self.progress)

    def send(self, *call) -> None:
        """Stores a call, which `receive` makes."""
        self._call = call

    def receive(self) -> Any:
        """Makes the stored call and returns its result; raises `Fault` if it fails."""
        return self._shard.call(*self._call)

    def disconnect(self) -> None:
        """Does nothing: there is no process to disconnect from."""

    def stop(self, grace: float = 0.0) -> None:
        """Closes the environments."""
        with suppress(Exception):
            self._shard.close()


def pickled_make(make: Callable[[], gymnasium.Env], name: str) -> bytes:
    """Pickles `make` for a worker; raises ValueError if a worker could not unpickle it."""
    try:
        data = pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"{name}: `make` cannot be pickled ({error}); {PICKLE_REMEDY}") from error
    if b"__main__" in data:
        raise ValueError(f"{name}: `make` is defined in the main module; {PICKLE_REMEDY}")
    return data


class WorkerShard:
    """Shard in a worker process, called through a pipe."""

    def __init__(self, timeout: float):
        self._timeout, self._process = timeout, None
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115, shared
        self._files[0].write(bytes(24))
        self._files[0].flush()
        self.progress = memoryview(mmap.mmap(self._files[0].fileno(), 24)).cast("q")
        self._memory: StepMemory | None = None

    def start(self) -> None:
        """Starts the worker process, without waiting for it."""
        self.progress[0] = -1
        self._pipe, worker_pipe = Pipe()
        descriptors = worker_pipe.fileno(), *(file.fileno() for file in self._files)
        path = [str(entry) for entry in sys.path]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:] = {path!r}; "
                f"from {__name__} import serve; serve{descriptors}",
            ],
            stdin=subprocess.PIPE,  # never written to; it closes when the caller ends
            pass_fds=descriptors,
            process_group=0,  # no Ctrl-C from the terminal; `stop` ends its children too
            env=os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
        worker_pipe.close()
        self.pid, self._wait_limit = self._process.pid, STARTUP + self._timeout

    def send(self, *call) -> None:
        """Sends a call to the worker; if the worker has died, `receive` raises."""
        self._sent_at, self._call = (time.monotonic(), self.progress[2]), call
        if call[0] == "step":
            self._memory.write_call(*call[1:])
            call = ("step",)
        with suppress(OSError):
            self._pipe.send(call)

    def receive(self) -> Any:
        """Returns the result or raises `Fault`; the timeout is per call of one environment."""
        since, calls = self._sent_at
        while not self._pipe.poll(self._timeout / 4):
            if calls != self.progress[2]:
                since, calls, self._wait_limit = time.monotonic(), self.progress[2], self._timeout
            elif time.monotonic() - since >= self._wait_limit:
                raise Fault(f"gave no answer within {self._wait_limit:g} s", HUNG_REMEDY)
        try:
            result = self._pipe.recv()
        except (EOFError, OSError):
            self.stop()
            code = self._process.returncode
            signal_name = "" if code >= 0 else f" ({signal.strsignal(-code)})"
            raise Fault(f"died with exit code {code}{signal_name}", DIED_REMEDY) from None
        if isinstance(result, Fault):
            raise result
        self._wait_limit = self._timeout
        if self._call[0] == "make":
            self._memory = _step_memory(self._files[1].fileno(), list(self._call[1:]), result)
        return self._memory.read_results() if self._call[0] == "step" else result

    def disconnect(self) -> None:
        """Closes the pipe, upon which the worker closes its environments and ends."""
        if self._process is not None:
            self._pipe.close()

    def stop(self, grace: float = 0.0) -> None:
        """Ends the process and its children, after at most `grace` seconds."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._pipe.close()


def serve(descriptor: int, progress: int, memory: int) -> None:
    """Runs a worker.

    Args:
        descriptor: of the pipe that calls come from.
        progress: of the file that progress is written to.
        memory: of the file of the arrays of a step (`StepMemory`).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for inherited in descriptor, progress, memory:
        os.set_inheritable(inherited, False)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    shard = EnvShard(memoryview(mmap.mmap(progress, 24)).cast("q"))
    step_memory = None
    with suppress(OSError):
        pipe = Connection(descriptor)
        for method, *args in _calls(pipe):
            try:
                if method == "step":
                    result = step_memory.write_results(shard.call(method, *step_memory.read_call()))
                else:
                    result = shard.call(method, *args)
                if method == "make":
                    step_memory = _step_memory(memory, args, result)
            except Fault as fault:
                result = fault
            pipe.send(result)
    with suppress(Exception):
        shard.close()
    sys.stdout.flush()
    _end()


def _step_memory(file: int, make_arguments: list, properties: tuple) -> StepMemory:
    """Memory for the environments that `EnvShard.make` made; `Fault` if there is no room for it."""
    _, count, info_keys = make_arguments
    try:
        return StepMemory(file, count, *properties[:2], info_keys)
    except OSError as error:
        raise LastingFault(f"has no room for its arrays ({error.strerror})", ROOM_REMEDY) from error


def _end() -> None:
    """Ends this process and all processes that the environments started."""
    os.killpg(os.getpid(), signal.SIGKILL)


def _calls(pipe: Connection) -> Iterator[tuple]:
    """Yields the calls from the pipe until it is closed."""
    with suppress(EOFError):
        while True:
            yield pipe.recv()


def _end_with_caller() -> None:
    """Waits until the caller ends or closes stdin, then ends this process after GRACE s."""
    os.read(0, 1)
    time.sleep(GRACE)
    _end()
