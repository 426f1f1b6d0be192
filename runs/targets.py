"""Reproduction: do heads, worlds and learners match theory, published numbers and human data?

Runs every module of runs/theory and prints one table: each target, the expected value, ours, and
whether they agree. Exits with code 1 unless all of them do.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import NamedTuple

from runs.cli.settings import check_recordable, parse_settings, run_main, shell_command
from runs.names import checked_choice
from runs.theory.target import Target

COMMAND = "python -m runs.targets"
PACKAGE = "runs.theory"
RESULTS = Path("runs/results")
MODULES = {
    "shaping": ("T1", "T3", "T4", "T14"),
    "qlearning": ("T2",),
    "hungry_thirsty": ("T5",),
    "food_share": ("T7",),
    "gamble": ("T8", "T9", "T10"),
    "deep_sea": ("T11",),
    "corridor": ("T13",),
    "mood": ("T15",),
}
"""Name of a module of runs/theory -> the numbers of its targets."""


@dataclass(frozen=True)
class Settings:
    """Settings of the table of targets.

    Attributes:
        only: numbers of the targets to check, such as T5; all by default.
        smoke: a run of under a minute with fewer seeds; targets that need more are left out.
        record: also write the table to runs/results/targets.md.
    """

    only: tuple[str, ...] = ()
    smoke: bool = False
    record: bool = False


class Row(NamedTuple):
    """A target and its computing time."""

    target: Target
    seconds: float


def main(argv: list[str]) -> int:
    """Check all targets -> exit code, 1 unless all pass."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.engine import devices

    devices.prepare_devices()
    start, rows = time.perf_counter(), []
    try:
        for row in run(settings, print_progress):
            print_progress(
                f"    {row.target.number} {row.target.what}: {yes_or_no(row)} ({row.seconds:.1f} s)"
            )
            rows.append(row)
    except KeyboardInterrupt:
        print_progress("stopped; nothing was written")
        return 130
    seconds = time.perf_counter() - start
    rows.sort(key=lambda row: int(row.target.number[1:]))
    print_table(rows, seconds)
    if settings.record:
        command = shell_command(COMMAND, argv)
        record_table(rows, seconds, devices.describe_machine(), command, RESULTS)
    return int(not all(row.target.passed for row in rows))


def check(settings: Settings) -> None:
    """Reject invalid settings.

    Raises:
        UserError: for an unknown target, or recording a partial or smoke run.
    """
    numbers = sorted(
        (n for module_numbers in MODULES.values() for n in module_numbers), key=lambda n: int(n[1:])
    )
    for number in settings.only:
        checked_choice("target", number, numbers)
    check_recordable(settings, "only")


def run(
    settings: Settings, log: Callable[[str], None], modules: dict | None = None
) -> Iterator[Row]:
    """Yield the rows of all modules (MODULES if None) as they are computed.

    A module that is missing, fails, or, unless in smoke, lacks one of its targets gives a row with
    the reason, which has not passed.
    """
    modules = MODULES if modules is None else modules
    selected = {
        name: [number for number in numbers if number in (settings.only or numbers)]
        for name, numbers in modules.items()
    }
    selected = {name: numbers for name, numbers in selected.items() if numbers}
    for i, (name, numbers) in enumerate(selected.items()):
        log(f"{i + 1}/{len(selected)}  {name}: {', '.join(numbers)} ...")
        missing = set(numbers)
        for row in _timed(_targets(name, numbers, settings.smoke)):
            if row.target.number in numbers:
                missing.discard(row.target.number)
                yield row
        if not settings.smoke:
            for number in sorted(missing):
                yield Row(_failed_target(number, name, "yields no such target"), 0.0)


def _targets(name: str, numbers: list[str], smoke: bool) -> Iterator[Target]:
    """Yield the targets of a module; if it is missing or fails, failed rows for the rest."""
    if util.find_spec(f"{PACKAGE}.{name}") is None:
        yield from (_failed_target(number, name, "is missing") for number in numbers)
        return
    missing = list(numbers)
    try:
        for target in import_module(f"{PACKAGE}.{name}").targets(smoke):
            missing = [number for number in missing if number != target.number]
            yield target
    except Exception as error:
        reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        for number in missing or numbers[-1:]:
            yield _failed_target(number, name, reason)


def _timed(targets: Iterable[Target]) -> Iterator[Row]:
    start = time.perf_counter()
    for target in targets:
        yield Row(target, time.perf_counter() - start)
        start = time.perf_counter()


def _failed_target(number: str, name: str, reason: str) -> Target:
    return Target(number, f"runs/theory/{name}.py", "-", reason, False)


# --- the table ----------------------------------------------------------------------------------

HEADINGS = ("target", "what", "expected", "ours", "pass", "seconds")


def yes_or_no(row: Row) -> str:
    """Text of the column `pass`: yes or NO."""
    return "yes" if row.target.passed else "NO"


def table_row(row: Row) -> list[str]:
    """Cells of one row of the table, in the order of HEADINGS."""
    target = row.target
    texts = [target.number, target.what, target.expected, target.ours]
    return [*texts, yes_or_no(row), f"{row.seconds:.1f}"]


def totals_line(rows: list[Row], seconds: float) -> str:
    """Number of rows that passed, and total time, in one line."""
    passed = sum(row.target.passed for row in rows)
    return f"{passed} of {len(rows)} rows as they should be, {seconds:.0f} s in all"


def print_table(rows: list[Row], seconds: float) -> None:
    """Print the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for row in rows:
        style = "" if row.target.passed else "bold red"
        table.add_row(*table_row(row), style=style)
    console = Console(width=None if sys.stdout.isatty() else 132, markup=False)
    console.print(table)
    print(totals_line(rows, seconds))


def record_table(
    rows: list[Row], seconds: float, facts: dict[str, str], command: str, folder: Path
) -> None:
    """Write the table to `folder`/targets.md, with the command and the machine."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [HEADINGS, ["---"] * len(HEADINGS), *map(table_row, rows)]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    table = "\n".join("| " + " | ".join(line) + " |" for line in escaped)
    machine = "; ".join(f"{key} {value}" for key, value in facts.items())
    (folder / "targets.md").write_text(
        f"# Targets\n\n{table}\n\n{totals_line(rows, seconds)}.\n\n`{command}`\n\n{machine}\n"
    )


def print_progress(line: str) -> None:
    """Print a progress line to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_main(main)
