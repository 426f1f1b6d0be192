"""The score file: what is missing, doubled or no number is named, with the remedy."""

import numpy as np
import pytest

from runs.analysis.scores import check_complete, read_scores, replace_file, rows_as_csv
from runs.errors import UserError
from tests.runs import sealed_study


@pytest.fixture
def rows(tmp_path):
    sealed_study.score(tmp_path)
    return read_scores(tmp_path / "scores.csv")


def test_what_is_whole_passes(rows, tmp_path):
    assert check_complete(rows, "scores.csv", finite=True) is rows
    replace_file(tmp_path / "again.csv", rows_as_csv(rows, header=True))
    again = read_scores(tmp_path / "again.csv")
    assert [row["score"] for row in again] == [row["score"] for row in rows]


def test_a_missing_cell_is_named(rows):
    lost = rows.pop(5)
    place = f"{lost['arm']}, seed {lost['seed']} lacks {lost['shift']} {lost['severity']}"
    with pytest.raises(UserError, match=f"scores.csv: {place}; delete the file"):
        check_complete(rows, "scores.csv")


def test_a_cell_that_is_there_twice_is_named(rows):
    with pytest.raises(UserError, match="scores.csv: .* twice; delete the file"):
        check_complete([*rows, rows[3]], "scores.csv")


def test_what_is_not_a_number_is_named_where_it_may_not_be(rows):
    rows[7]["score"] = np.nan
    check_complete(rows, "scores.csv")
    with pytest.raises(UserError, match="is not a number; leave that seed out of every arm"):
        check_complete(rows, "scores.csv", finite=True)
