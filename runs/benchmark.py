"""How fast is it, against others and against its own machine? Ratios with their spread.

Every row compares two things that take turns in one run, each in a process of its own, after a
warm-up that also compiles; its ratio is taken pair by pair. The peers (rejax, SBX,
Stable-Baselines3) come with the extra `bench`; without them their rows are left out.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from runs.harness.config import choose, exit_cleanly, parse
from runs.harness.errors import UserError
from runs.harness.peers import PEERS, Job

PARTS = ("training", "ceiling", "heads", "evaluation", "compilation", "memory")
ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("runs/results")
INSTALL = "not installed: pip install -e '.[bench]' -c constraints.txt"
LIMIT = 300.0  # seconds for one command to a process
PACKAGES = {"rejax": "rejax", "sbx": "sbx-rl", "stable_baselines3": "stable-baselines3"}
QUIET = 0.5  # load average up to which a machine counts as quiet


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        parts: what to measure, of training, ceiling, heads, evaluation, compilation, memory.
        repeats: turns that each side of a row takes.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of seconds that touches everything and means nothing.
        record: also write the table and every turn to runs/results/.
    """

    parts: tuple[str, ...] = PARTS
    repeats: int = 5
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Parses, then measures; the exit code: 1 if a row failed that should not have."""
    settings = parse(Settings, argv, __doc__ or "")
    check(settings)
    command, load = " ".join(["python -m runs.benchmark", *argv]), os.getloadavg()[0]
    began = time.monotonic()

    def say(line: str) -> None:
        elapsed = time.strftime("%M:%S", time.gmtime(time.monotonic() - began))
        print(f"{elapsed}  {line}", file=sys.stderr, flush=True)

    if load > QUIET:
        say(f"the machine is busy (load {load:.1f}): expect figures that are too low and too wide")
    if settings.smoke:
        say("a smoke run: its figures mean nothing")
    workers = Workers(shared=settings.smoke)
    try:
        results = measure(settings, workers, say)
        facts = machine(workers) | {"load at the start": f"{load:.2f}"}
    except KeyboardInterrupt:
        say("stopped; nothing was written")
        return 130
    finally:
        workers.close()
    show(results, facts)
    if settings.record:
        record(results, facts, command, RESULTS)
    return int(any(result.reason not in ("", INSTALL) for result in results))


def check(settings: Settings) -> None:
    """Refuses what makes no sense.

    Raises:
        UserError: for an unknown part, no repeats, or a smoke run that is to be recorded.
    """
    if not settings.parts:
        raise UserError(f"--parts: name at least one of {', '.join(PARTS)}")
    for part in settings.parts:
        choose("part", part, PARTS)
    if settings.repeats < 1:
        raise UserError(f"--repeats {settings.repeats}: must be at least 1")
    if settings.smoke and settings.record:
        raise UserError("--record: the figures of a smoke run mean nothing; leave --smoke out")


# --- what is compared ---------------------------------------------------------------------------


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


REJAX = Goal("at least 1.7, aim 2", "ratio", True, 1.7)
BASELINES = Goal("at least 30", "ratio", True, 30.0)
HEADS = Goal("at most 1.35", "ratio", False, 1.35)
EVALUATION = Goal("at least 20", "ratio", True, 20.0)
COMPILATION = Goal("cached < 3 s", "ours", False, 3.0)
MEMORY = Goal("flat: < 1.1", "ratio", False, 1.1)


@dataclass(frozen=True)
class Duel:
    """One row: ours / other is its ratio.

    Attributes:
        part: of PARTS.
        what: is compared.
        ours: the numerator.
        other: the denominator.
        goal: what it has to reach, if anything.
        unit: of both, of UNITS.
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


UNITS: dict[str, tuple[Callable[[dict], float], str]] = {  # unit -> (reading, format)
    "/s": (lambda sample: sample["steps"] / sample["seconds"], ",.0f"),
    " us/step": (lambda sample: 1e6 * sample["seconds"] / sample["steps"], ".2f"),
    " s": (lambda sample: sample["seconds"], ".2f"),
    " MB": (lambda sample: sample["megabytes"], ",.0f"),
}


def duels(settings: Settings) -> list[Duel]:
    """The rows asked for; those that share a process stand together."""
    four, eight = Job("ours", seeds=4, updates=16), Job("ours", seeds=8, updates=8)
    narrow = Job("ours", seeds=20, num_envs=4, updates=40)  # the sizes of the main job
    scoring = Job("evaluation", seeds=20, num_envs=4, updates=0)
    chunk = Job("compilation", seeds=20, num_envs=4, updates=0, heads=("fear",))
    short = Job("memory", seeds=2, num_envs=4, updates=100, heads=("fear",))
    long = replace(short, updates=10 * short.updates)

    def one(kind: str, ours: Job) -> Job:
        return replace(ours, kind=kind, seeds=1, updates=128 // ours.num_envs)

    def feeling(ours: Job) -> Job:
        return replace(ours, heads=("fear", "hope", "curiosity"))

    sb3 = "stable_baselines3"
    rows = [
        Duel("training", "8 seeds, 64 envs / rejax", eight, replace(eight, kind="rejax"), REJAX),
        Duel("training", "4 seeds, 64 envs / rejax", four, replace(four, kind="rejax"), REJAX),
        Duel("training", "4 seeds, 64 envs / SBX", four, one("sbx", four), BASELINES),
        Duel("training", "4 seeds, 64 envs / SB3", four, one(sb3, four), BASELINES),
        Duel("ceiling", "4 seeds, 64 envs / bare products", four, replace(four, kind="ceiling")),
        Duel("heads", "64 envs, three heads / none", feeling(four), four, HEADS, " us/step"),
        Duel("training", "20 seeds, 4 envs / SBX", narrow, one("sbx", narrow), BASELINES),
        Duel("training", "20 seeds, 4 envs / SB3", narrow, one(sb3, narrow), BASELINES),
        Duel("heads", "4 envs, three heads / none", feeling(narrow), narrow, HEADS, " us/step"),
        Duel("evaluation", "4 envs, evaluation / training", scoring, narrow, EVALUATION),
        Duel("compilation", "compilation, cached / cold", chunk, chunk, COMPILATION, " s", "empty"),
        Duel("memory", "peak memory, 10 x as long / 1 x", long, short, MEMORY, " MB", "filled"),
    ]
    rows = [row for row in rows if row.part in settings.parts]
    if not settings.smoke:
        return rows
    return [replace(row, ours=small(row.ours), other=small(row.other)) for row in rows]


def small(job: Job) -> Job:
    """The same job for a smoke run: little to do, and few programs to compile."""
    heads = job.heads[:1] if job.kind == "ours" else ()
    updates = max(job.updates // 100, 1)
    sizes = {"num_envs": 4, "num_steps": 8, "updates": updates, "episodes": 4}
    return replace(job, seeds=min(job.seeds, 2), heads=heads, **sizes)


# --- measuring ----------------------------------------------------------------------------------


class Failed(Exception):
    """A process could not do what it was told; the reason."""


class Worker:
    """A process that measures when it is told to, and else is idle.

    Args:
        cache: its folder of compiled programs; the user's if None.
    """

    def __init__(self, cache: str | None = None):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runs.harness.peers"],
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
            raise Failed(f"no answer within {LIMIT:.0f} s")
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["no word"]
            raise Failed(f"the process died, exit code {self.process.wait()}: {said[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
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

    duel: Duel
    pairs: tuple[tuple[dict, dict], ...]
    reason: str = ""


def measure(settings: Settings, workers: Workers, say: Callable[[str], None]) -> list[Result]:
    """Fights all duels, one at a time."""
    rows, results = duels(settings), []
    repeats = 1 if settings.smoke else settings.repeats
    for i, duel in enumerate(rows):
        label = f"{i + 1}/{len(rows)}  {duel.what}"
        say(f"{label} ...")
        fight = afresh if duel.fresh else by_turns
        try:
            if duel.other.kind in PEERS and util.find_spec(duel.other.kind) is None:
                raise Failed(INSTALL)
            results.append(Result(duel, tuple(fight(duel, repeats, workers))))
            say(f"{label}: {spread(ratios(results[-1]))}")
        except Failed as failure:
            results.append(Result(duel, (), str(failure)))
            say(f"{label}: left out, {failure}")
        later = [row for row in rows[i + 1 :] if not row.fresh]
        workers.release(but={job for row in later for job in (row.ours, row.other)})
    return results


def by_turns(duel: Duel, repeats: int, workers: Workers) -> Iterator[tuple[dict, dict]]:
    """Both sides alternately, the one that begins alternating too -> pairs (ours, other)."""
    jobs = duel.ours, duel.other
    for job in jobs:
        workers.of(job)
    for i in range(repeats):
        order = jobs if i % 2 == 0 else jobs[::-1]
        samples = {job: workers.of(job).ask("measure", job) for job in order}
        yield samples[duel.ours], samples[duel.other]


def afresh(duel: Duel, repeats: int, workers: Workers) -> Iterator[tuple[dict, dict]]:
    """At most three pairs (ours, other) of new processes."""
    if duel.fresh == "filled":
        for job in (duel.other, duel.ours):
            workers.once(job)
    for _ in range(min(repeats, 3)):
        with tempfile.TemporaryDirectory() as folder:
            cache = folder if duel.fresh == "empty" else None
            other = workers.once(duel.other, cache)
            yield workers.once(duel.ours, cache), other


def machine(workers: Workers) -> dict[str, str]:
    """What the figures depend on: machine, devices, versions, those of the peers too."""
    facts = workers.once(None)
    for module, name in PACKAGES.items():
        if util.find_spec(module) is not None:
            facts[name] = metadata.version(name)
    return facts


# --- the figures --------------------------------------------------------------------------------


class Spread(NamedTuple):
    """Median and extremes of some repeats."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def values(result: Result) -> list[tuple[float, float]]:
    """(ours, other) of each repeat, in the unit of the row."""
    read, _ = UNITS[result.duel.unit]
    return [(read(ours), read(other)) for ours, other in result.pairs]


def ratios(result: Result) -> list[float]:
    """Ours / other, pair by pair: what slows the machine down for both leaves it alone."""
    return [ours / other for ours, other in values(result)]


def reached(result: Result) -> bool | None:
    """Whether the median reached the goal; None where there is none to reach."""
    goal = result.duel.goal
    if goal is None or not result.pairs:
        return None
    found = ratios(result) if goal.of == "ratio" else [ours for ours, _ in values(result)]
    median = statistics.median(found)
    return median >= goal.bound if goal.least else median < goal.bound


HEADINGS = ("ours / other", "ours", "other", "ratio [min, max]", "goal", "reached")


def cells(result: Result) -> list[str]:
    """One row of the table."""
    duel = result.duel
    goal = duel.goal.text if duel.goal else "-"
    if not result.pairs:
        return [duel.what, "-", "-", "left out", goal, "-"]
    sides = [statistics.median(side) for side in zip(*values(result), strict=True)]
    form = UNITS[duel.unit][1]
    verdict = {None: "-", True: "yes", False: "no"}[reached(result)]
    own = [f"{side:{form}}{duel.unit}" for side in sides]
    return [duel.what, *own, f"{spread(ratios(result))}", goal, verdict]


def remarks(results: list[Result]) -> list[str]:
    """What the table has no room for."""
    lines = [f"left out: {r.duel.what}: {r.reason}" for r in results if r.reason]
    for result in results:
        samples = [sample for pair in result.pairs for sample in pair]
        lived = [sample["lived"] for sample in samples if "lived" in sample]
        speed = [s["flops"] / s["seconds"] / 1e9 for s in samples if "flops" in s]
        if lived:
            lines.append(
                f"{result.duel.what}: steps computed; {100 * statistics.median(lived):.0f} % of "
                "them came before the end of their episode"
            )
        if speed:
            lines.append(f"bare products: {spread(speed):.1f} Gflop/s")
    return lines


def show(results: list[Result], facts: dict[str, str]) -> None:
    """Prints the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right")
    for result in results:
        table.add_row(*cells(result))
    Console(width=132).print(table)
    for line in remarks(results) + [described(facts)]:
        print(line)


def described(facts: dict[str, str]) -> str:
    """The machine in one line."""
    return "; ".join(f"{key} {value}" for key, value in facts.items())


def record(results: list[Result], facts: dict[str, str], command: str, folder: Path) -> None:
    """Writes the table, and every pair, to `folder`/benchmark.md and .csv."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [HEADINGS, ["---"] + ["---:"] * (len(HEADINGS) - 1), *map(cells, results)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = "".join(f"- {line}\n" for line in remarks(results))
    (folder / "benchmark.md").write_text(
        f"# Benchmark\n\n{table}\n\n"
        "PPO on CartPole (500 steps), two networks of 64-64 tanh, 4 epochs of 4 minibatches. Both "
        "sides take turns in processes of their own; medians of each side, and of the ratio taken "
        "pair by pair, with its extremes. Compilation and a warm-up come before. `/s` are "
        "environment steps a second, over all seeds. Rejax trains as many seeds as we do, without "
        "its evaluations; SBX and Stable-Baselines3 (SB3) train one seed in one process, the "
        "latter with one thread or torch's choice, whichever is faster.\n\n"
        f"{notes}\n`{command}`\n\n{described(facts)}\n"
    )
    with (folder / "benchmark.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("part", "row", "unit", "repeat", "ours", "other", "ratio"))
        for result in results:
            duel = result.duel
            for i, (ours, other) in enumerate(values(result)):
                unit = duel.unit.strip()
                writer.writerow((duel.part, duel.what, unit, i, ours, other, ours / other))


if __name__ == "__main__":
    exit_cleanly(main)
