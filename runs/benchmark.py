"""How fast is it, against others and against its own machine? Ratios with their spread.

Every row compares two things that take turns in one run, each in a process of its own, after a
warm-up that also compiles; its ratio is taken pair by pair. The peers (rejax, SBX,
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
from runs.cli.settings import (
    check_recordable,
    checked_choice,
    parse_settings,
    run_main,
    shell_command,
)
from runs.errors import UserError

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
            (where the time goes), heads, evaluation, worlds (Drive), compilation, memory, readouts
            (what feelings know, asked beside the score), report (and the seal on it).
        repeats: turns that each side of a row takes.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of seconds that touches everything and means nothing.
        record: also write the table and every turn to runs/results/, in files of the parts' own.
    """

    parts: tuple[str, ...] = PARTS
    repeats: int = 5
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Parses, then measures; the exit code: 1 if a row failed that should not have."""
    settings = parse_settings(Settings, argv, __doc__ or "")
    check(settings)
    command, load = shell_command("python -m runs.benchmark", argv), os.getloadavg()[0]
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
    print_table(results, facts)
    if settings.record:
        whole = set(settings.parts) == set(PARTS)
        name = "benchmark" if whole else f"benchmark-{'-'.join(settings.parts)}"
        record_table(results, facts, command, RESULTS, name)
    return int(any(result.reason not in ("", INSTALL) for result in results))


def check(settings: Settings) -> None:
    """Refuses what makes no sense.

    Raises:
        UserError: for an unknown part, no repeats, or a smoke run that is to be recorded.
    """
    if not settings.parts:
        raise UserError(f"--parts: name at least one of {', '.join(PARTS)}")
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


SHARES = {"living": "acting", "judging": "judging", "learning": "learning"}
"""Kinds of `runs.bench.components` -> what they are; learning begins with judging."""


def timed_pairs(settings: Settings) -> list[TimedPair]:
    """The rows asked for; those that share a process stand together."""
    four, eight = Job("ours", seeds=4, updates=16), Job("ours", seeds=8, updates=8)
    narrow = Job("ours", seeds=20, num_envs=4, updates=40)  # the sizes of the main job
    scoring = Job("evaluation", seeds=20, num_envs=4, updates=0)
    chunk = Job("compilation", seeds=20, num_envs=4, updates=0, heads=("fear",))
    road = Job("wandering", seeds=2, num_envs=512, updates=8, world="Drive")
    road_score = replace(scoring, num_envs=32, world="Drive", heads=("lesion",))
    said, sealed = (Job(kind, seeds=20, updates=0) for kind in ("report", "sealing"))
    short = Job("memory", seeds=2, num_envs=4, updates=100, heads=("fear",))
    long = replace(short, updates=10 * short.updates)

    def one(kind: str, ours: Job) -> Job:
        return replace(ours, kind=kind, seeds=1, updates=128 // ours.num_envs)

    def feeling(ours: Job, heads: tuple[str, ...] = ("fear", "hope", "curiosity")) -> Job:
        return replace(ours, heads=heads)

    sb3 = "stable_baselines3"
    rows = [
        TimedPair(
            "training", "8 seeds, 64 envs / rejax", eight, replace(eight, kind="rejax"), REJAX
        ),
        TimedPair("training", "4 seeds, 64 envs / rejax", four, replace(four, kind="rejax"), REJAX),
        TimedPair("training", "4 seeds, 64 envs / SBX", four, one("sbx", four), BASELINES),
        TimedPair("training", "4 seeds, 64 envs / SB3", four, one(sb3, four), BASELINES),
        TimedPair(
            "ceiling", "4 seeds, 64 envs / bare products", four, replace(four, kind="ceiling")
        ),
        *(
            TimedPair("shares", f"4 seeds, 64 envs / {what} alone", four, replace(four, kind=kind))
            for kind, what in SHARES.items()
        ),
        TimedPair("heads", "64 envs, three heads / none", feeling(four), four, HEADS, " us/step"),
        TimedPair(
            *("heads", f"64 envs, all {len(ALL)} heads / none", feeling(four, ALL), four),
            *(EVERY_HEAD, " us/step"),
        ),
        TimedPair("training", "20 seeds, 4 envs / SBX", narrow, one("sbx", narrow), BASELINES),
        TimedPair("training", "20 seeds, 4 envs / SB3", narrow, one(sb3, narrow), BASELINES),
        TimedPair(
            "heads", "4 envs, three heads / none", feeling(narrow), narrow, HEADS, " us/step"
        ),
        TimedPair("evaluation", "4 envs, evaluation / training", scoring, narrow, EVALUATION),
        TimedPair(
            "worlds",
            "Drive / CartPole, random policy",
            road,
            replace(road, world="CartPole"),
            DRIVE,
        ),
        TimedPair(
            *("worlds", "Drive / CartPole, evaluation"),
            *(replace(scoring, num_envs=32, world="Drive"), scoring, SCORING, " s"),
        ),
        TimedPair(
            *("readouts", "Drive, with readouts / evaluation"),
            *(replace(road_score, kind="readouts"), road_score, READOUTS, " s"),
        ),
        TimedPair("report", "statistics and report / sealing", said, sealed, REPORT, " s"),
        TimedPair("report", "sealing / statistics and report", sealed, said, SEALING, " s"),
        TimedPair(
            "compilation", "compilation, cached / cold", chunk, chunk, COMPILATION, " s", "empty"
        ),
        TimedPair(
            "memory", "peak memory, 10 x as long / 1 x", long, short, MEMORY, " MB", "filled"
        ),
    ]
    rows = [row for row in rows if row.part in settings.parts]
    if not settings.smoke:
        return rows
    return [replace(row, ours=smoke_job(row.ours), other=smoke_job(row.other)) for row in rows]


def smoke_job(job: Job) -> Job:
    """The same job for a smoke run: little to do, and few programs to compile."""
    heads = job.heads[:1] if job.kind == "ours" else ()
    updates = max(job.updates // 100, 1)
    sizes = {"num_envs": 4, "num_steps": 8, "updates": updates, "episodes": 4}
    return replace(job, seeds=min(job.seeds, 2), heads=heads, **sizes)


def measure(settings: Settings, workers: Workers, say: Callable[[str], None]) -> list[Result]:
    """Fights all duels, one at a time."""
    rows, results = timed_pairs(settings), []
    repeats = 1 if settings.smoke else settings.repeats
    for i, duel in enumerate(rows):
        label = f"{i + 1}/{len(rows)}  {duel.what}"
        say(f"{label} ...")
        fight = in_new_processes if duel.fresh else alternate
        try:
            if duel.other.kind in PEERS and util.find_spec(duel.other.kind) is None:
                raise WorkerFailed(INSTALL)
            results.append(Result(duel, tuple(fight(duel, repeats, workers))))
            say(f"{label}: {spread(ratios(results[-1]))}")
        except WorkerFailed as failure:
            results.append(Result(duel, (), str(failure)))
            say(f"{label}: left out, {failure}")
        later = [row for row in rows[i + 1 :] if not row.fresh]
        workers.release(but={job for row in later for job in (row.ours, row.other)})
    return results


def machine(workers: Workers) -> dict[str, str]:
    """What the figures depend on: machine, devices, versions, those of the peers too."""
    facts = workers.once(None)
    for module, name in PACKAGES.items():
        if util.find_spec(module) is not None:
            facts[name] = metadata.version(name)
    return facts


if __name__ == "__main__":
    run_main(main)
