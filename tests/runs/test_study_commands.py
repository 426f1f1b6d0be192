"""Commands of studies: a smoke run, and the same command again, as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from runs.analysis.calibration import read_calibration
from runs.care_run import TWO
from runs.lava_fear_run import SHIFTS
from tests.runs.study_job import table_rows

ROOT = Path(__file__).parents[2]


def table(out: Path) -> pd.DataFrame:
    """The table of a study's folder: the CSV file without a suffix, which has the shortest name."""
    return pd.read_csv(min(out.glob("*.csv"), key=lambda path: len(path.name)))


def has_severities_of_two_shifts(out: Path) -> bool:
    """Whether a calibration has home and three severities of two shifts, of three seeds each."""
    levels = read_calibration(out / "calibrate-Pendulum.csv")
    return len(levels) == 1 + 2 * 3 and {level.seeds for level in levels} == {3}


def has_each_shift_twice(out: Path) -> bool:
    """Whether the page of the sealed shifts has two of them in both of its tables."""
    names = [row[0] for row in table_rows((out / "calibrate-Drive-sealed.md").read_text())]
    return names.count("gusts") == names.count("heavy") == 2


def hands_over_at_both_ends(out: Path) -> bool:
    """Whether hand-over tables hold one shift and home, three seeds, and shares of 0 and 1."""
    rows = table(out)
    ends = rows[rows["kind"].isin(["agent", "specialist"])].groupby("kind")["share"].mean()
    places, seeds = set(rows["shift"]), rows["seed"].nunique()
    shares = ends.to_dict() == {"agent": 0, "specialist": 1}
    return places == {"none", "cones"} and seeds == 3 and shares


def has_enough_episodes(out: Path) -> bool:
    """Whether eight trainings had 64 episodes, their rates are shares, and the page has rows."""
    rows = [row[:4] for row in table_rows((out / "packer.md").read_text())]
    published = (
        ["MountainCar", "A2C", "default", "79.8"],
        ["Pendulum", "PPO", "extrapolation", "0.0"],
    )
    files = [json.loads(path.read_text()) for path in out.glob("*-?.json")]
    trained = [min(x["episodes"]) >= 64 and x["non_finite"] == 0 for x in files]
    shares = [0 <= share <= 1 for x in files for name in "DRE" for share in x[name]]
    return len(files) == 8 and all(row in rows for row in published) and all(trained + shares)


COMMANDS = {
    "breadth": (
        "broad experience less as much narrow",
        lambda out: table(out).groupby(["diet", "heads"]).ngroups == 16,
    ),
    "calibrate --env Pendulum": (
        "# Pendulum: how hard its shifts are",
        has_severities_of_two_shifts,
    ),
    "calibrate_sealed": ("how hard its sealed shifts are", has_each_shift_twice),
    "care": (
        "Care by one's own circuits",
        lambda out: TWO in set(table(out)["place"]) and table(out)["arm"].nunique() == 15,
    ),
    "credit --env CartPole": (
        "CartPole: credit assignment",
        lambda out: (out / "credit-CartPole.png").read_bytes().startswith(b"\x89PNG"),
    ),
    "first_drive": ("Timid:", lambda out: (out / "first_drive.md").exists()),
    "handover": ("handing over by fear", hands_over_at_both_ends),
    "lava_fear": (
        "# Lava: what a fear sees",
        lambda out: set(table(out)["shift"]) == {"none", *SHIFTS},
    ),
    "overoptimisation": (
        "satiation by source",
        lambda out: set(table(out)["world"]) == {"BoatRace"} and table(out)["time"].max() == 3,
    ),
    "packer --only MountainCar Pendulum": ("Generalisation in classic", has_enough_episodes),
}
"""Study and flags -> words of its page, and what holds of its folder."""


@pytest.mark.slow
@pytest.mark.parametrize("study", COMMANDS)
def test_command_runs_and_resumes(study, tmp_path):
    name, *flags = study.split()
    words, holds = COMMANDS[study]
    command = [sys.executable, "-m", f"runs.{name}", "--smoke", *flags, "--out", str(tmp_path)]
    first, again = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert words in first.stdout and again.stdout == first.stdout
    assert holds(tmp_path)
