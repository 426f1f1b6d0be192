"""Paired timing: worker processes that measure two workloads in turn."""

import importlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 300.0  # seconds for one request to a process
PEERS = {"rejax": "rejax", "sbx": "sbx-rl", "stable_baselines3": "stable-baselines3"}
"""Other libraries that can do the work, by module: their packages."""

Measure = Callable[[], dict[str, float]]  # measures once -> values by name


@dataclass(frozen=True)
class Workload:
    """Work that is measured, on one side of a row.

    Attributes:
        prepare: function workload -> its `Measure`, as `module.name` in `runs.bench`; its module
            is imported in the worker process alone.
        seeds: training runs in parallel.
        updates: of the agent in one measurement; for an arm of a comparison in the whole training,
            0 for the number that `runs.compare` uses.
        num_envs: environments per seed.
        num_steps: steps of each environment per update.
        heads: of the blend, by the names of `runs.engine.arms`; for an arm of a comparison, its
            name.
        episodes: per point of an evaluation.
        shifts: of a made-up study.
        world: name of the suite, for an arm of a comparison and for random actions.
        flags: of XLA, set before the worker process uses it.
    """

    prepare: str
    seeds: int
    updates: int = 0
    num_envs: int = 64
    num_steps: int = 128
    heads: tuple[str, ...] = ()
    episodes: int = 256
    shifts: int = 10
    world: str = "CartPole"
    flags: str = ""

    @property
    def steps(self) -> int:
        """Environment steps of all seeds in one measurement."""
        return self.seeds * self.num_envs * self.num_steps * self.updates

    @property
    def package(self) -> str:
        """Module of the other library that does the work; empty for ours."""
        name = self.prepare.rpartition(".")[2]
        return next((peer for peer in PEERS if name.startswith(peer)), "")

    @property
    def modules(self) -> set[str]:
        """Modules of extras that the work needs."""
        return {self.package, "envpool" if self.world.startswith("envpool:") else ""} - {""}


def timer(work: Callable[[], Any], steps: int) -> Measure:
    """Do the work once, which compiles it -> function that times it, and gives the memory so far.

    Its values are {steps, seconds, megabytes}, the last as in `peak_megabytes`.
    """
    import jax

    def measure() -> dict[str, float]:
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds = time.perf_counter() - start
        return {"steps": steps, "seconds": seconds, "megabytes": peak_megabytes()}

    measure()
    return measure


def peak_megabytes() -> float:
    """Peak memory so far: of the accelerators in use, or of this process."""
    jax = sys.modules.get("jax")
    stats = [device.memory_stats() or {} for device in jax.local_devices()] if jax else []
    if stats and jax.default_backend() != "cpu" and all("peak_bytes_in_use" in x for x in stats):
        return sum(x["peak_bytes_in_use"] for x in stats) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@dataclass(frozen=True)
class TimedPair:
    """One row of the benchmark: two workloads, and the ratio ours / other.

    Attributes:
        part: of the benchmark.
        title: what is compared, for the table.
        ours: in the numerator.
        other: in the denominator.
        goal: bound on the median of the ratio or of ours, such as `ratio >= 1.7` or `ours < 3`, in
            the row's unit; empty without one.
        unit: of both, a key of `runs.bench.table.UNITS`.
        fresh: empty, or, to measure each workload in a new process, first the other, then ours, the
            compilation cache that a pair starts from: `empty` (one per pair) or `filled`.
    """

    part: str
    title: str
    ours: Workload
    other: Workload
    goal: str = ""
    unit: str = "/s"
    fresh: str = ""


class TimedResult(NamedTuple):
    """Measurements of one row."""

    row: TimedPair
    pairs: tuple[tuple[dict, dict], ...]  # (ours, other) of each repeat, as measured
    reason: str = ""  # why the row was left out; empty if it was measured


class WorkerFailed(Exception):
    """A worker process failed; its message is the reason."""


class Worker:
    """A process that prepares and measures workloads on request, and is idle in between.

    As a context manager, it kills the process at the end.

    Args:
        cache: folder of its compilation cache; the user's if None.
    """

    def __init__(self, cache: str | None = None):
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=serve, args=(other_end, cache), daemon=True)
        self.process.start()
        other_end.close()

    def request(self, verb: str, load: Workload) -> dict:
        """Request to `prepare` or to `measure` -> the measured values by name.

        Raises:
            WorkerFailed: for an error, a process that died, or no answer within LIMIT.
        """
        try:
            self.connection.send((verb, load))
            if not self.connection.poll(LIMIT):
                self.process.kill()
                raise WorkerFailed(f"no answer within {LIMIT:.0f} s")
            answer = self.connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            raise WorkerFailed(f"the process died, exit code {self.process.exitcode}") from None
        if isinstance(answer, str):
            raise WorkerFailed(answer)
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.join()


def serve(connection: Connection, cache: str | None) -> None:
    """Answer requests until the other end is closed; an error is answered with its text."""
    if cache is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache  # before jax is imported
    from runs.engine.devices import prepare_devices

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process, without a traceback
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what reports and libraries print
    prepared: dict[Workload, Measure] = {}
    while True:
        try:
            verb, load = connection.recv()
        except EOFError:
            return
        try:
            if verb == "prepare" and load not in prepared:
                if load.flags:
                    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {load.flags}"
                if not load.package:
                    prepare_devices()
                module, _, name = load.prepare.partition(".")
                prepare = getattr(importlib.import_module(f"runs.bench.{module}"), name)
                prepared[load] = prepare(load)
            connection.send({} if verb == "prepare" else _with_busy_share(prepared[load]))
        except Exception as error:
            connection.send(" ".join(f"{type(error).__name__}: {error}".split()))


def _with_busy_share(measure: Measure) -> dict[str, float]:
    """What is measured, and `busy`, the share of all processors' time in which they computed."""
    before = _processor_seconds()
    values, after = measure(), _processor_seconds()
    total = sum(after) - sum(before)
    return values | ({"busy": (after[0] - before[0]) / total} if total else {})


def _processor_seconds() -> tuple[float, float]:
    """Seconds that this machine's processors have computed and been idle; (0, 0) where unknown."""
    times = Path("/proc/stat")
    if not times.exists():
        return 0.0, 0.0
    user, nice, system, *idle = map(float, times.read_text().split("\n")[0].split()[1:6])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system) / ticks, sum(idle) / ticks


def alternate(
    row: TimedPair, repeats: int, new_worker: Callable[[], Worker]
) -> Iterator[tuple[dict, dict]]:
    """Measure both sides in turn, alternating which is first -> pairs (ours, other)."""
    with new_worker() as ours, new_worker() as other:
        sides = [(ours, row.ours), (other, row.other)]
        for worker, load in sides:
            worker.request("prepare", load)
        for i in range(repeats):
            order = 1 if i % 2 == 0 else -1
            samples = [worker.request("measure", load) for worker, load in sides[::order]]
            yield tuple(samples[::order])


def in_new_processes(
    row: TimedPair, repeats: int, new_worker: Callable[[str | None], Worker]
) -> Iterator[tuple[dict, dict]]:
    """Measure both sides in new processes, at most three times -> pairs (ours, other)."""

    def measure(load: Workload, cache: str | None) -> dict:
        with new_worker(cache) as worker:
            worker.request("prepare", load)
            return worker.request("measure", load)

    if row.fresh == "filled":
        for load in (row.other, row.ours):
            measure(load, None)
    for _ in range(min(repeats, 3)):
        with tempfile.TemporaryDirectory() as folder:
            cache = folder if row.fresh == "empty" else None
            other = measure(row.other, cache)
            yield measure(row.ours, cache), other
