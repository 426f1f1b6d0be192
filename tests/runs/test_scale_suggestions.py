"""Points that Optuna suggests: better than random ones, and the same after a kill."""

import math
import sys

import pytest

from runs.errors import UserError
from runs.scale.grid import Range, point_digest
from runs.scale.suggestions import Suggestions

AXES = {
    "agent.lr": Range(1e-5, 1e-1, log=True),
    "width": Range(4, 64),
    "shifts": [["ice"], ["fog"]],
}
KINDS = {"agent.lr": float, "width": int, "shifts": tuple[str, ...]}


def score(point) -> float:
    """Highest at a step size of 1e-3, few units and fog."""
    return (
        -abs(math.log10(point["agent.lr"]) + 3)
        - point["width"] / 64
        + (point["shifts"] == ("fog",))
    )


def finish(path, samples, killed=()) -> list[dict]:
    """Run a study to its end; it is begun anew, as after a kill, in the rounds `killed`."""
    study, finished, rounds = Suggestions(path, AXES, KINDS, samples, 5), False, 0
    while not finished:
        points = study.points()
        if rounds in killed:
            study.study.ask()  # a trial of which nothing was drawn yet
            study = Suggestions(path, AXES, KINDS, samples, 5)
            assert study.points() == points
        finished, rounds = study.tell({point_digest(p): score(p) for p in points}), rounds + 1
    return points


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


def test_a_killed_study_goes_on_with_the_points_it_would_have_had(optuna, tmp_path):
    whole = finish(tmp_path / "a.log", 22)
    assert len(whole) == 22 and finish(tmp_path / "b.log", 22, killed=(0, 2, 4)) == whole
    assert finish(tmp_path / "a.log", 22) == whole  # it is finished
    assert finish(tmp_path / "b.log", 27)[:20] == whole[:20]  # more samples go on from these
    assert all(1e-5 <= p["agent.lr"] <= 0.1 and 4 <= p["width"] <= 64 for p in whole)
    assert all(isinstance(p["width"], int) for p in whole)
    assert {p["shifts"] for p in whole} == {("ice",), ("fog",)}
    means = [sum(map(score, part)) / 10 for part in (whole[:10], whole[-10:])]
    assert means[1] > means[0] + 0.3  # later points are better than the first, which are random


def test_a_point_without_a_score_has_failed_and_is_not_suggested_again(optuna, tmp_path):
    study = Suggestions(tmp_path / "a.log", AXES, KINDS, 4, 2)
    first = study.points()
    assert not study.tell({point_digest(first[0]): 1.0})
    assert study.points()[:2] == first and len(study.points()) == 4
    assert study.tell({})


def test_optuna_that_is_not_installed_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"--search optuna: optuna is missing: pip install -e"):
        Suggestions(tmp_path / "a.log", AXES, KINDS, 4, 2)
