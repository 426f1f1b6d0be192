"""Reproduction: do heads, worlds and learners match theory, published numbers and human data?

Runs the modules of runs/theory and prints one table: each target, the expected value, ours, and
whether they agree. Exits with code 1 unless all of them do.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import chain

from runs.cli.settings import StudySettings, check, run_main
from runs.cli.study import Job, run_study
from runs.errors import Interrupted
from runs.report.page import Page, markdown_table, page_text
from runs.theory import Target

COMMAND = "python -m runs.targets"
PACKAGE = "runs.theory"
MODULES = {
    "shaping": ("T1", "T2", "T3", "T4"),
    "control": ("T14",),
    "hungry_thirsty": ("T5",),
    "food_share": ("T7",),
    "gamble": ("T8", "T9", "T10"),
    "deep_sea": ("T11",),
    "corridor": ("T13",),
    "mood": ("T15",),
}
"""Name of a module of runs/theory -> the numbers of its targets."""
HEADINGS = ("target", "what", "expected", "ours", "pass", "seconds")


def number_of(name: str) -> int:
    """Number of a target, such as 5 for T5."""
    return int(name[1:])


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the table of targets.

    Attributes:
        only: numbers of the targets to check, such as T5; all by default.
    """

    narrowed_by = ("only",)
    known = {"only": ("target", sorted(chain(*MODULES.values()), key=number_of))}
    only: tuple[str, ...] = ()


def study(job: Job) -> Page:
    """Check the chosen targets, and report each as soon as it is known."""
    only, smoke = job.settings.only, job.settings.smoke
    chosen = {
        name: [number for number in numbers if number in (only or numbers)]
        for name, numbers in MODULES.items()
    }
    chosen = {name: numbers for name, numbers in chosen.items() if numbers}
    job.progress.total = len(chosen)
    rows, start = [], time.perf_counter()
    last = start
    for done, (name, numbers) in enumerate(chosen.items()):
        job.progress.advance(", ".join(numbers), done)
        for target in module_targets(name, numbers, smoke):
            took, last = time.perf_counter() - last, time.perf_counter()
            rows.append((target, took))
            job.progress.say(f"{target.number} {target.what}: {yes_or_no(target)} ({took:.1f} s)")
            if job.stopped():
                raise Interrupted
    return page(rows, time.perf_counter() - start, job.command)


def module_targets(name: str, numbers: list[str], smoke: bool) -> Iterator[Target]:
    """Yield the targets of a module that have one of these numbers.

    If the module fails, or lacks one of them, a target that has not passed holds the reason.
    """
    missing, reason = list(numbers), "yields no such target"
    try:
        for target in import_module(f"{PACKAGE}.{name}").targets(smoke):
            if target.number in numbers:
                missing = [number for number in missing if number != target.number]
                yield target
    except Exception as error:
        reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        missing = missing or numbers[-1:]
    for number in missing:
        yield Target(number, f"runs/theory/{name}.py", "-", reason, False)


def page(rows: list[tuple[Target, float]], seconds: float, command: str) -> Page:
    """Page with the table of (target, its seconds), in the order of their numbers."""
    rows = sorted(rows, key=lambda row: number_of(row[0].number))
    passed = [target.passed for target, _ in rows]
    table = [[*target[:-1], yes_or_no(target), f"{took:.1f}"] for target, took in rows]
    total = f"{sum(passed)} of {len(rows)} rows as they should be, {seconds:.0f} s in all."
    text = page_text("Targets", [total, markdown_table(HEADINGS, table)], command)
    return Page("targets", text, code=int(not all(passed)))


def yes_or_no(target: Target) -> str:
    """Cell of the column `pass`."""
    return "yes" if target.passed else "NO"


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
