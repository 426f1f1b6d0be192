"""Score rows, one per arm, seed and point: files of them, checks, and means by seed."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from runs.errors import UserError
from runs.names import SCORES

COLUMNS = ("env", "arm", "seed", "shift", "family", "severity", "episodes", "score") + SCORES


def read_scores(path: Path) -> list[dict]:
    """Rows of a score file; an incomplete last line is left out.

    Raises:
        UserError: if a column is missing, as in a file of an earlier version.
    """
    numbers = ("severity", "score", *SCORES)
    return parse_rows(path, COLUMNS, numbers, ("seed", "episodes"))


def parse_rows(
    path: Path, columns: Sequence[str], numbers: Sequence[str], whole: Sequence[str] = ("seed",)
) -> list[dict]:
    """Rows of a CSV file, `whole` as int and `numbers` as float; incomplete lines are left out.

    Raises:
        UserError: if a column is missing, as in a file of an earlier version, or a row is damaged.
    """
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    table = csv.DictReader(line for line in lines if line.endswith("\n"))
    try:
        missing = [name for name in columns if name not in (table.fieldnames or columns)]
        if missing:
            raise UserError(
                f"{path} has no column {', '.join(missing)}: another version wrote it; choose "
                "another --out, or delete its folder"
            )
        return [
            row
            | {name: float(row[name]) for name in numbers}
            | {name: int(row[name]) for name in whole}
            for row in table
        ]
    except (ValueError, TypeError, csv.Error) as error:  # a field that is no number, or missing
        cause = " ".join(str(error).split())[:80]
        raise UserError(
            f"{path}, line {table.line_num} is damaged ({cause}): restore it from a copy, or "
            "delete it and repeat the command that made it, which computes it again"
        ) from None


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


def finite_rows(rows: Sequence[dict]) -> list[dict]:
    """Score rows of the seeds with only finite scores."""
    invalid = {(row["arm"], row["seed"]) for row in rows if not np.isfinite(row["score"])}
    return [row for row in rows if (row["arm"], row["seed"]) not in invalid]


def score_name(rows: Sequence[dict]) -> str:
    """Name of the score: "success" if the environment defines it, else "return"."""
    return "success" if np.isfinite([row["success"] for row in rows]).all() else "return"


def seed_means(
    rows: Sequence[dict],
    arms: Iterable[str] | None = None,
    score: str = "score",
    home: bool = False,
    paired: bool = False,
) -> dict[str, np.ndarray]:
    """Per-seed means of a score over all shifted points, by arm: each [S], seeds ascending.

    Seeds with a score that is not finite, at any point, are left out.

    Args:
        rows: score rows; to average over some points, such as one family, pass only their rows.
        arms: names; by default all, in the order of the rows. An arm without rows has S = 0.
        score: column to average.
        home: average over the unshifted world instead.
        paired: leave out of all arms what is left out of one, so that seeds can be paired.
    """
    by_arm: dict[str, dict[int, list[float]]] = {
        arm: {} for arm in ([row["arm"] for row in rows] if arms is None else arms)
    }
    for row in finite_rows(rows):
        if row["arm"] in by_arm and (row["shift"] == "none") == home:
            by_arm[row["arm"]].setdefault(row["seed"], []).append(row[score])
    means = {
        arm: {seed: np.mean(values) for seed, values in sorted(seeds.items())}
        for arm, seeds in by_arm.items()
    }
    kept = [{seed for seed, x in seeds.items() if np.isfinite(x)} for seeds in means.values()]
    if paired:
        kept = [set.intersection(*kept)] * len(kept)
    return {
        arm: np.array([x for seed, x in seeds.items() if seed in kept_seeds])
        for (arm, seeds), kept_seeds in zip(means.items(), kept, strict=True)
    }


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
