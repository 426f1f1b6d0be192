"""Two things that take turns: the processes that measure them, and who is asked when."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from runs.bench.job import Job

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300.0  # seconds for one command to a process


class Goal(NamedTuple):
    """What the median of a row has to reach.

    Attributes:
        text: for the table.
        of: `ratio` or `ours`.
        least: the bound is a least and not a most.
        bound: in the unit of what it bounds.
    """

    text: str
    of: str
    least: bool
    bound: float


@dataclass(frozen=True)
class TimedPair:
    """One row: ours / other is its ratio.

    Attributes:
        part: of the benchmark.
        what: is compared.
        ours: the numerator.
        other: the denominator.
        goal: what it has to reach, if anything.
        unit: of both, of `runs.bench.timing_table.UNITS`.
        fresh: where each turn is a process of its own, first the other's, then ours, the
            compilation cache that a pair starts from: `empty`, and its own, or `filled`.
    """

    part: str
    what: str
    ours: Job
    other: Job
    goal: Goal | None = None
    unit: str = "/s"
    fresh: str = ""


class WorkerFailed(Exception):
    """A process could not do what it was told; the reason."""


class Worker:
    """A process that measures when it is told to, and else is idle.

    Args:
        cache: its folder of compiled programs; the user's if None.
    """

    def __init__(self, cache: str | None = None):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runs.bench.worker"],
            cwd=ROOT,
            env=os.environ | ({"JAX_COMPILATION_CACHE_DIR": cache} if cache else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def ask(self, verb: str, job: Job | None = None) -> dict:
        """Has one command done -> the answer.

        Raises:
            Failed: for an error, a death, or an answer that does not come within LIMIT.
        """
        command = [verb] if job is None else [verb, asdict(job)]
        hung = threading.Event()
        timer = threading.Timer(LIMIT, lambda: (hung.set(), self.process.kill()))
        timer.start()
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if hung.is_set():
            raise WorkerFailed(f"no answer within {LIMIT:.0f} s")
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["no word"]
            raise WorkerFailed(f"the process died, exit code {self.process.wait()}: {said[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Workers:
    """The processes that are alive: one a job, or, in a smoke run, one for all of them."""

    def __init__(self, shared: bool):
        self.shared = Worker() if shared else None
        self.by_job: dict[Job, Worker] = {}

    def of(self, job: Job) -> Worker:
        """The one that has prepared the job."""
        if job not in self.by_job:
            worker = self.shared or Worker()
            try:
                worker.ask("prepare", job)
            except BaseException:  # an interrupt too
                self._end(worker)
                raise
            self.by_job[job] = worker
        return self.by_job[job]

    def once(self, job: Job | None, cache: str | None = None) -> dict:
        """Has a job measured in a process that has seen no other, or the machine described."""
        worker = self.shared or Worker(cache)
        try:
            if job is None:
                return worker.ask("describe")
            worker.ask("prepare", job)
            return worker.ask("measure", job)
        finally:
            self._end(worker)

    def release(self, but: Iterable[Job] = ()) -> None:
        """Ends those of all jobs but some."""
        for job in set(self.by_job) - set(but):
            self._end(self.by_job.pop(job))

    def close(self) -> None:
        """Ends all of them."""
        self.release()
        if self.shared is not None:
            self.shared.close()

    def _end(self, worker: Worker) -> None:
        if worker is not self.shared:
            worker.close()


class Result(NamedTuple):
    """What a duel came to.

    Attributes:
        duel: that was fought.
        pairs: (ours, other) of each repeat, as measured.
        reason: why it was left out, else the empty string.
    """

    duel: TimedPair
    pairs: tuple[tuple[dict, dict], ...]
    reason: str = ""


def alternate(duel: TimedPair, repeats: int, workers: Workers) -> Iterator[tuple[dict, dict]]:
    """Both sides alternately, the one that begins alternating too -> pairs (ours, other)."""
    jobs = duel.ours, duel.other
    for job in jobs:
        workers.of(job)
    for i in range(repeats):
        order = jobs if i % 2 == 0 else jobs[::-1]
        samples = {job: workers.of(job).ask("measure", job) for job in order}
        yield samples[duel.ours], samples[duel.other]


def in_new_processes(
    duel: TimedPair, repeats: int, workers: Workers
) -> Iterator[tuple[dict, dict]]:
    """At most three pairs (ours, other) of new processes."""
    if duel.fresh == "filled":
        for job in (duel.other, duel.ours):
            workers.once(job)
    for _ in range(min(repeats, 3)):
        with tempfile.TemporaryDirectory() as folder:
            cache = folder if duel.fresh == "empty" else None
            other = workers.once(duel.other, cache)
            yield workers.once(duel.ours, cache), other
