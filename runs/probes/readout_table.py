"""Readouts of an arm's signals as CSV rows, and as a table of the comparison report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.suite import Point
from runs.analysis import stats
from runs.analysis.scores import parse_rows, replace_file, rows_as_csv
from runs.report.tables import PLACES, Table

NAME = "readouts.csv"
METRICS = (
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
NON_HEADS = ("critic", "minus_critic", "felt")  # signals that are no heads, listed last
COLUMNS = ("arm", "signal", "seed", "shift", "family", "severity", "harmed", *METRICS)
SHOWN = {"auroc": "harm soon, AUROC", "return": "return to go", "rarity": "rarity"}
NOTE = (
    "Signals of the arm `{arm}`, evaluated at every step at home and at {places} shifted points: "
    "AUROC for harm within ten steps, rank correlation with the discounted return to go, and with "
    "rarity (minus the visits to the observation's cell at home); chance level .5, 0 and 0. "
    "`felt` is the pay of the agent beside the task. Per-seed means first, t intervals at 95 %."
)


def readout_rows(
    arm: str, readouts: Mapping[str, np.ndarray], points: Sequence[Point], seeds: Sequence[int]
) -> list[dict]:
    """Convert readouts to CSV rows, one per signal, seed and point.

    Args:
        arm: whose agents were probed.
        readouts: `runs.probes.readouts.readouts` over seeds, each [S, P, ...].
        points: P of them, home first.
        seeds: to include.
    """
    signals = [name.removesuffix("/auroc") for name in readouts if name.endswith("/auroc")]
    signals.sort(key=lambda name: (name in NON_HEADS, name))
    missing = np.full(readouts["harmed"].shape, np.nan)
    values = {
        (signal, name): readouts.get(f"{signal}/{name}", missing)
        for signal in signals
        for name in METRICS
    }
    return [
        {"arm": arm, "signal": signal, "seed": seed}
        | {"shift": shift, "family": family, "severity": severity}
        | {"harmed": round(float(readouts["harmed"][seed, i]), 6)}
        | {name: round(float(values[signal, name][seed, i]), 6) for name in METRICS}
        for signal in signals
        for seed in seeds
        for i, (shift, family, severity) in enumerate(points)
    ]


def write_readouts(out: Path, rows: Sequence[dict]) -> None:
    """Write rows to the readout file of a study folder, atomically."""
    replace_file(out / NAME, rows_as_csv(rows, header=True, columns=COLUMNS))


def read_readouts(out: Path) -> list[dict]:
    """Read the readout rows of a study folder; an empty list if there is no file.

    Raises:
        UserError: for a file of an earlier version.
    """
    path = out / NAME
    return parse_rows(path, COLUMNS, ("severity", "harmed", *METRICS)) if path.exists() else []


def readout_table(rows: Sequence[dict]) -> Table | None:
    """Table of what each signal predicts at home and under shift; None without rows.

    Columns without a finite number, such as harm in a world without harm, are left out.
    """
    if not rows:
        return None
    shown = {
        name: title for name, title in SHOWN.items() if any(np.isfinite(r[name]) for r in rows)
    }
    headings = tuple(f"{title}, {place}" for title in shown.values() for place in PLACES)
    lines = []
    for signal in dict.fromkeys(row["signal"] for row in rows):
        signal_rows = [row for row in rows if row["signal"] == signal]
        cells = [cell for metric in shown for cell in _cells(signal_rows, metric)]
        lines.append([signal, *cells])
    places = len({(row["shift"], row["severity"]) for row in rows} - {("none", 0.0)})
    note = NOTE.format(arm=rows[0]["arm"], places=places)
    return Table(
        "what the signals predict", ("signal", *headings), lines, " ".join([note, *_levels(rows)])
    )


def _cells(rows: Sequence[dict], metric: str) -> tuple[str, str]:
    return tuple(_cell(_by_seed(rows, metric, home)) for home in (True, False))


def _by_seed(rows: Sequence[dict], metric: str, home: bool) -> np.ndarray:
    """Mean over points of each seed, home or shifted, [S]; seeds without a number are left out."""
    seeds = {}
    for row in rows:
        if (row["shift"] == "none") == home and np.isfinite(row[metric]):
            seeds.setdefault(row["seed"], []).append(row[metric])
    return np.array([np.mean(values) for values in seeds.values()])


def _cell(seeds: np.ndarray) -> str:
    if not len(seeds):
        return "-"
    if len(seeds) < stats.FEWEST:
        return f"{seeds.mean():.3f}"
    mean = stats.mean(seeds)
    return f"{mean.value:.3f} ±{mean.high - mean.value:.3f}"


def _levels(rows: Sequence[dict]) -> list[str]:
    """Sentences that compare mean predicted probabilities of harm with its frequency."""
    sentences = []
    for signal in dict.fromkeys(row["signal"] for row in rows if np.isfinite(row["expected"])):
        signal_rows = [row for row in rows if row["signal"] == signal]
        at = {
            home: [_by_seed(signal_rows, name, home).mean() for name in ("expected", "harmed")]
            for home in (True, False)
        }
        if np.isfinite([*at[True], *at[False]]).all():
            sentences.append(
                f"Calibration: mean {signal} {at[True][0]:.3f} at home, where harm follows in "
                f"{at[True][1]:.3f}; {at[False][0]:.3f} under shift, where in {at[False][1]:.3f}."
            )
    return sentences
