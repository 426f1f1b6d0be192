"""Rotations: every family is kept back once, and nothing else is summed up."""

import numpy as np
import pytest

from runs import rotation
from runs.analysis import stats
from runs.analysis.scores import read_scores
from runs.errors import UserError
from tests.runs.sealed_study import ARMS, study

ALONE = tuple(arm for arm in ARMS if arm != "random")  # who trains in no family


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("rotations")
    return tuple(
        study(base / family, arms=ALONE, sealed=[family]) for family in ("dynamics", "actuator")
    )


def test_the_score_is_the_mean_over_rotations(folders, capsys):
    assert rotation.main([str(folder) for folder in folders]) == 0
    out = capsys.readouterr().out
    scores, arms = rotation.read_sealed_scores(folders)
    assert arms == ALONE
    by_hand = []
    for folder in folders:
        rows = [r for r in read_scores(folder / "sealed.csv") if r["shift"] != "none"]
        seeds = [
            [r["score"] for r in rows if r["arm"] == "fear" and r["seed"] == s] for s in range(3)
        ]
        by_hand.append(np.mean(seeds, 1))
    np.testing.assert_allclose(scores["fear"], np.mean(by_hand, 0))
    assert f"fear | {stats.mean(scores['fear']):.3f} | +0.000" in out


def test_a_family_without_a_turn_is_refused(folders):
    with pytest.raises(UserError, match="name the folders of at least two"):
        rotation.main([str(folders[0])])
    with pytest.raises(UserError, match="dynamics had its turn in another study"):
        rotation.main([str(folders[0]), str(folders[0])])


def test_a_study_that_does_not_verify_is_refused(folders, tmp_path):
    bad = study(tmp_path / "bad", arms=ALONE, sealed=["actuator"])
    with (bad / "sealed.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="bad is unverified: .*sealed.csv"):
        rotation.main([str(folders[0]), str(bad)])


def test_studies_that_differ_are_refused(folders, tmp_path):
    other = study(tmp_path / "other", arms=ALONE[:-1], sealed=["actuator"])
    with pytest.raises(UserError, match="other differs from .*dynamics in its arms; run it alike"):
        rotation.main([str(folders[0]), str(other)])
