"""Benchmark statistics and table: medians, ratios pair by pair, and their spread."""

import csv
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from runs.bench.paired_timing import Result

UNITS: dict[str, tuple[Callable[[dict], float], str]] = {  # unit -> (reading, format)
    "/s": (lambda sample: sample["steps"] / sample["seconds"], ",.0f"),
    " us/step": (lambda sample: 1e6 * sample["seconds"] / sample["steps"], ".2f"),
    " s": (lambda sample: sample["seconds"], ".2f"),
    " MB": (lambda sample: sample["megabytes"], ",.0f"),
}


class Spread(NamedTuple):
    """Median, minimum and maximum of repeats."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def spread(values: Sequence[float]) -> Spread:
    """Median, minimum and maximum of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def values(result: Result) -> list[tuple[float, float]]:
    """Values (ours, other) of each repeat, in the unit of the row."""
    read, _ = UNITS[result.row.unit]
    return [(read(ours), read(other)) for ours, other in result.pairs]


def ratios(result: Result) -> list[float]:
    """Ratios ours / other, pair by pair, so that a slowdown of both jobs cancels."""
    return [ours / other for ours, other in values(result)]


def meets_goal(result: Result) -> bool | None:
    """Whether the median meets the goal; None without a goal or measurements."""
    goal = result.row.goal
    if goal is None or not result.pairs:
        return None
    measured = ratios(result) if goal.of == "ratio" else [ours for ours, _ in values(result)]
    median = statistics.median(measured)
    return median >= goal.bound if goal.least else median < goal.bound


HEADINGS = ("ours / other", "ours", "other", "ratio [min, max]", "goal", "reached")


def table_row(result: Result) -> list[str]:
    """Cells of one row of the table, in the order of HEADINGS."""
    row = result.row
    goal = row.goal.text if row.goal else "-"
    if not result.pairs:
        return [row.title, "-", "-", "left out", goal, "-"]
    sides = [statistics.median(side) for side in zip(*values(result), strict=True)]
    number_format = UNITS[row.unit][1]
    verdict = {None: "-", True: "yes", False: "no"}[meets_goal(result)]
    medians = [f"{side:{number_format}}{row.unit}" for side in sides]
    return [row.title, *medians, f"{spread(ratios(result))}", goal, verdict]


def remarks(results: list[Result]) -> list[str]:
    """Notes below the table: rows left out, share of steps within episodes, speed of products."""
    lines = [
        f"left out: {result.row.title}: {result.reason}" for result in results if result.reason
    ]
    for result in results:
        samples = [sample for pair in result.pairs for sample in pair]
        live = [sample["lived"] for sample in samples if "lived" in sample]
        speed = [s["flops"] / s["seconds"] / 1e9 for s in samples if "flops" in s]
        if live:
            lines.append(
                f"{result.row.title}: steps up to the horizon; {100 * statistics.median(live):.0f}"
                " % of them came before the end of their episode"
            )
        if speed:
            lines.append(f"bare products: {spread(speed):.1f} Gflop/s")
    return lines


def print_table(results: list[Result], facts: dict[str, str]) -> None:
    """Print the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right")
    for result in results:
        table.add_row(*table_row(result))
    Console(width=132).print(table)
    for line in remarks(results) + [machine_line(facts)]:
        print(line)


def machine_line(facts: dict[str, str]) -> str:
    """Facts about the machine, joined into one line."""
    return "; ".join(f"{key} {value}" for key, value in facts.items())


def record_table(
    results: list[Result],
    facts: dict[str, str],
    command: str,
    folder: Path,
    name: str = "benchmark",
) -> None:
    """Write the table, and every pair, to `folder`/`name`.md and .csv."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [HEADINGS, ["---"] + ["---:"] * (len(HEADINGS) - 1), *map(table_row, results)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = "".join(f"- {line}\n" for line in remarks(results))
    (folder / f"{name}.md").write_text(
        f"# Benchmark\n\n{table}\n\n"
        "PPO on CartPole (500 steps), two networks of 64-64 tanh, 4 epochs of 4 minibatches. Both "
        "sides take turns in processes of their own; medians of each side, and of the ratio taken "
        "pair by pair, with its extremes. Compilation and a warm-up come before. `/s` are "
        "environment steps a second, over all seeds. Rejax trains as many seeds as we do, without "
        "its evaluations; SBX and Stable-Baselines3 (SB3) train one seed in one process, the "
        "latter with one thread or torch's choice, whichever is faster. A part alone does its work "
        "and nothing else, so that the ratio is its share of the time; `updates` include "
        "`advantages`.\n\n"
        f"{notes}\n`{command}`\n\n{machine_line(facts)}\n"
    )
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("part", "row", "unit", "repeat", "ours", "other", "ratio"))
        for result in results:
            row = result.row
            for i, (ours, other) in enumerate(values(result)):
                unit = row.unit.strip()
                writer.writerow((row.part, row.title, unit, i, ours, other, ours / other))
