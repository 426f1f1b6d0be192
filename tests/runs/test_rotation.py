"""Rotations: each study seals one family, and only verified equal studies are averaged."""

import numpy as np
import pytest

from runs import rotation
from runs.analysis import stats
from runs.analysis.scores import read_scores
from runs.errors import UserError
from tests.runs.sealed_study import ARMS, study

UNSHIFTED_ARMS = tuple(
    arm for arm in ARMS if arm != "random"
)  # arms that train in no shifted world


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("rotations")
    return tuple(
        study(base / family, arms=UNSHIFTED_ARMS, sealed=[family])
        for family in ("dynamics", "actuator")
    )


def test_the_score_is_the_mean_over_rotations(folders, capsys):
    assert rotation.main([str(folder) for folder in folders]) == 0
    out = capsys.readouterr().out
    scores, arms = rotation.read_sealed_scores(folders)
    assert arms == UNSHIFTED_ARMS
    expected = []
    for folder in folders:
        rows = [row for row in read_scores(folder / "sealed.csv") if row["shift"] != "none"]
        seeds = [
            [row["score"] for row in rows if row["arm"] == "fear" and row["seed"] == seed]
            for seed in range(3)
        ]
        expected.append(np.mean(seeds, 1))
    np.testing.assert_allclose(scores["fear"], np.mean(expected, 0))
    assert f"fear | {stats.mean(scores['fear']):.3f} | +0.000" in out


def test_fewer_than_two_studies_or_one_family_twice_is_refused(folders):
    with pytest.raises(UserError, match="name the folders of at least two"):
        rotation.main([str(folders[0])])
    with pytest.raises(UserError, match="dynamics is sealed in another study too"):
        rotation.main([str(folders[0]), str(folders[0])])


def test_a_study_that_does_not_verify_is_refused(folders, tmp_path):
    bad = study(tmp_path / "bad", arms=UNSHIFTED_ARMS, sealed=["actuator"])
    with (bad / "sealed.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="bad is unverified: .*sealed.csv"):
        rotation.main([str(folders[0]), str(bad)])


def test_studies_that_differ_are_refused(folders, tmp_path):
    other = study(tmp_path / "other", arms=UNSHIFTED_ARMS[:-1], sealed=["actuator"])
    with pytest.raises(
        UserError, match="differs from .*dynamics in its arms; run it with the same"
    ):
        rotation.main([str(folders[0]), str(other)])
