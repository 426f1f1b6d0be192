"""Calibration of sealed shifts: verdicts on newborns, the command, and the recorded page."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.slow
def test_command_runs_in_a_subprocess(tmp_path):
    command = [sys.executable, "-m", "runs.calibrate_sealed", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "calibrate-Drive-sealed.md").read_text()
    assert page in done.stdout
    names = [row[0] for row in table_rows(page)]
    assert names.count("gusts") == names.count("heavy") == 2
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert again.returncode == 0 and page in again.stdout
