"""Statistics and table of the benchmark: medians, ratios pair by pair, and their spread."""

import statistics
from collections.abc import Callable, Sequence

from runs.bench.timing import TimedResult

UNITS: dict[str, tuple[Callable[[dict], float], str]] = {  # unit -> (reading, format)
    "/s": (lambda sample: sample["steps"] / sample["seconds"], ",.0f"),
    " us/step": (lambda sample: 1e6 * sample["seconds"] / sample["steps"], ".2f"),
    " ms/step": (lambda sample: 1e3 * sample["seconds"] / sample["steps"], ".3f"),
    " s": (lambda sample: sample["seconds"], ".2f"),
    " MB": (lambda sample: sample["megabytes"], ",.0f"),
}
HEADINGS = ("ours / other", "ours", "other", "ratio [min, max]", "goal", "reached")
LEGEND = """\
PPO on CartPole (500 steps) where a row names no other world, two networks of 64-64 tanh, 4 epochs
of 4 minibatches. Both sides take turns in processes of their own; medians of each side, and of the
ratio taken pair by pair, with its extremes. Compilation and a warm-up come before. `/s` are
environment steps a second, over all seeds. Rejax trains as many seeds as we do, without its
evaluations; SBX and Stable-Baselines3 (SB3) train one seed in one process, the latter with one
thread or torch's choice, whichever is faster; two SB3 are two such processes at once, one thread
each. A part alone does its work and nothing else, so that the ratio is its share of the time;
`updates` and learning include advantages. A difference is ours less the other, in the unit of the
row."""


def values(result: TimedResult) -> list[tuple[float, float]]:
    """Values (ours, other) of each repeat, in the unit of the row."""
    read, _ = UNITS[result.row.unit]
    return [(read(ours), read(other)) for ours, other in result.pairs]


def ratios(result: TimedResult) -> list[float]:
    """Ratios ours / other, pair by pair, so that a slowdown of both sides cancels."""
    return [ours / other for ours, other in values(result)]


def spread(numbers: Sequence[float]) -> str:
    """Median, minimum and maximum of at least one number, as text."""
    return f"{statistics.median(numbers):.2f} [{min(numbers):.2f}, {max(numbers):.2f}]"


def meets_goal(result: TimedResult) -> bool | None:
    """Whether the median meets the goal; None without a goal or measurements."""
    if not result.row.goal or not result.pairs:
        return None
    side, sign, bound = result.row.goal.split()
    measured = {
        "ratio": ratios(result),
        "ours": [ours for ours, _ in values(result)],
        "difference": [ours - other for ours, other in values(result)],
    }[side]
    median = statistics.median(measured)
    return median >= float(bound) if sign == ">=" else median < float(bound)


def table_row(result: TimedResult) -> list[str]:
    """Cells of one row of the table, in the order of HEADINGS."""
    row = result.row
    goal = row.goal or "-"
    if not result.pairs:
        return [row.title, "-", "-", "left out", goal, "-"]
    sides = [statistics.median(side) for side in zip(*values(result), strict=True)]
    number_format = UNITS[row.unit][1]
    medians = [f"{side:{number_format}}{row.unit}" for side in sides]
    reached = {None: "-", True: "yes", False: "no"}[meets_goal(result)]
    return [row.title, *medians, spread(ratios(result)), goal, reached]


def remarks(results: list[TimedResult]) -> list[str]:
    """Notes below the table: rows left out, steps within episodes, and how busy processors were."""
    lines = [f"left out: {row.title}: {reason}" for row, _, reason in results if reason]
    for row, pairs, _ in results:
        live = [side["live_share"] for pair in pairs for side in pair if "live_share" in side]
        if live:
            lines.append(
                f"{row.title}: steps up to the horizon; {100 * statistics.median(live):.0f}"
                " % of them came before the end of their episode"
            )
        busy = [[side.get("busy") for side in sides] for sides in zip(*pairs, strict=True)]
        if row.part == "hosts" and busy and not any(None in side for side in busy):
            ours, other = (f"{100 * statistics.median(side):.0f} %" for side in busy)
            lines.append(f"{row.title}: the processors computed for {ours} and {other} of the time")
    return lines


def pairs_csv(results: list[TimedResult]) -> str:
    """Every measured pair as CSV text."""
    import pandas as pd

    columns = ("part", "row", "unit", "repeat", "ours", "other", "ratio")
    table = [
        (result.row.part, result.row.title, result.row.unit.strip(), i, ours, other, ours / other)
        for result in results
        for i, (ours, other) in enumerate(values(result))
    ]
    return pd.DataFrame(table, columns=columns).to_csv(index=False)
