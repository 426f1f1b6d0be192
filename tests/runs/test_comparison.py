"""A small comparison from its plan to its sealed scores."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from runs.analysis.scores import read_scores
from runs.compare import Settings
from runs.compare import design as make_design
from runs.engine.comparison import Design, run_comparison
from runs.engine.jax_backend import JaxBackend
from runs.errors import UserError
from runs.prereg import audit, plan_file
from tests.runs import small_study

no_key_check = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)


@pytest.fixture(scope="module", autouse=True)
def in_this_thread():
    """Compile in this thread: the key-reuse check is disabled in this thread only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runs.engine.comparison._can_precompile", lambda *args: False)
        yield


RUN_CONFIG = replace(small_study.CONFIG, seeds=3, rows=4)


class RecordedProgress(list):
    """Progress that records the messages and the number of units done."""

    total = 0

    def say(self, line: str) -> None:
        self.append(line)

    def advance(self, what: str, done: int, fresh: bool = True) -> None:
        self.done = done


def design(**plan) -> Design:
    suite, arms = small_study.suite(), (small_study.ARMS["none"], small_study.ARMS["fear"])
    names = [arm.name for arm in arms]
    return Design(
        suite, JaxBackend, RUN_CONFIG, arms, plan_file.make_plan(suite, RUN_CONFIG, names, **plan)
    )


def run_design(study_design: Design, out, stopped=lambda: False) -> SimpleNamespace:
    progress = RecordedProgress()
    rows = run_comparison(study_design, out, "identity", progress, stopped)
    return SimpleNamespace(rows=rows, progress=progress)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """Study with one sealed family: (design, folder, rows and progress of its run)."""
    study_design, out = design(sealed=["actuator"]), tmp_path_factory.mktemp("sealed") / "study"
    return study_design, out, run_design(study_design, out)


def test_sealed_families_are_scored_in_a_file_of_their_own(sealed):
    study_design, out, result = sealed
    public, hidden = read_scores(out / "scores.csv"), read_scores(out / "sealed.csv")
    families = {
        split: {row["family"] for row in rows} - {"none"}
        for split, rows in (("dev", public), ("sealed", hidden))
    }
    assert families == {"dev": {"dynamics"}, "sealed": {"actuator"}}
    assert len(result.rows) == len(public)
    assert result.progress.done == study_design.units


def test_finished_study_passes_the_audit_and_has_timelines(sealed):
    _, out, _ = sealed
    assert audit.watermark(out) is None
    assert audit.looks_sentence(out) == "dev looks 1, sealed looks 1"
    assert (out / "timelines" / "home.npz").exists() and (out / "timelines" / "away.npz").exists()


def test_running_again_computes_nothing_and_changes_no_file(sealed, monkeypatch):
    study_design, out, _ = sealed
    before = {p: p.read_bytes() for p in out.glob("*") if p.is_file()}
    for name in ("chunk", "score", "timeline"):
        monkeypatch.setattr(JaxBackend, name, lambda *args: pytest.fail("computed again"))
    run_design(study_design, out)
    assert {p: p.read_bytes() for p in out.glob("*") if p.is_file()} == before


def test_plan_changed_after_training_is_reported_and_watermarked(sealed):
    study_design, out, _ = sealed
    plan = out / plan_file.PLAN_FILE
    before = plan.read_text()
    try:
        plan.write_text(before.replace("seeds = 3", "seeds = 4"))
        result = run_design(study_design, out)
        assert any("not as declared: seeds" in line for line in result.progress)
        assert any(
            "not the plan that was entered before training" in line for line in result.progress
        )
        assert "was changed after it was entered" in audit.watermark(out)
    finally:
        plan.write_text(before)


def test_arm_that_trains_in_a_sealed_family_is_refused():
    with pytest.raises(UserError, match="random is sealed .* or leave its arm out"):
        make_design(Settings("CartPole", sealed=("dynamics",)))


def test_sealing_every_family_is_refused():
    families = ("actuator", "dynamics", "sensor")
    with pytest.raises(UserError, match="no public shift is left to score"):
        make_design(Settings("CartPole", sealed=families, without=("random",)))


def test_unknown_sealed_family_is_refused():
    with pytest.raises(UserError, match="unknown sealed family 'sensory'; did you mean sensor"):
        make_design(Settings("CartPole", sealed=("sensory",)))
