"""Readouts of signals: rows survive a round trip to disk; their table has seeds as units."""

import numpy as np
import pytest

from envs.suite import Point
from runs.analysis.stats import mean
from runs.errors import UserError
from runs.probes import readout_table
from runs.report import tables

POINTS = (Point("none", "none", 0.0), Point("ice", "dynamics", 0.5), Point("ice", "dynamics", 1.0))
SEEDS = (0, 2, 3)  # seed 1 was stopped


def made_up_readouts() -> dict[str, np.ndarray]:
    """Readouts of two signals, four seeds and three points; only fear is a probability."""
    values = np.arange(12.0).reshape(4, 3) / 20
    flat = np.full((4, 3), 0.5)
    readouts = {"harmed": flat / 5, "steps": flat}
    for name, shift in (("fear", 0.1), ("critic", 0.0)):
        readouts |= {f"{name}/{q}": values + shift for q in readout_table.METRICS[:7]}
    readouts |= {"critic/return": flat * np.nan, "fear/expected": flat, "fear/brier": flat / 10}
    return readouts


@pytest.fixture
def rows(tmp_path):
    """Rows written to disk and read back."""
    readout_table.write_readouts(
        tmp_path, readout_table.readout_rows("lesion", made_up_readouts(), POINTS, SEEDS)
    )
    return readout_table.read_readouts(tmp_path)


def test_rows_are_read_back_as_written(rows):
    assert len(rows) == 2 * len(SEEDS) * len(POINTS)
    assert {row["seed"] for row in rows} == set(SEEDS)
    last = [
        row for row in rows if (row["signal"], row["seed"], row["severity"]) == ("fear", 3, 1.0)
    ]
    assert len(last) == 1
    assert last[0]["auroc"] == pytest.approx(0.65)
    assert last[0]["family"] == "dynamics"
    assert np.isnan([row["expected"] for row in rows if row["signal"] == "critic"]).all()


def test_without_readouts_there_is_no_table(tmp_path):
    assert readout_table.read_readouts(tmp_path) == []
    assert tables.readout_table([]) is None


def test_a_file_of_another_version_is_one_line(tmp_path):
    (tmp_path / readout_table.NAME).write_text("arm,signal,seed\nlesion,fear,0\n")
    with pytest.raises(UserError, match="has no column shift, .*another version wrote it"):
        readout_table.read_readouts(tmp_path)


def test_a_table_has_heads_first_and_averages_points_before_seeds(rows):
    table = tables.readout_table(rows)
    assert list(table.cells["signal"]) == ["fear", "critic"]
    fear, critic = table.cells.to_dict("records")
    shifted = made_up_readouts()["fear/auroc"][list(SEEDS), 1:].mean(1)
    estimate = mean(shifted)
    text = f"{estimate.value:.3f} ±{estimate.high - estimate.value:.3f}"
    assert fear["harm soon, AUROC, shifted"] == text
    assert critic["return to go, home"] == "-"
    assert "Signals of the arm `lesion`" in table.note
    assert "2 shifted points" in table.note


def test_the_note_compares_a_mean_probability_with_the_rate_of_harm(rows):
    note = tables.readout_table(rows).note
    assert "mean fear 0.500 at home, where harm follows in 0.100" in note
    assert "mean critic" not in note


def test_a_metric_that_is_nan_everywhere_has_no_column(rows):
    for row in rows:
        row["rarity"] = np.nan
    assert not any("rarity" in heading for heading in tables.readout_table(rows).cells)
