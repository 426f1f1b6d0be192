"""Run a study with a progress bar and ETA, stopping cleanly on Ctrl-C or SIGTERM."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

from runs.errors import Interrupted

PATIENCE = 3.5  # seconds from the request to stop to a forced exit
MEMORY = 600.0  # seconds, time constant of the average rate of an ETA, since parts differ in speed
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

        self.total, self.done = total, 0
        self.started, self.last_line_time = time.monotonic(), 0.0
        self.last_call: float | None = None  # its time, once this process has done units
        self.recent_units, self.recent_seconds = 0.0, 0.0  # done lately, and the time that it took
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:<16}", markup=False),
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
        now, units, eta = time.monotonic(), done - self.done, "ETA ..."
        self.done = done
        if fresh and self.last_call is not None:  # the first units took time to compile
            fade = math.exp(-(now - self.last_call) / MEMORY)
            self.recent_units = fade * self.recent_units + units
            self.recent_seconds = fade * self.recent_seconds + now - self.last_call
        if self.last_call is not None or (fresh and units > 0):
            self.last_call = now
        if self.recent_units > 0:
            left = self.recent_seconds / self.recent_units * (self.total - done)
            eta = f"ETA {_clock(left)}"
        self.bar.update(self.task, total=self.total, completed=done, description=label, eta=eta)
        if not self.console.is_terminal and now - self.last_line_time > LINE_SECONDS:
            self.last_line_time = now
            self.say(f"{_clock(now - self.started)}  {label}  {done}/{self.total}  {eta}")

    def close(self) -> None:
        """Stop the bar and restore the terminal."""
        self.bar.stop()


def _clock(seconds: float) -> str:
    """Format seconds as mm:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def run_with_progress(message: str, work: Callable[[Progress, Callable[[], bool]], int]) -> int:
    """Run `work(progress, stopped)` in a thread, so that signals are handled while XLA compiles.

    On Ctrl-C or SIGTERM `stopped()` becomes true; if the work has not returned within `PATIENCE`
    seconds, the process exits, which loses everything after the last checkpoint. An interactive
    session (a notebook) waits for the work instead; a thread that is not the main one cannot be
    stopped.

    Args:
        message: that is printed after a stop: how to go on.
        work: saves what it has done; returns the exit code, or raises Interrupted on a stop.

    Returns:
        The exit code of the work, or 128 + the signal's number.
    """
    progress, received, result = Progress(total=1), [], Future()

    def run_work() -> None:
        try:
            result.set_result(work(progress, lambda: bool(received)))
        except Interrupted:
            result.set_result(1)  # a stop was requested, so another exit code is returned
        except BaseException as error:
            result.set_exception(error)

    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in ((signal.SIGINT, signal.SIGTERM) if in_main_thread else ())
    }
    try:
        threading.Thread(target=run_work, daemon=True).start()
        while not received and not result.done():
            wait([result], 0.1)
        if received:
            wait([result], None if hasattr(sys, "ps1") else PATIENCE)
        if not received or (result.done() and result.exception()):
            return result.result()  # or raises its error
        progress.close()
        print(f"\n{message}", file=sys.stderr, flush=True)
        if not result.done():
            os._exit(128 + received[0])
        return 128 + received[0]
    finally:
        progress.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
