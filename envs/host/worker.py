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

from envs.host.call_timer import CallTimer
from envs.host.fault import Fault
from envs.host.shard import PROGRESS, EnvShard
from envs.host.step_memory import RolloutMemory, StepMemory

GRACE = 2.0  # seconds for a worker to close its environments after the caller closes or dies

DIED_REMEDY = "the environment crashes its process, or memory ran out (then use fewer environments)"
HUNG_REMEDY = "fix the environment, or increase --env-timeout (timeout=) if it is only slow"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PICKLE_REMEDY = "define it in a module, or use functools.partial(gymnasium.make, id), or workers=0"


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
    """Shard in a worker process, called through a pipe; arrays of steps are in shared memory."""

    def __init__(self, timeout: float):
        self._process: subprocess.Popen | None = None
        self._files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115, shared
        self._files[0].write(bytes(PROGRESS))
        self._files[0].flush()
        self.progress = memoryview(mmap.mmap(self._files[0].fileno(), PROGRESS)).cast("q")
        self._timer = CallTimer(timeout, self.progress, HUNG_REMEDY)

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
            env=os.environ | {"PYTHONHASHSEED": "0"} | ONE_THREAD,
        )
        worker_pipe.close()
        self.pid = self._process.pid
        self._timer.starting()

    def send(self, *call) -> None:
        """Sends a call to the worker; if the worker has died, `receive` raises."""
        self._timer.sent()
        self._call = call
        if call[0] == "step":
            self._memory.write_call(*call[1:])
            call = ("step",)
        with suppress(OSError):
            self._pipe.send(call)

    def receive(self, stopped: Callable[[], bool] | None = None) -> Any:
        """Returns the result, None if `stopped`; `Fault` if it fails or takes too long."""
        if not self._timer.wait(self._pipe.poll, stopped):
            return None
        try:
            result = self._pipe.recv()
        except (EOFError, OSError):
            self.stop()
            code = self._process.returncode
            signal_name = "" if code >= 0 else f" ({signal.strsignal(-code)})"
            raise Fault(f"died with exit code {code}{signal_name}", DIED_REMEDY) from None
        if isinstance(result, Fault):
            raise result
        if self._call[0] == "make":
            sizes = self._call[2], *result[:2]
            self._memory = StepMemory(self._files[1].fileno(), *sizes, self._call[3])
            self._rollouts = RolloutMemory(self._files[2].fileno(), sizes)
        if self._call[0] == "rollout":
            return self._rollouts.arrays(self._call[1].steps)
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


def serve(descriptor: int, progress: int, *memory: int) -> None:
    """Runs a worker.

    Args:
        descriptor: of the pipe that calls come from.
        progress: of the file that progress is written to.
        *memory: of the files of the arrays of a step and of a rollout.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for inherited in descriptor, progress, *memory:
        os.set_inheritable(inherited, False)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    shard = EnvShard(memoryview(mmap.mmap(progress, PROGRESS)).cast("q"))
    step_memory, rollouts = None, None
    with suppress(OSError):
        pipe = Connection(descriptor)
        for method, *args in _calls(pipe):
            try:
                if method == "step":
                    result = step_memory.write_results(shard.call(method, *step_memory.read_call()))
                elif method == "rollout":
                    result = shard.call(method, *args, rollouts.arrays(args[0].steps))
                else:
                    result = shard.call(method, *args)
                if method == "make":
                    sizes = args[1], *result[:2]
                    step_memory = StepMemory(memory[0], *sizes, args[2])
                    rollouts = RolloutMemory(memory[1], sizes)
            except Fault as fault:
                result = fault
            pipe.send(result)
    with suppress(Exception):
        shard.close()
    sys.stdout.flush()
    _end()


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
