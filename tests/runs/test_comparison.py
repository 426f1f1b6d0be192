"""A comparison from its plan to its sealed scores, small."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from runs.analysis.scores import read_scores
from runs.compare import Settings
from runs.compare import design as designed
from runs.engine.comparison import Design, run_comparison
from runs.engine.jax_backend import JaxBackend
from runs.errors import UserError
from runs.prereg import audit, plan_file
from tests.runs import small_study

no_key_check = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)


@pytest.fixture(scope="module", autouse=True)
def in_this_thread():
    """The key check is switched off for a thread, so all is compiled in this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runs.engine.comparison._can_precompile", lambda *args: False)
        yield


CONFIG = replace(small_study.CONFIG, seeds=3, rows=4)


class Said(list):
    """A progress that remembers what was said, and how far it came."""

    total = 0

    def say(self, line: str) -> None:
        self.append(line)

    def advance(self, what: str, done: int, fresh: bool = True) -> None:
        self.done = done


def design(**plan) -> Design:
    suite, arms = small_study.suite(), (small_study.ARMS["none"], small_study.ARMS["fear"])
    names = [arm.name for arm in arms]
    return Design(
        suite, JaxBackend, CONFIG, arms, plan_file.make_plan(suite, CONFIG, names, **plan)
    )


def go(what: Design, out, stopped=lambda: False) -> SimpleNamespace:
    said = Said()
    rows = run_comparison(what, out, "identity", said, stopped)
    return SimpleNamespace(rows=rows, said=said)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """(design, folder, what the run gave): one family is kept back."""
    what, out = design(sealed=["actuator"]), tmp_path_factory.mktemp("sealed") / "study"
    return what, out, go(what, out)


def test_sealed_families_are_scored_after_the_freeze_and_apart(sealed):
    what, out, found = sealed
    public, hidden = read_scores(out / "scores.csv"), read_scores(out / "sealed.csv")
    families = {
        split: {row["family"] for row in rows} - {"none"}
        for split, rows in (("dev", public), ("sealed", hidden))
    }
    assert families == {"dev": {"dynamics"}, "sealed": {"actuator"}}
    assert len(found.rows) == len(public)
    assert found.said.done == what.units


def test_everything_about_it_holds(sealed):
    _, out, _ = sealed
    assert audit.watermark(out) is None
    assert audit.looks_sentence(out) == "dev looks 1, sealed looks 1"
    assert (out / "timelines" / "home.npz").exists() and (out / "timelines" / "away.npz").exists()


def test_run_again_it_computes_and_enters_nothing(sealed, monkeypatch):
    what, out, _ = sealed
    before = {p: p.read_bytes() for p in out.glob("*") if p.is_file()}
    for name in ("chunk", "score", "timeline"):
        monkeypatch.setattr(JaxBackend, name, lambda *args: pytest.fail("computed again"))
    go(what, out)
    assert {p: p.read_bytes() for p in out.glob("*") if p.is_file()} == before


def test_a_plan_that_was_changed_after_training_is_said_and_marked(sealed):
    what, out, _ = sealed
    plan = out / plan_file.PLAN_FILE
    before = plan.read_text()
    try:
        plan.write_text(before.replace("seeds = 3", "seeds = 4"))
        found = go(what, out)
        assert any("not as declared: seeds" in line for line in found.said)
        assert any("not the plan that was entered before training" in line for line in found.said)
        assert "was changed after it was entered" in audit.watermark(out)
    finally:
        plan.write_text(before)


def test_who_trains_in_a_sealed_family_is_refused():
    with pytest.raises(UserError, match="random is sealed .* or leave its arm out"):
        designed(Settings("CartPole", sealed=("dynamics",)))


def test_something_has_to_be_left_to_look_at():
    families = ("actuator", "dynamics", "sensor")
    with pytest.raises(UserError, match="nothing is left to look at in public"):
        designed(Settings("CartPole", sealed=families, without=("random",)))


def test_a_family_that_nothing_has_is_refused():
    with pytest.raises(UserError, match="unknown sealed family 'sensory'; did you mean sensor"):
        designed(Settings("CartPole", sealed=("sensory",)))
