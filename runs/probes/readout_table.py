"""Readouts of an arm's signals as rows of a CSV file, one per signal, seed and point."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.suite import Point
from runs.analysis.scores import parse_rows, rows_as_csv
from runs.lock import replace_file

NAME = "readouts.csv"
METRICS = ("auroc", "precision", "return", "rarity", "lead", "caught", "alarms")
METRICS += ("expected", "brier")
NON_HEADS = ("critic", "minus_critic", "signal_sum")  # signals that are no heads, listed last
COLUMNS = ("arm", "signal", "seed", "shift", "family", "severity", "harmed", *METRICS)


def readout_rows(
    arm: str, readouts: Mapping[str, np.ndarray], points: Sequence[Point], seeds: Sequence[int]
) -> list[dict]:
    """Convert readouts to CSV rows, one per signal, seed and point.

    Args:
        arm: whose agents were probed.
        readouts: `runs.probes.probe.probe_arm`, each [S, P, ...].
        points: P of them, home first.
        seeds: to include.
    """
    signals = [name.removesuffix("/auroc") for name in readouts if name.endswith("/auroc")]
    signals.sort(key=lambda name: (name in NON_HEADS, name))
    missing = np.full(readouts["harmed"].shape, np.nan)

    def values(signal: str, seed: int, point: int) -> dict[str, float]:
        columns = {name: readouts.get(f"{signal}/{name}", missing) for name in METRICS}
        columns = {"harmed": readouts["harmed"]} | columns
        return {name: round(float(leaf[seed, point]), 6) for name, leaf in columns.items()}

    return [
        {"arm": arm, "signal": signal, "seed": seed, **point._asdict()} | values(signal, seed, i)
        for signal in signals
        for seed in seeds
        for i, point in enumerate(points)
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
