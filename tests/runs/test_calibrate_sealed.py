"""Calibration of sealed shifts: verdicts on newborns, and the recorded page."""

from pathlib import Path

import numpy as np

from envs.worlds.drive.sealed import WORST
from runs.calibrate_sealed import newborn_table
from tests.runs.study_job import table_rows

ROOT = Path(__file__).parents[2]


def test_verdicts_on_newborns_are_of_area_and_end():
    curve = np.array([[0.0, 0.2, 0.4, np.nan, 0.6]] * 3)
    text = newborn_table({"fine": curve, "hard": curve / 3, "easy": curve + 0.5})
    assert [[row[0], row[1][:4], row[2][:4], row[-1]] for row in table_rows(text)[1:]] == [
        ["fine", "0.30", "0.60", "fine"],
        ["hard", "0.10", "0.20", "does not learn"],
        ["easy", "0.80", "1.10", "no headroom"],
    ]


def test_recorded_shifts_are_hard_solvable_and_leave_newborns_headroom():
    page = (ROOT / "runs/results/calibrate-Drive-sealed.md").read_text()
    verdicts = [(row[0], row[-1]) for row in table_rows(page) if row[0] in WORST]
    assert verdicts == 2 * [(name, "fine") for name in WORST]
