"""What an arm's signals knew, as rows of a file and as a table of a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.suite import Point
from runs.analysis import stats
from runs.analysis.scores import parse_rows, replace_file, rows_as_csv
from runs.report.tables import PLACES, Table

NAME = "readouts.csv"
QUESTION_ROWS = (
    "auroc",
    "precision",
    "return",
    "rarity",
    "lead",
    "caught",
    "alarms",
    "expected",
    "brier",
)
AGENTS = ("critic", "minus_critic", "felt")  # no heads; they come last
COLUMNS = ("arm", "signal", "seed", "shift", "family", "severity", "harmed", *QUESTION_ROWS)
SHOWN = {"auroc": "harm soon, AUROC", "return": "return to go", "rarity": "rarity"}
NOTE = (
    "Asked of `{arm}`, whose heads learn as all others do, at every step at home and of {places} "
    "shifted points: AUROC for harm within ten steps, rank correlation with the discounted return "
    "to go and with minus the visits paid to such places at home; knowing nothing is .5, 0 and 0. "
    "`felt` is what the agent was paid beside the task. Per-seed means first, t intervals at 95 %."
)


def readout_rows(
    arm: str, told: Mapping[str, np.ndarray], points: Sequence[Point], seeds: Sequence[int]
) -> list[dict]:
    """A row a signal, seed and point.

    Args:
        arm: that was asked.
        told: `runs.probes.readouts.readouts` over seeds, each [S, P, ...].
        points: P of them, home first.
        seeds: that count.
    """
    signals = [name.removesuffix("/auroc") for name in told if name.endswith("/auroc")]
    signals.sort(key=lambda name: (name in AGENTS, name))
    nothing = np.full(told["harmed"].shape, np.nan)
    asked = {
        (signal, name): told.get(f"{signal}/{name}", nothing)
        for signal in signals
        for name in QUESTION_ROWS
    }
    return [
        {"arm": arm, "signal": signal, "seed": seed}
        | {"shift": shift, "family": family, "severity": severity}
        | {"harmed": round(float(told["harmed"][seed, i]), 6)}
        | {name: round(float(asked[signal, name][seed, i]), 6) for name in QUESTION_ROWS}
        for signal in signals
        for seed in seeds
        for i, (shift, family, severity) in enumerate(points)
    ]


def write_readouts(out: Path, found: Sequence[dict]) -> None:
    """Writes rows into the folder of a study, all of it or nothing."""
    replace_file(out / NAME, rows_as_csv(found, header=True, columns=COLUMNS))


def read_readouts(out: Path) -> list[dict]:
    """The rows in the folder of a study; none where nothing was asked.

    Raises:
        UserError: for a file of an earlier version.
    """
    path = out / NAME
    return (
        parse_rows(path, COLUMNS, ("severity", "harmed", *QUESTION_ROWS)) if path.exists() else []
    )


def readout_table(found: Sequence[dict]) -> Table | None:
    """What each signal knows at home and under shift; None where nothing was asked.

    A question that nobody could be asked, such as that of harm where there is none, is left out.
    """
    if not found:
        return None
    asked = {q: title for q, title in SHOWN.items() if any(np.isfinite(r[q]) for r in found)}
    headings = tuple(f"{title}, {place}" for title in asked.values() for place in PLACES)
    lines = []
    for signal in dict.fromkeys(row["signal"] for row in found):
        mine = [row for row in found if row["signal"] == signal]
        cells = [cell for question in asked for cell in _cells(mine, question)]
        lines.append([signal, *cells])
    places = len({(row["shift"], row["severity"]) for row in found} - {("none", 0.0)})
    note = NOTE.format(arm=found[0]["arm"], places=places)
    return Table(
        "what the feelings know", ("signal", *headings), lines, " ".join([note, *_levels(found)])
    )


def _cells(mine: Sequence[dict], question: str) -> tuple[str, str]:
    return tuple(_cell(_by_seed(mine, question, home)) for home in (True, False))


def _by_seed(mine: Sequence[dict], question: str, home: bool) -> np.ndarray:
    """Means over points [S], at home or elsewhere; seeds that could not be asked are left out."""
    seeds = {}
    for row in mine:
        if (row["shift"] == "none") == home and np.isfinite(row[question]):
            seeds.setdefault(row["seed"], []).append(row[question])
    return np.array([np.mean(each) for each in seeds.values()])


def _cell(seeds: np.ndarray) -> str:
    if not len(seeds):
        return "-"
    if len(seeds) < stats.FEWEST:
        return f"{seeds.mean():.3f}"
    middle = stats.mean(seeds)
    return f"{middle.value:.3f} ±{middle.high - middle.value:.3f}"


def _levels(found: Sequence[dict]) -> list[str]:
    """How high probabilities are, and how frequent what they foretell, in words."""
    said = []
    for signal in dict.fromkeys(row["signal"] for row in found if np.isfinite(row["expected"])):
        mine = [row for row in found if row["signal"] == signal]
        at = {
            home: [_by_seed(mine, name, home).mean() for name in ("expected", "harmed")]
            for home in (True, False)
        }
        if np.isfinite([*at[True], *at[False]]).all():
            said.append(
                f"Level: {signal} says {at[True][0]:.3f} at home, where {at[True][1]:.3f} come to "
                f"harm, and {at[False][0]:.3f} under shift, where {at[False][1]:.3f} do."
            )
    return said
