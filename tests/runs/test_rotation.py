"""Rotations: each study seals one family, and only verified equal studies are averaged."""

import re

import numpy as np
import pytest

from runs import rotation
from runs.analysis import stats
from runs.analysis.scores import read_scores
from runs.errors import UserError
from tests.runs.sealed_study import ARMS, study

UNSHIFTED = tuple(arm for arm in ARMS if arm != "random")  # arms that train in no shifted world


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("rotations")
    families = ("dynamics", "actuator")
    return [study(base / family, arms=UNSHIFTED, sealed=[family]) for family in families]


def test_the_score_is_the_mean_over_rotations(folders, capsys):
    assert rotation.main([str(folder) for folder in folders]) == 0
    text = capsys.readouterr().out
    scores = rotation.sealed_scores(folders)
    assert tuple(scores) == UNSHIFTED
    rows = [row for folder in folders for row in read_scores(folder / "sealed.csv")]
    for seed in range(3):
        expected = [
            row["score"]
            for row in rows
            if row["arm"] == "fear" and row["seed"] == seed and row["shift"] != "none"
        ]
        assert scores["fear"][seed] == pytest.approx(np.mean(expected))
    cell = re.escape(f"{stats.mean(scores['fear']):.3f}")
    assert re.search(rf"fear +\| {cell} +\| \+0", text)


def test_fewer_than_two_studies_or_one_family_twice_is_refused(folders):
    for names, reason in (
        (folders[:1], "name the folders of at least two"),
        (folders[:1] * 2, "dynamics is sealed in another study too"),
    ):
        with pytest.raises(UserError, match=reason):
            rotation.main([str(folder) for folder in names])
    with pytest.raises(UserError, match="no study seals actuator; run one more with --sealed act"):
        rotation.sealed_scores(folders[:1])


def test_a_study_that_does_not_verify_or_has_other_arms_is_refused(folders, tmp_path):
    other = study(tmp_path / "other", arms=UNSHIFTED[:-1], sealed=["actuator"])
    with pytest.raises(UserError, match="differs from .*dynamics in its arms; run it with the"):
        rotation.sealed_scores([folders[0], other])
    with (other / "sealed.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="other is unverified: .*sealed.csv"):
        rotation.sealed_scores([folders[0], other])
