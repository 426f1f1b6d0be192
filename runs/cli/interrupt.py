"""Runs a study so that it can be watched and stopped: progress with an ETA, Ctrl-C, SIGTERM."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

PATIENCE = 3.5  # seconds from the request to stop to leaving regardless
EVERY = 10.0  # seconds between two lines of progress where there is no terminal


class Interrupted(Exception):
    """The user asked to stop, and everything is saved."""


class Progress:
    """A bar with an ETA on a terminal, a line every `EVERY` seconds elsewhere.

    Args:
        total: units of work.
    """

    def __init__(self, total: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.total, self.done, self.made = total, 0, 0
        self.began, self.said = time.monotonic(), 0.0
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
        """Prints a line above the bar."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def advance(self, what: str, done: int, fresh: bool = True) -> None:
        """Work now under way, units done in all; `fresh` if this process did them."""
        now = time.monotonic()
        self.made += done - self.done if fresh else 0
        self.done = done
        eta = self._eta(now)
        self.bar.update(self.task, total=self.total, completed=done, description=what, eta=eta)
        if not self.console.is_terminal and now - self.said > EVERY:
            self.said = now
            self.say(f"{_clock(now - self.began)}  {what}  {done}/{self.total}  {eta}")

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self.bar.stop()

    def _eta(self, now: float) -> str:
        if self.made <= 0:
            return "ETA ..."
        left = (now - self.began) / self.made * (self.total - self.done)
        return f"ETA {_clock(left)}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def run_interruptibly(
    work: Callable[[Callable[[], bool]], int], farewell: Callable[[], str]
) -> int:
    """Runs `work(stopped)` in a thread, so that a signal is answered even while XLA compiles.

    On Ctrl-C or SIGTERM `stopped()` turns true; if the work has not left within `PATIENCE`
    seconds the process leaves without it, which loses what came after the last checkpoint.

    Args:
        work: gets a function that says whether to stop; returns the exit code.
        farewell: what to print when it was stopped.

    Returns:
        The exit code of the work, or 128 + the signal's number.
    """
    asked, result = threading.Event(), []
    caught: list[int] = []

    def ask(number, frame):
        caught.append(number)
        asked.set()

    def target():
        try:
            result.append(work(asked.is_set))
        except BaseException as error:
            result.append(error)

    handlers = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not asked.is_set():
            thread.join(0.1)
        if caught:
            thread.join(PATIENCE)
            if not result or not isinstance(result[0], BaseException):
                print(f"\n{farewell()}", file=sys.stderr, flush=True)
                if thread.is_alive():
                    os._exit(128 + caught[0])
                return 128 + caught[0]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def run_with_progress(command: str, work: Callable[[Progress, Callable[[], bool]], int]) -> int:
    """Runs `work(progress, stopped)` interruptibly; whoever stops it is told what continues it.

    Args:
        command: that goes on with it.
        work: keeps what it has done; returns the exit code.

    Returns:
        The exit code of the work, or 128 + the signal's number.
    """
    progress = Progress(total=1)

    def farewell() -> str:
        progress.close()
        return f"stopped; what was done is kept. Go on with:\n  {command}"

    try:
        return run_interruptibly(lambda stopped: work(progress, stopped), farewell)
    finally:
        progress.close()
