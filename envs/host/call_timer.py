"""Time limit of a call of an environment."""

import time
from collections.abc import Callable

from envs.host.fault import Fault

STARTUP = 60.0  # seconds for a worker to import modules and to make its environments
STOP_SECONDS = 0.05  # after which a waiting caller looks whether it is to stop


class CallTimer:
    """Waits for answers; the time limit starts again whenever an environment is called.

    Args:
        timeout: seconds that a call of one environment may take.
        progress: of `EnvShard`.
        remedy: of an environment that takes longer.
    """

    def __init__(self, timeout: float, progress: memoryview, remedy: str):
        self._timeout, self._progress, self._remedy = timeout, progress, remedy
        self.starting()

    def starting(self) -> None:
        """Allows the next answer the time that it takes to start as well."""
        self._limit = STARTUP + self._timeout

    def sent(self) -> None:
        """Notes that a call is sent."""
        self._since, self._calls = time.monotonic(), self._progress[2]

    def wait(
        self, poll: Callable[[float], bool], stopped: Callable[[], bool] | None = None
    ) -> bool:
        """Waits until `poll(seconds)` is true -> whether it was not `stopped`; `Fault` if late."""
        seconds = self._timeout / 4
        while not poll(seconds if stopped is None else min(seconds, STOP_SECONDS)):
            if stopped is not None and stopped():
                return False
            if self._calls != self._progress[2]:
                self._limit = self._timeout
                self.sent()
            elif time.monotonic() - self._since >= self._limit:
                raise Fault(f"gave no answer within {self._limit:g} s", self._remedy)
        self._limit = self._timeout
        return True
