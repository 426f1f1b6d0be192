"""How hard a shift is: what chance and what a specialist reach in it, as `runs.calibrate` found.

Scores of different shifts mean different things until they are put between the two: 0 is a random
policy, 1 the best that is known to be possible there. Imports nothing heavy.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from runs.errors import UserError

RESULTS = Path("runs/results")
COST, SOLVED, ROOM = 0.1, 0.5, 0.1
"""What a shift must cost a nominal agent somewhere, what a specialist must reach at its end, and
what must lie between chance and specialist for a score to be put between them: shares of success.
"""


class Level(NamedTuple):
    """A row of the calibration: a shift at a severity, means with t intervals over seeds.

    Severity 0 of a shift is home, where its specialist too is scored; the shift `none` is home
    alone, where the nominal agent is the specialist.
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
        """The better of nominal and specialist: each can do what the better one does."""
        return max(self.nominal, self.specialist)


WORDS = ("env", "shift", "family")


def calibration_path(env: str, folder: Path = RESULTS) -> Path:
    """Where the calibration of a suite is recorded."""
    from runs.report.tb_export import safe_name

    return folder / f"calibrate-{safe_name(env)}.csv"


def write_calibration(file: Path, levels: Iterable[Level]) -> None:
    """Writes a calibration; four digits say all that a few thousand episodes know."""
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(Level._fields)
        rows.writerows([_plain(value) for value in level] for level in levels)


def read_calibration(file: Path) -> list[Level]:
    """Reads a calibration.

    Raises:
        FileNotFoundError: there is none.
        UserError: the file holds something else.
    """
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        return [
            Level(**{k: row[k] if k in WORDS else float(row[k]) for k in Level._fields})._replace(
                seeds=int(row["seeds"])
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError):
        remedy = "delete it, then python -m runs.calibrate --record"
        raise UserError(f"{file} is no calibration: {remedy}") from None


def reference_scores(
    env: str, folder: Path = RESULTS
) -> dict[tuple[str, float], tuple[float, float]] | None:
    """(shift, severity) -> (random, specialist) of a suite, or None if it was never calibrated.

    The specialist counts as its better self, `Level.ceiling`. Points at which there is hardly any
    room between the two (less than `ROOM`) are left out: to divide by it would only show noise.

    Raises:
        UserError: the file holds something else.
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
    """0 at random, 1 at the specialist, in between and beyond on a line."""
    return (score - random) / (specialist - random)


def normalised_rows(rows: Sequence[dict], env: str, folder: Path = RESULTS) -> list[dict] | None:
    """Score rows with `score` normalised, or None where that cannot be done for all of them.

    Args:
        rows: with `shift`, `severity` and `score`, as a comparison writes them.
        env: name of the suite.
        folder: of the calibrations.

    Returns:
        New rows; None where the suite was never calibrated, or not at a point that occurs.
    """
    known = reference_scores(env, folder)
    points = {(row["shift"], float(row["severity"])) for row in rows}
    if known is None or not points <= known.keys():
        return None
    return [
        row | {"score": normalise(row["score"], *known[row["shift"], float(row["severity"])])}
        for row in rows
    ]


def calibration_flags(levels: Sequence[Level]) -> list[str]:
    """What is wrong with a shift, given its levels by severity, home first; nothing if it is fine.

    * does nothing: the nominal agent loses less than `COST` at every severity.
    * cannot be solved: at the end of its axis neither specialist nor nominal agent reach `SOLVED`.
    * chance will do: somewhere less than `ROOM` lies between a random policy and the better of
      the two, so that nothing can be normalised there.
    * not harder with severity: the nominal agent does better at a higher severity than at a lower
      one, intervals apart.
    """
    home, *away = levels
    found = []
    if all(home.nominal - level.nominal < COST for level in away):
        found.append("does nothing")
    if away[-1].ceiling < SOLVED:
        found.append("cannot be solved")
    if any(level.ceiling - level.random < ROOM for level in away):
        found.append("chance will do")
    if any(
        later.nominal_low > level.nominal_high
        for i, level in enumerate(levels)
        for later in levels[i + 1 :]
    ):
        found.append("not harder with severity")
    return found


def levels_by_shift(levels: Iterable[Level]) -> dict[str, list[Level]]:
    """Shift -> its levels by severity, home first; without `none`."""
    found: dict[str, list[Level]] = {}
    for level in levels:
        if level.shift != "none":
            found.setdefault(level.shift, []).append(level)
    return {name: sorted(some, key=lambda level: level.severity) for name, some in found.items()}


def _plain(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
