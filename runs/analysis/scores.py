"""Score files, with a row per arm, seed and point: reading, checking and durable writing."""

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
    """Rows of a score file; an incomplete last line is left out.

    Raises:
        UserError: if a column is missing, as in a file of an earlier version.
    """
    numbers = ("severity", "score", *SCORES)
    return [row | {"episodes": int(row["episodes"])} for row in parse_rows(path, COLUMNS, numbers)]


def parse_rows(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> list[dict]:
    """Rows of a CSV file, `seed` as int and `numbers` as float; incomplete lines are left out.

    Raises:
        UserError: if a column is missing, as in a file of an earlier version.
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
    """Checks that every seed of an arm has every point exactly once; returns `rows` unchanged.

    Args:
        rows: rows of a score file.
        where: path of the file, for messages.
        finite: whether every score must be finite; otherwise reports leave such seeds out.

    Raises:
        UserError: for a cell that is missing, occurs twice, or is not a number.
    """
    remedy = "delete the file and rerun the command that made it, which scores again"
    count = Counter((r["arm"], r["seed"], r["shift"], r["severity"]) for r in rows)
    for (arm, seed, shift, severity), times in count.items():
        if times > 1:
            raise UserError(
                f"{where}: {arm}, seed {seed}, {shift} {severity} occurs twice; {remedy}"
            )
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
    """Formats rows as CSV text, by default score rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def append_text(path: Path, text: str) -> None:
    """Appends text to a file and syncs it to disk, before the checkpoint that relies on it."""
    with path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, text: str) -> None:
    """Replaces a file atomically by one with this text."""
    partial = path.with_suffix(".part")
    partial.unlink(missing_ok=True)
    append_text(partial, text)
    os.replace(partial, path)
