"""Paired timing: worker processes that measure two jobs in turn."""

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
    """Bound on the median of a row.

    Attributes:
        text: of the goal in the table.
        of: what is bounded, `ratio` or `ours`.
        least: whether it is a lower bound (an upper one otherwise).
        bound: its value, in the unit of what is bounded.
    """

    text: str
    of: str
    least: bool
    bound: float


@dataclass(frozen=True)
class TimedPair:
    """One row of the benchmark: two jobs, and the ratio ours / other.

    Attributes:
        part: of the benchmark.
        title: what is compared, for the table.
        ours: job in the numerator.
        other: job in the denominator.
        goal: bound to meet, if any.
        unit: of both, of `runs.bench.timing_table.UNITS`.
        fresh: empty, or, to measure each job in a new process, first the other, then ours, the
            compilation cache that a pair starts from: `empty` (one per pair) or `filled`.
    """

    part: str
    title: str
    ours: Job
    other: Job
    goal: Goal | None = None
    unit: str = "/s"
    fresh: str = ""


class WorkerFailed(Exception):
    """A worker process failed; its message is the reason."""


class Worker:
    """A worker process that measures on request.

    Args:
        cache: folder of its compilation cache; the user's if None.
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

    def request(self, verb: str, job: Job | None = None) -> dict:
        """Send one command to the process -> its answer.

        Raises:
            WorkerFailed: for an error, a process that died, or no answer within LIMIT.
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
            lines = self.errors.read().strip().splitlines() or ["no output"]
            raise WorkerFailed(f"the process died, exit code {self.process.wait()}: {lines[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Workers:
    """Running worker processes: one per job, or, in a smoke run, one for all jobs."""

    def __init__(self, shared: bool):
        self.shared = Worker() if shared else None
        self.by_job: dict[Job, Worker] = {}

    def worker_for(self, job: Job) -> Worker:
        """The worker that has prepared the job, started if necessary."""
        if job not in self.by_job:
            worker = self.shared or Worker()
            try:
                worker.request("prepare", job)
            except BaseException:  # including an interrupt
                self._end(worker)
                raise
            self.by_job[job] = worker
        return self.by_job[job]

    def measure_once(self, job: Job | None, cache: str | None = None) -> dict:
        """Measure a job in a new process; without a job, describe the machine."""
        worker = self.shared or Worker(cache)
        try:
            if job is None:
                return worker.request("describe")
            worker.request("prepare", job)
            return worker.request("measure", job)
        finally:
            self._end(worker)

    def release(self, keep: Iterable[Job] = ()) -> None:
        """End the workers of all jobs but those to keep."""
        for job in set(self.by_job) - set(keep):
            self._end(self.by_job.pop(job))

    def close(self) -> None:
        """End all workers."""
        self.release()
        if self.shared is not None:
            self.shared.close()

    def _end(self, worker: Worker) -> None:
        if worker is not self.shared:
            worker.close()


class Result(NamedTuple):
    """Measurements of one row.

    Attributes:
        row: that was measured.
        pairs: (ours, other) of each repeat, as measured.
        reason: why the row was left out, else the empty string.
    """

    row: TimedPair
    pairs: tuple[tuple[dict, dict], ...]
    reason: str = ""


def alternate(row: TimedPair, repeats: int, workers: Workers) -> Iterator[tuple[dict, dict]]:
    """Measure both jobs in turn, alternating which is first -> pairs (ours, other)."""
    jobs = row.ours, row.other
    for job in jobs:
        workers.worker_for(job)
    for i in range(repeats):
        order = jobs if i % 2 == 0 else jobs[::-1]
        samples = {job: workers.worker_for(job).request("measure", job) for job in order}
        yield samples[row.ours], samples[row.other]


def in_new_processes(row: TimedPair, repeats: int, workers: Workers) -> Iterator[tuple[dict, dict]]:
    """Measure both jobs in new processes, at most three times -> pairs (ours, other)."""
    if row.fresh == "filled":
        for job in (row.other, row.ours):
            workers.measure_once(job)
    for _ in range(min(repeats, 3)):
        with tempfile.TemporaryDirectory() as folder:
            cache = folder if row.fresh == "empty" else None
            other = workers.measure_once(row.other, cache)
            yield workers.measure_once(row.ours, cache), other
