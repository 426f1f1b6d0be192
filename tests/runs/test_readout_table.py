"""What signals knew: rows that come back as they were written, and a table with seeds as units."""

import numpy as np
import pytest

from envs.suite import Point
from runs.analysis.stats import mean
from runs.errors import UserError
from runs.probes import readout_table

POINTS = (Point("none", "none", 0.0), Point("ice", "dynamics", 0.5), Point("ice", "dynamics", 1.0))
SEEDS = (0, 2, 3)  # seed 1 was stopped


def told() -> dict[str, np.ndarray]:
    """Two signals of four seeds at three points; only fear is a probability."""
    known = np.arange(12.0).reshape(4, 3) / 20
    flat = np.full((4, 3), 0.5)
    found = {"harmed": flat / 5, "steps": flat}
    for name, shift in (("fear", 0.1), ("critic", 0.0)):
        found |= {f"{name}/{q}": known + shift for q in readout_table.QUESTION_ROWS[:7]}
    found |= {"critic/return": flat * np.nan, "fear/expected": flat, "fear/brier": flat / 10}
    return found


@pytest.fixture
def kept(tmp_path):
    readout_table.write_readouts(
        tmp_path, readout_table.readout_rows("lesion", told(), POINTS, SEEDS)
    )
    return readout_table.read_readouts(tmp_path)


def test_rows_come_back_as_they_were_kept(kept):
    assert len(kept) == 2 * len(SEEDS) * len(POINTS)
    assert {row["seed"] for row in kept} == set(SEEDS)
    last = [r for r in kept if (r["signal"], r["seed"], r["severity"]) == ("fear", 3, 1.0)]
    assert len(last) == 1
    assert last[0]["auroc"] == pytest.approx(0.65)
    assert last[0]["family"] == "dynamics"
    assert np.isnan([row["expected"] for row in kept if row["signal"] == "critic"]).all()


def test_what_was_not_asked_is_no_table(tmp_path):
    assert readout_table.read_readouts(tmp_path) == []
    assert readout_table.readout_table([]) is None


def test_a_file_of_another_version_is_one_line(tmp_path):
    (tmp_path / readout_table.NAME).write_text("arm,signal,seed\nlesion,fear,0\n")
    with pytest.raises(UserError, match="has no column shift, .*another version wrote it"):
        readout_table.read_readouts(tmp_path)


def test_a_table_has_heads_first_and_averages_points_before_seeds(kept):
    table = readout_table.readout_table(kept)
    assert [row[0] for row in table.rows] == ["fear", "critic"]
    cells = dict(zip(table.headings, table.rows[0], strict=True))
    away = told()["fear/auroc"][list(SEEDS), 1:].mean(1)
    middle = mean(away)
    shown = f"{middle.value:.3f} ±{middle.high - middle.value:.3f}"
    assert cells["harm soon, AUROC, shifted"] == shown
    assert dict(zip(table.headings, table.rows[1], strict=True))["return to go, home"] == "-"
    assert "Asked of `lesion`" in table.note
    assert "2 shifted points" in table.note


def test_the_level_of_a_probability_is_said_beside_what_came(kept):
    note = readout_table.readout_table(kept).note
    assert "fear says 0.500 at home, where 0.100 come to harm" in note
    assert "critic says" not in note


def test_a_question_that_nobody_could_answer_is_no_column(kept):
    for row in kept:
        row["rarity"] = np.nan
    assert not any("rarity" in heading for heading in readout_table.readout_table(kept).headings)
