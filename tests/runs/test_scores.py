"""Score rows: defects of a file are named, with the remedy; means by seed are those by hand."""

import numpy as np
import pytest

from runs.analysis.scores import check_complete, finite_rows, read_scores, rows_as_csv, seed_means
from runs.errors import UserError
from runs.lock import replace_file
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


# --- means by seed --------------------------------------------------------------------------------


def made_up_rows() -> list[dict]:
    """Two arms, three seeds in descending order, the unshifted world and two severities of ice."""
    return [
        {"arm": arm, "seed": seed, "shift": shift, "severity": severity}
        | {"score": bonus + seed + severity, "harm": 0.1 * seed}
        for arm, bonus in (("none", 0.0), ("fear", 10.0))
        for seed in (2, 1, 0)
        for shift, severity in (("none", 0.0), ("ice", 0.5), ("ice", 1.0))
    ]


def test_seed_means_average_shifted_points_and_sort_seeds():
    means = seed_means(made_up_rows())
    assert list(means) == ["none", "fear"]
    np.testing.assert_allclose(means["none"], [0.75, 1.75, 2.75])
    np.testing.assert_allclose(means["fear"], [10.75, 11.75, 12.75])
    np.testing.assert_allclose(
        seed_means(made_up_rows(), ["fear"], home=True)["fear"], [10, 11, 12]
    )
    np.testing.assert_allclose(seed_means(made_up_rows(), score="harm")["none"], [0, 0.1, 0.2])
    assert seed_means(made_up_rows(), ["hope"])["hope"].shape == (0,)


def test_seeds_with_a_non_finite_score_are_left_out():
    rows = made_up_rows()
    rows[4]["score"] = np.nan  # none, seed 1
    assert {row["seed"] for row in finite_rows(rows) if row["arm"] == "none"} == {0, 2}
    np.testing.assert_allclose(seed_means(rows)["none"], [0.75, 2.75])
    assert len(seed_means(rows)["fear"]) == 3
    np.testing.assert_allclose(seed_means(rows, home=True)["none"], [0.0, 2.0])
    paired = seed_means(rows, paired=True)
    np.testing.assert_allclose(paired["fear"] - paired["none"], [10.0, 10.0])
    rows[4] |= {"score": 1.5, "harm": np.nan}
    assert len(seed_means(rows, score="harm")["none"]) == 2
