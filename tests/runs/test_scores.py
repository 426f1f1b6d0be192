"""The score file: missing, duplicate and non-finite cells are named, with the remedy."""

import numpy as np
import pytest

from runs.analysis.scores import check_complete, read_scores, replace_file, rows_as_csv
from runs.errors import UserError
from tests.runs import sealed_study


@pytest.fixture
def rows(tmp_path):
    sealed_study.score(tmp_path)
    return read_scores(tmp_path / "scores.csv")


def test_complete_scores_pass_and_are_read_back_as_written(rows, tmp_path):
    assert check_complete(rows, "scores.csv", finite=True) is rows
    replace_file(tmp_path / "again.csv", rows_as_csv(rows, header=True))
    rows_again = read_scores(tmp_path / "again.csv")
    assert [row["score"] for row in rows_again] == [row["score"] for row in rows]


def test_a_missing_cell_is_named(rows):
    missing = rows.pop(5)
    cell = (
        f"{missing['arm']}, seed {missing['seed']} lacks {missing['shift']} {missing['severity']}"
    )
    with pytest.raises(UserError, match=f"scores.csv: {cell}; delete the file"):
        check_complete(rows, "scores.csv")


def test_a_duplicate_cell_is_named(rows):
    with pytest.raises(UserError, match="scores.csv: .* twice; delete the file"):
        check_complete([*rows, rows[3]], "scores.csv")


def test_a_nan_score_is_named_if_finite_scores_are_required(rows):
    rows[7]["score"] = np.nan
    check_complete(rows, "scores.csv")
    with pytest.raises(UserError, match="is not a number; leave that seed out of every arm"):
        check_complete(rows, "scores.csv", finite=True)
