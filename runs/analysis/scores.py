"""The score file: a tidy row an arm, seed and point; read, checked, and written for good."""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runs.engine.evaluate import SCORES
from runs.errors import UserError

COLUMNS = ("env", "arm", "seed", "shift", "family", "severity", "episodes", "score") + SCORES


def read_scores(path: Path) -> list[dict]:
    """The rows of a score file; a last line that a crash cut is left out.

    Raises:
        UserError: for a file that lacks columns, as one of an earlier version does.
    """
    numbers = ("severity", "score", *SCORES)
    return [row | {"episodes": int(row["episodes"])} for row in parse_rows(path, COLUMNS, numbers)]


def parse_rows(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> list[dict]:
    """The rows of a file with these columns, `seed` and `numbers` as such; half a line is left out.

    Raises:
        UserError: for a file that lacks columns, as one of an earlier version does.
    """
    lines = path.read_text().splitlines(keepends=True)
    table = csv.DictReader(line for line in lines if line.endswith("\n"))
    missing = [name for name in columns if name not in (table.fieldnames or columns)]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}: another version wrote it; choose another "
            "--out, or delete its folder"
        )
    return [
        row | {name: float(row[name]) for name in numbers} | {"seed": int(row["seed"])}
        for row in table
    ]


def check_complete(rows: list[dict], where: Path | str, finite: bool = False) -> list[dict]:
    """The same rows, if every seed of an arm has every point of the file exactly once.

    Args:
        rows: of a score file.
        where: it lies.
        finite: whether every score must be a number; else such seeds are left out later, and said.

    Raises:
        UserError: for a cell that is missing, there twice, or not a number.
    """
    remedy = "delete the file, then the command that made it scores again"
    count = Counter((r["arm"], r["seed"], r["shift"], r["severity"]) for r in rows)
    for (arm, seed, shift, severity), times in count.items():
        if times > 1:
            raise UserError(f"{where}: {arm}, seed {seed}, {shift} {severity} twice; {remedy}")
    points = dict.fromkeys((row["shift"], row["severity"]) for row in rows)
    for arm, seed in dict.fromkeys((row["arm"], row["seed"]) for row in rows):
        for point in points:
            if (arm, seed, *point) not in count:
                shift, severity = point
                raise UserError(f"{where}: {arm}, seed {seed} lacks {shift} {severity}; {remedy}")
    for row in rows if finite else ():
        if not np.isfinite(row["score"]):
            place = f"{row['arm']}, seed {row['seed']}, {row['shift']} {row['severity']}"
            raise UserError(f"{where}: {place} is not a number; leave that seed out of every arm")
    return rows


def rows_as_csv(
    rows: Sequence[dict], header: bool = False, columns: Sequence[str] = COLUMNS
) -> str:
    """Rows as text, by default score rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def append_text(path: Path, text: str) -> None:
    """Adds text for good: it is on the disk before the checkpoint that counts on it."""
    with path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, text: str) -> None:
    """Writes a file anew, all of it or nothing."""
    beside = path.with_suffix(".part")
    beside.unlink(missing_ok=True)
    append_text(beside, text)
    os.replace(beside, path)
