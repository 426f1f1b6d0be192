"""Commands of studies with a table of results: a smoke run, and the same command again."""

import subprocess
import sys

import pandas as pd
import pytest

from runs.care_run import TWO
from runs.lava_fear_run import SHIFTS


def hands_over_at_both_ends(table: pd.DataFrame) -> bool:
    """Whether hand-over tables hold one shift and home, three seeds, and shares of 0 and 1."""
    ends = table[table["kind"].isin(["agent", "specialist"])].groupby("kind")["share"].mean()
    places, seeds = set(table["shift"]), table["seed"].nunique()
    shares = ends.to_dict() == {"agent": 0, "specialist": 1}
    return places == {"none", "cones"} and seeds == 3 and shares


COMMANDS = {
    "breadth": (
        "broad experience less as much narrow",
        lambda table: table.groupby(["diet", "heads"]).ngroups == 16,
    ),
    "care": (
        "Care by one's own circuits",
        lambda table: TWO in set(table["place"]) and table["arm"].nunique() == 15,
    ),
    "handover": ("handing over by fear", hands_over_at_both_ends),
    "lava_fear": (
        "# Lava: what a fear sees",
        lambda table: set(table["shift"]) == {"none", *SHIFTS},
    ),
    "overoptimisation": (
        "satiation by source",
        lambda table: set(table["world"]) == {"BoatRace"} and table["time"].max() == 3,
    ),
}
"""Study -> words of its page, and what holds of its table."""


@pytest.mark.slow
@pytest.mark.parametrize("study", COMMANDS)
def test_command_runs_and_resumes(study, tmp_path):
    words, holds = COMMANDS[study]
    command = [sys.executable, "-m", f"runs.{study}", "--smoke", "--out", str(tmp_path)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
    assert holds(pd.read_csv(tmp_path / f"{study}.csv"))
