"""Readouts of an arm's signals as CSV rows, and summarised for a table of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from envs.suite import Point
from runs.analysis import stats
from runs.analysis.scores import parse_rows, rows_as_csv
from runs.lock import replace_file

if TYPE_CHECKING:
    import pandas as pd

NAME = "readouts.csv"
METRICS = ("auroc", "precision", "return", "rarity", "lead", "caught", "alarms")
METRICS += ("expected", "brier")
NON_HEADS = ("critic", "minus_critic", "signal_sum")  # signals that are no heads, listed last
COLUMNS = ("arm", "signal", "seed", "shift", "family", "severity", "harmed", *METRICS)
SHOWN = {"auroc": "harm soon, AUROC", "return": "return to go", "rarity": "rarity"}
PLACES = ("home", "shifted")
NOTE = (
    "Signals of the arm `{arm}`, evaluated at every step at home and at {places} shifted points: "
    "AUROC for harm within ten steps, rank correlation with the discounted return to go, and with "
    "rarity (minus the visits to the observation's cell at home); chance level .5, 0 and 0. "
    "`signal_sum` is the weighted sum of all signals, the agent's reward beside the task's. "
    "Per-seed means first, t intervals at 95 %."
)


class ReadoutSummary(NamedTuple):
    """What each signal predicts at home and under shift, as the parts of a table.

    Attributes:
        title: what the table shows.
        headings: of the columns.
        rows: cells, one for each heading; a row per signal.
        note: how to read it.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[list[str]]
    note: str


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


def summarise_readouts(rows: Sequence[dict]) -> ReadoutSummary | None:
    """Summarise what each signal predicts at home and under shift; None without rows.

    Columns without a finite number, such as harm in a world without harm, are left out.
    """
    import pandas as pd

    if not rows:
        return None
    table = pd.DataFrame(rows)
    table["place"] = np.where(table["shift"] == "none", *PLACES)
    names = ["harmed", *METRICS]
    means = table.groupby(["signal", "place", "seed"])[names].mean()
    shown = {name: title for name, title in SHOWN.items() if means[name].notna().any()}
    signals = list(dict.fromkeys(table["signal"]))
    cells = [
        [signal, *(_cell(means, signal, place, name) for name in shown for place in PLACES)]
        for signal in signals
    ]
    shifted = table.loc[table["place"] == "shifted", ["shift", "severity"]]
    note = NOTE.format(arm=rows[0]["arm"], places=len(shifted.drop_duplicates()))
    sentences = filter(None, (_calibration_sentence(means, signal) for signal in signals))
    return ReadoutSummary(
        "what the signals predict",
        ("signal", *(f"{title}, {place}" for title in shown.values() for place in PLACES)),
        cells,
        " ".join([note, *sentences]),
    )


def _cell(means: "pd.DataFrame", signal: str, place: str, metric: str) -> str:
    """Mean over seeds with half its interval; seeds without a number are left out."""
    present = (signal, place) in means.index
    seeds = means.loc[(signal, place), metric].dropna().to_numpy() if present else np.zeros(0)
    if len(seeds) < stats.FEWEST:
        return f"{seeds.mean():.3f}" if len(seeds) else "-"
    mean = stats.mean(seeds)
    return f"{mean.value:.3f} ±{mean.high - mean.value:.3f}"


def _calibration_sentence(means: "pd.DataFrame", signal: str) -> str | None:
    """Comparison of a mean predicted probability of harm with its frequency; None without both."""
    by_place = means.loc[signal, ["expected", "harmed"]].groupby("place").mean()
    if len(by_place) < len(PLACES) or by_place.isna().any(axis=None):
        return None
    (home, harmed), (shifted, harmed_shifted) = by_place.loc[list(PLACES)].to_numpy()
    return (
        f"Calibration: mean {signal} {home:.3f} at home, where harm follows in {harmed:.3f}; "
        f"{shifted:.3f} under shift, where in {harmed_shifted:.3f}."
    )
