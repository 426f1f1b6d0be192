"""Speed: how fast are training and evaluation against other libraries and bare matrix products?

Every row compares two jobs, measured in turn, each in its own process, after a warm-up that also
compiles; ratios are taken pair by pair and reported with their spread. The peers (rejax, SBX,
Stable-Baselines3) come with the extra `bench`; without them their rows are left out.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path

from runs.bench.job import Job
from runs.bench.paired_timing import (
    Goal,
    Result,
    TimedPair,
    WorkerFailed,
    Workers,
    alternate,
    in_new_processes,
)
from runs.bench.timing_table import print_table, ratios, record_table, spread
from runs.bench.worker import PEERS
from runs.cli.settings import check_recordable, parse_settings, run_main, shell_command
from runs.errors import UserError
from runs.names import checked_choice

PARTS = (
    *("training", "ceiling", "shares", "heads", "evaluation", "worlds", "compilation", "memory"),
    *("readouts", "report"),
)
RESULTS = Path("runs/results")
INSTALL = "not installed: pip install -e '.[bench]' -c constraints.txt"
ALL = ("fear", "hope", "curiosity", "mood", "satiation", "homeostasis", "care", "innate")
PACKAGES = {"rejax": "rejax", "sbx": "sbx-rl", "stable_baselines3": "stable-baselines3"}
QUIET = 0.5  # load average up to which a machine counts as quiet


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        parts: what to measure, of training (against peers), ceiling (bare matrix products), shares
            (parts of a training step), heads, evaluation, worlds (Drive), compilation, memory,
            readouts (probing the signals beside scoring), report (and sealing).
        repeats: measurements of each job of a row.
        config: a YAML file of these settings; flags override it.
        smoke: a run of seconds that only tests the code; its numbers mean nothing.
        record: also write the table and every measurement to runs/results/, named by the parts.
    """

    parts: tuple[str, ...] = PARTS
    repeats: int = 5
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Run the benchmark -> exit code, 1 if a row failed for a reason other than a missing peer."""
    settings = parse_settings(Settings, argv, __doc__ or "")
    check(settings)
    command, load = shell_command("python -m runs.benchmark", argv), os.getloadavg()[0]
    start = time.monotonic()

    def log(line: str) -> None:
        elapsed = time.strftime("%M:%S", time.gmtime(time.monotonic() - start))
        print(f"{elapsed}  {line}", file=sys.stderr, flush=True)

    if load > QUIET:
        log(f"the machine is busy (load {load:.1f}): expect figures that are too low and too wide")
    if settings.smoke:
        log("a smoke run: its figures mean nothing")
    workers = Workers(shared=settings.smoke)
    try:
        results = measure(settings, workers, log)
        facts = machine(workers) | {"load at the start": f"{load:.2f}"}
    except KeyboardInterrupt:
        log("stopped; nothing was written")
        return 130
    finally:
        workers.close()
    print_table(results, facts)
    if settings.record:
        whole = set(settings.parts) == set(PARTS)
        name = "benchmark" if whole else f"benchmark-{'-'.join(settings.parts)}"
        record_table(results, facts, command, RESULTS, name)
    return int(any(result.reason not in ("", INSTALL) for result in results))


def check(settings: Settings) -> None:
    """Reject invalid settings.

    Raises:
        UserError: for an unknown part, no repeats, or a smoke run that is to be recorded.
    """
    if not settings.parts:
        raise UserError(f"--parts: choose at least one of {', '.join(PARTS)}")
    for part in settings.parts:
        checked_choice("part", part, PARTS)
    if settings.repeats < 1:
        raise UserError(f"--repeats {settings.repeats}: must be at least 1")
    check_recordable(settings)


REJAX = Goal("at least 1.7, aim 2", "ratio", True, 1.7)
BASELINES = Goal("at least 30", "ratio", True, 30.0)
HEADS = Goal("at most 1.35", "ratio", False, 1.35)
EVERY_HEAD = Goal("at most 1.6", "ratio", False, 1.6)
EVALUATION = Goal("at least 20", "ratio", True, 20.0)
DRIVE = Goal("at least 1,000,000/s", "ours", True, 1e6)
SCORING = Goal("ours < 120 s", "ours", False, 120.0)
READOUTS = Goal("at most 2", "ratio", False, 2.0)
REPORT = Goal("ours < 20 s", "ours", False, 20.0)
SEALING = Goal("ours < 2 s", "ours", False, 2.0)
COMPILATION = Goal("cached < 3 s", "ours", False, 3.0)
MEMORY = Goal("flat: < 1.1", "ratio", False, 1.1)


SHARES = {"living": "rollouts", "judging": "advantages", "learning": "updates"}
"""Kinds of `runs.bench.components` -> titles; updates include advantages."""


def timed_pairs(settings: Settings) -> list[TimedPair]:
    """Rows of the chosen parts; rows that share a process are neighbours."""
    seeds4, seeds8 = Job("ours", seeds=4, updates=16), Job("ours", seeds=8, updates=8)
    narrow = Job("ours", seeds=20, num_envs=4, updates=40)  # the sizes of `runs.compare`
    scoring = Job("evaluation", seeds=20, num_envs=4, updates=0)
    chunk = Job("compilation", seeds=20, num_envs=4, updates=0, heads=("fear",))
    drive = Job("wandering", seeds=2, num_envs=512, updates=8, world="Drive")
    drive_score = replace(scoring, num_envs=32, world="Drive", heads=("lesion",))
    report, sealing = (Job(kind, seeds=20, updates=0) for kind in ("report", "sealing"))
    short_run = Job("memory", seeds=2, num_envs=4, updates=100, heads=("fear",))
    long_run = replace(short_run, updates=10 * short_run.updates)

    def peer(kind: str, ours: Job) -> Job:
        return replace(ours, kind=kind, seeds=1, updates=128 // ours.num_envs)

    def blended(ours: Job, heads: tuple[str, ...] = ("fear", "hope", "curiosity")) -> Job:
        return replace(ours, heads=heads)

    sb3 = "stable_baselines3"
    rows = [
        TimedPair(
            "training", "8 seeds, 64 envs / rejax", seeds8, replace(seeds8, kind="rejax"), REJAX
        ),
        TimedPair(
            "training", "4 seeds, 64 envs / rejax", seeds4, replace(seeds4, kind="rejax"), REJAX
        ),
        TimedPair("training", "4 seeds, 64 envs / SBX", seeds4, peer("sbx", seeds4), BASELINES),
        TimedPair("training", "4 seeds, 64 envs / SB3", seeds4, peer(sb3, seeds4), BASELINES),
        TimedPair(
            "ceiling", "4 seeds, 64 envs / bare products", seeds4, replace(seeds4, kind="ceiling")
        ),
        *(
            TimedPair(
                "shares", f"4 seeds, 64 envs / {title} alone", seeds4, replace(seeds4, kind=kind)
            )
            for kind, title in SHARES.items()
        ),
        TimedPair(
            "heads", "64 envs, three heads / none", blended(seeds4), seeds4, HEADS, " us/step"
        ),
        TimedPair(
            *("heads", f"64 envs, all {len(ALL)} heads / none", blended(seeds4, ALL), seeds4),
            *(EVERY_HEAD, " us/step"),
        ),
        TimedPair("training", "20 seeds, 4 envs / SBX", narrow, peer("sbx", narrow), BASELINES),
        TimedPair("training", "20 seeds, 4 envs / SB3", narrow, peer(sb3, narrow), BASELINES),
        TimedPair(
            "heads", "4 envs, three heads / none", blended(narrow), narrow, HEADS, " us/step"
        ),
        TimedPair("evaluation", "4 envs, evaluation / training", scoring, narrow, EVALUATION),
        TimedPair(
            "worlds",
            "Drive / CartPole, random policy",
            drive,
            replace(drive, world="CartPole"),
            DRIVE,
        ),
        TimedPair(
            *("worlds", "Drive / CartPole, evaluation"),
            *(replace(scoring, num_envs=32, world="Drive"), scoring, SCORING, " s"),
        ),
        TimedPair(
            *("readouts", "Drive, with readouts / evaluation"),
            *(replace(drive_score, kind="readouts"), drive_score, READOUTS, " s"),
        ),
        TimedPair("report", "statistics and report / sealing", report, sealing, REPORT, " s"),
        TimedPair("report", "sealing / statistics and report", sealing, report, SEALING, " s"),
        TimedPair(
            "compilation", "compilation, cached / cold", chunk, chunk, COMPILATION, " s", "empty"
        ),
        TimedPair(
            "memory",
            "peak memory, 10 x as long / 1 x",
            long_run,
            short_run,
            MEMORY,
            " MB",
            "filled",
        ),
    ]
    rows = [row for row in rows if row.part in settings.parts]
    if not settings.smoke:
        return rows
    return [replace(row, ours=smoke_job(row.ours), other=smoke_job(row.other)) for row in rows]


def smoke_job(job: Job) -> Job:
    """Shrink a job for a smoke run: few steps, and few programs to compile."""
    heads = job.heads[:1] if job.kind == "ours" else ()
    updates = max(job.updates // 100, 1)
    sizes = {"num_envs": 4, "num_steps": 8, "updates": updates, "episodes": 4}
    return replace(job, seeds=min(job.seeds, 2), heads=heads, **sizes)


def measure(settings: Settings, workers: Workers, log: Callable[[str], None]) -> list[Result]:
    """Measure all rows, one after another."""
    rows, results = timed_pairs(settings), []
    repeats = 1 if settings.smoke else settings.repeats
    for i, row in enumerate(rows):
        label = f"{i + 1}/{len(rows)}  {row.title}"
        log(f"{label} ...")
        measure_pairs = in_new_processes if row.fresh else alternate
        try:
            if row.other.kind in PEERS and util.find_spec(row.other.kind) is None:
                raise WorkerFailed(INSTALL)
            results.append(Result(row, tuple(measure_pairs(row, repeats, workers))))
            log(f"{label}: {spread(ratios(results[-1]))}")
        except WorkerFailed as failure:
            results.append(Result(row, (), str(failure)))
            log(f"{label}: left out, {failure}")
        later = [pair for pair in rows[i + 1 :] if not pair.fresh]
        workers.release(keep={job for pair in later for job in (pair.ours, pair.other)})
    return results


def machine(workers: Workers) -> dict[str, str]:
    """Machine, devices and versions, including those of the peers."""
    facts = workers.measure_once(None)
    for module, name in PACKAGES.items():
        if util.find_spec(module) is not None:
            facts[name] = metadata.version(name)
    return facts


if __name__ == "__main__":
    run_main(main)
