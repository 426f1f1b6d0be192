"""Run a study with a progress bar and ETA, stopping cleanly on Ctrl-C or SIGTERM."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

PATIENCE = 3.5  # seconds from the request to stop to a forced exit
LINE_SECONDS = 10.0  # seconds between lines of progress without a terminal


class Progress:
    """Progress bar with ETA on a terminal, a line every `LINE_SECONDS` seconds elsewhere.

    Args:
        total: units of work.
    """

    def __init__(self, total: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.total, self.done, self.new_units = total, 0, 0
        self.started, self.last_line_time = time.monotonic(), 0.0
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
        )
        self.bar = Bar(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("starting", total=total, eta="")
        self.bar.start()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def advance(self, label: str, done: int, fresh: bool = True) -> None:
        """Show the current work and the units done in total; `fresh` if done by this process."""
        now = time.monotonic()
        self.new_units += done - self.done if fresh else 0
        self.done = done
        eta = self._eta(now)
        self.bar.update(self.task, total=self.total, completed=done, description=label, eta=eta)
        if not self.console.is_terminal and now - self.last_line_time > LINE_SECONDS:
            self.last_line_time = now
            self.say(f"{_clock(now - self.started)}  {label}  {done}/{self.total}  {eta}")

    def close(self) -> None:
        """Stop the bar and restore the terminal."""
        self.bar.stop()

    def _eta(self, now: float) -> str:
        """Estimated remaining time, from the units that this process has done."""
        if self.new_units <= 0:
            return "ETA ..."
        remaining = (now - self.started) / self.new_units * (self.total - self.done)
        return f"ETA {_clock(remaining)}"


def _clock(seconds: float) -> str:
    """Format seconds as mm:ss or h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def run_interruptibly(
    work: Callable[[Callable[[], bool]], int], stop_message: Callable[[], str]
) -> int:
    """Run `work(stopped)` in a thread, so that signals are handled even while XLA compiles.

    On Ctrl-C or SIGTERM `stopped()` becomes true; if the work has not returned within `PATIENCE`
    seconds, the process exits, which loses everything after the last checkpoint.

    Args:
        work: receives a function that returns whether to stop; returns the exit code.
        stop_message: returns the text to print after a stop.

    Returns:
        The exit code of the work, or 128 + the signal's number.
    """
    stop_requested, result = threading.Event(), []
    received: list[int] = []

    def request_stop(number, frame):
        received.append(number)
        stop_requested.set()

    def run_work():
        try:
            result.append(work(stop_requested.is_set))
        except BaseException as error:
            result.append(error)

    handlers = {
        number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    thread = threading.Thread(target=run_work, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not stop_requested.is_set():
            thread.join(0.1)
        if received:
            thread.join(PATIENCE)
            if not result or not isinstance(result[0], BaseException):
                print(f"\n{stop_message()}", file=sys.stderr, flush=True)
                if thread.is_alive():
                    os._exit(128 + received[0])
                return 128 + received[0]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def run_with_progress(command: str, work: Callable[[Progress, Callable[[], bool]], int]) -> int:
    """Run `work(progress, stopped)` interruptibly; after a stop, print the command that resumes it.

    Args:
        command: that resumes the work.
        work: saves what it has done; returns the exit code.

    Returns:
        The exit code of the work, or 128 + the signal's number.
    """
    progress = Progress(total=1)

    def stop_message() -> str:
        progress.close()
        return f"stopped; what was done is kept. Go on with:\n  {command}"

    try:
        return run_interruptibly(lambda stopped: work(progress, stopped), stop_message)
    finally:
        progress.close()
