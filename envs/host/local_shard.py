"""Shard of a pool in a thread of the caller's process."""

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from envs.host.call_timer import CallTimer
from envs.host.fault import Fault, LastingFault
from envs.host.shard import PROGRESS, EnvShard
from envs.host.step_memory import rollout_parts

THREAD = "environments"  # name of the threads that step them
_EXIT = os._exit
HUNG_REMEDY = "it cannot be ended here: step it in worker processes (workers=1, or --workers 1)"


class LocalShard:
    """Shard in a thread of the caller's process, with the methods of `WorkerShard`.

    The thread lets the caller give up waiting for an environment; it isolates nothing else.
    """

    def __init__(self, timeout: float):
        self.progress = memoryview(bytearray(PROGRESS)).cast("q")
        self._timer = CallTimer(timeout, self.progress, HUNG_REMEDY)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, with no environments yet."""
        self.progress[0] = -1
        self._timer.starting()
        self._shard = EnvShard(self.progress)
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        arguments = self._shard, self._calls, self._answers
        os._exit = _exit
        thread = {"target": _serve_queue, "args": arguments, "name": THREAD, "daemon": True}
        self._thread = threading.Thread(**thread)
        self._thread.start()

    def send(self, *call) -> None:
        """Passes a call to the thread."""
        self._timer.sent()
        self._call = call
        if call[0] == "rollout":
            parts = rollout_parts(call[1].steps, *self._sizes)
            self._call = *call, [np.empty(*part) for part in parts]
        self._shard.stopped = None
        self._calls.put(self._call)

    def receive(self, stopped: Callable[[], bool] | None = None) -> Any:
        """Returns the result, None if `stopped`; `Fault` if it fails or takes too long."""
        self._shard.stopped = stopped
        try:
            self._timer.wait(self._poll)
        except Fault as fault:
            raise LastingFault(*fault.args) from fault
        answer = self._answer
        if isinstance(answer, BaseException):
            raise answer
        if self._call[0] == "make":
            self._sizes = self._call[2], *answer[:2]
        if self._call[0] == "rollout":
            return self._call[-1] if answer else None
        return answer

    def disconnect(self) -> None:
        """Ends the thread after its present call, if it ever returns; closes the environments."""
        if self._thread is not None:
            self._shard.stopped = _always
            self._calls.put(None)

    def stop(self, grace: float = 0.0) -> None:
        """Ends the thread, and waits for it for at most `grace` seconds, or .2."""
        self.disconnect()
        if self._thread is not None:
            self._thread.join(max(grace, 0.2))

    def _poll(self, seconds: float) -> bool:
        """Waits for an answer of the thread -> whether there is one."""
        try:
            self._answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            return False
        return True


def _exit(code: int) -> NoReturn:
    """`os._exit`; of an environment in a thread of this process it raises SystemExit instead."""
    if threading.current_thread().name == THREAD:
        raise SystemExit(f"os._exit({code}) would end this process")
    _EXIT(code)


def _always() -> bool:
    return True


def _serve_queue(shard: EnvShard, calls: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    """Answers the calls of a `LocalShard` until one is None."""
    while (call := calls.get()) is not None:
        try:
            answers.put(shard.call(*call))
        except BaseException as error:  # raised again where it is received
            answers.put(error)
    with suppress(Exception):
        shard.close()
