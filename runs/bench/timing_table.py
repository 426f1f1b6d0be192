"""The figures of the benchmark: medians, ratios pair by pair, their spread, and the table."""

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


def meets_goal(result: Result) -> bool | None:
    """Whether the median reached the goal; None where there is none to reach."""
    goal = result.duel.goal
    if goal is None or not result.pairs:
        return None
    found = ratios(result) if goal.of == "ratio" else [ours for ours, _ in values(result)]
    median = statistics.median(found)
    return median >= goal.bound if goal.least else median < goal.bound


HEADINGS = ("ours / other", "ours", "other", "ratio [min, max]", "goal", "reached")


def table_row(result: Result) -> list[str]:
    """One row of the table."""
    duel = result.duel
    goal = duel.goal.text if duel.goal else "-"
    if not result.pairs:
        return [duel.what, "-", "-", "left out", goal, "-"]
    sides = [statistics.median(side) for side in zip(*values(result), strict=True)]
    form = UNITS[duel.unit][1]
    verdict = {None: "-", True: "yes", False: "no"}[meets_goal(result)]
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
                f"{result.duel.what}: steps up to the horizon; {100 * statistics.median(lived):.0f}"
                " % of them came before the end of their episode"
            )
        if speed:
            lines.append(f"bare products: {spread(speed):.1f} Gflop/s")
    return lines


def print_table(results: list[Result], facts: dict[str, str]) -> None:
    """Prints the table to the terminal."""
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
    """The machine in one line."""
    return "; ".join(f"{key} {value}" for key, value in facts.items())


def record_table(
    results: list[Result],
    facts: dict[str, str],
    command: str,
    folder: Path,
    name: str = "benchmark",
) -> None:
    """Writes the table, and every pair, to `folder`/`name`.md and .csv."""
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
        "and nothing else, so that the ratio is its share of the time; `learning` begins with "
        "`judging`.\n\n"
        f"{notes}\n`{command}`\n\n{machine_line(facts)}\n"
    )
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("part", "row", "unit", "repeat", "ours", "other", "ratio"))
        for result in results:
            duel = result.duel
            for i, (ours, other) in enumerate(values(result)):
                unit = duel.unit.strip()
                writer.writerow((duel.part, duel.what, unit, i, ours, other, ours / other))
