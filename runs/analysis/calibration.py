"""Calibration of a suite, from `runs.calibrate`: random and specialist scores in each shift.

Scores of different shifts are comparable only after normalisation between the two: 0 is a random
policy, 1 the best known score in the shift.
"""

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from runs.analysis.scores import rows_as_csv
from runs.errors import UserError
from runs.names import RESULTS, safe_name

COST, SOLVED, ROOM = 0.1, 0.5, 0.1
"""Shares of success: the least that a nominal agent must lose at some severity, that a specialist
must reach at the highest one, and by which it must exceed chance for scores to be normalised.
"""


class Level(NamedTuple):
    """Row of a calibration: a shift at a severity, means with t intervals over seeds.

    Severity 0 of a shift is in distribution, scored for its specialist too; the shift `none` has
    only that severity, and the nominal agent as its specialist.
    """

    env: str
    shift: str
    family: str
    severity: float
    random: float
    random_low: float
    random_high: float
    nominal: float
    nominal_low: float
    nominal_high: float
    specialist: float
    specialist_low: float
    specialist_high: float
    seeds: int

    @property
    def ceiling(self) -> float:
        """Higher of the nominal and the specialist score: the best known score at this level."""
        return max(self.nominal, self.specialist)


def calibration_path(env: str, folder: Path = RESULTS) -> Path:
    """Path of the file in which the calibration of a suite is recorded."""
    return folder / f"calibrate-{safe_name(env)}.csv"


def calibration_csv(levels: Iterable[Level]) -> str:
    """A calibration as CSV text; four digits are enough for a few thousand episodes."""
    rows = [
        {name: f"{x:.4g}" if isinstance(x, float) else x for name, x in level._asdict().items()}
        for level in levels
    ]
    return rows_as_csv(rows, header=True, columns=Level._fields)


def read_calibration(file: Path) -> list[Level]:
    """Reads a calibration from CSV.

    Raises:
        FileNotFoundError: the file is missing.
        UserError: the file is not a calibration.
    """
    rows = csv.DictReader(file.read_text().splitlines())
    types = Level.__annotations__
    try:
        return [Level(**{name: types[name](row[name]) for name in types}) for row in rows]
    except (KeyError, TypeError, ValueError):
        remedy = "delete it, then python -m runs.calibrate --record"
        raise UserError(f"{file} is not a calibration: {remedy}") from None


def reference_scores(
    env: str, folder: Path = RESULTS
) -> dict[tuple[str, float], tuple[float, float]] | None:
    """Reference scores (shift, severity) -> (random, best) of a suite; None if not calibrated.

    The best score is `Level.ceiling`. Points where the two differ by less than `ROOM` are left
    out: to divide by so small a difference would amplify noise.

    Raises:
        UserError: the file is not a calibration.
    """
    try:
        levels = read_calibration(calibration_path(env, folder))
    except FileNotFoundError:
        return None
    return {
        (level.shift, level.severity): (level.random, level.ceiling)
        for level in levels
        if level.ceiling - level.random >= ROOM
    }


def normalise(score: float, random: float, specialist: float) -> float:
    """Score mapped linearly so that `random` becomes 0 and `specialist` becomes 1."""
    return (score - random) / (specialist - random)


def normalised_rows(rows: Sequence[dict], env: str, folder: Path = RESULTS) -> list[dict] | None:
    """Score rows with `score` normalised, or None if that is not possible for all of them.

    Args:
        rows: with `shift`, `severity` and `score`, as a comparison writes them.
        env: name of the suite.
        folder: folder of the calibrations.

    Returns:
        New rows; None if the suite, or a point among the rows, was not calibrated.
    """
    references = reference_scores(env, folder)
    points = {(row["shift"], float(row["severity"])) for row in rows}
    if references is None or not points <= references.keys():
        return None
    return [
        row | {"score": normalise(row["score"], *references[row["shift"], float(row["severity"])])}
        for row in rows
    ]


def calibration_flags(levels: Sequence[Level]) -> list[str]:
    """Defects of a shift from its levels by severity, in distribution first; empty if it is valid.

    * does nothing: the nominal agent loses less than `COST` at every severity.
    * cannot be solved: at the highest severity neither specialist nor nominal agent reaches
      `SOLVED`.
    * chance will do: at some severity a random policy is within `ROOM` of the better of the two,
      so that scores cannot be normalised there.
    * not harder with severity: the nominal agent scores higher at a higher severity than at a
      lower one, and the intervals do not overlap.
    """
    home, *shifted = levels
    flags = []
    if all(home.nominal - level.nominal < COST for level in shifted):
        flags.append("does nothing")
    if shifted[-1].ceiling < SOLVED:
        flags.append("cannot be solved")
    if any(level.ceiling - level.random < ROOM for level in shifted):
        flags.append("chance will do")
    if any(b.nominal_low > a.nominal_high for a, b in itertools.combinations(levels, 2)):
        flags.append("not harder with severity")
    return flags


def levels_by_shift(levels: Iterable[Level]) -> dict[str, list[Level]]:
    """Shift -> its levels by severity, in distribution first; without the shift `none`."""
    by_shift: dict[str, list[Level]] = {}
    for level in levels:
        if level.shift != "none":
            by_shift.setdefault(level.shift, []).append(level)
    for levels_of_shift in by_shift.values():
        levels_of_shift.sort(key=lambda level: level.severity)
    return by_shift
