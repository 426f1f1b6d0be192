"""Number of shifts of each family in each suite, as a table: `python -m envs.coverage`."""

from collections.abc import Sequence
from typing import NamedTuple

from envs import SUITES, WORLDS, load_suite
from envs.shift import FAMILIES
from envs.suite import Suite


class Row(NamedTuple):
    """Row of the coverage table: the shifts and extras of one suite.

    Attributes:
        name: of the suite.
        shifts: their number, by family; a composition counts in the families of its parts.
        total: number of shifts.
        randomised: whether it has a training distribution.
        innate: whether it has a built-in head.
        info: names of what its worlds report in `info`.
    """

    name: str
    shifts: dict[str, int]
    total: int
    randomised: bool
    innate: bool
    info: tuple[str, ...]


def suite_coverage(suite: Suite) -> Row:
    """Counts the shifts of one suite by family."""
    families = [family for shift in suite.shifts for family in set(shift.family.split("|"))]
    return Row(
        suite.name,
        {family: families.count(family) for family in FAMILIES},
        len(suite.shifts),
        suite.randomised is not None,
        suite.innate is not None,
        suite.env.spec.info,
    )


def coverage_table(rows: Sequence[Row]) -> str:
    """Formats rows as a text table; the last line lists worlds without a suite."""
    head = ["suite", *FAMILIES, "shifts", "random", "innate", "info"]
    lines = [head] + [
        [
            row.name,
            *(str(row.shifts[family] or "-") for family in FAMILIES),
            str(row.total),
            *("yes" if flag else "-" for flag in (row.randomised, row.innate)),
            " ".join(row.info) or "-",
        ]
        for row in rows
    ]
    lines.append(["", *(str(sum(row.shifts[family] for row in rows)) for family in FAMILIES)])
    lines[-1] += [str(sum(row.total for row in rows)), "", "", ""]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join(_line(line, widths) for line in lines)
    missing = sorted({name.split("/")[1].split("-")[0] for name in WORLDS} - set(SUITES))
    return f"{text}\n\nworlds without a suite: {', '.join(missing)}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Formats a line of the table: first and last cell left-aligned, the others right-aligned."""
    first, *middle, last = cells
    aligned = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *aligned, last]).rstrip()


if __name__ == "__main__":
    print(coverage_table([suite_coverage(load_suite(name)) for name in SUITES]))
