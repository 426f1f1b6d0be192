"""Studies killed at random times, and a ledger killed at each file operation, come back whole."""

import io
import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from runs.prereg import ledger, seal
from runs.prereg.audit import watermark
from runs.prereg.manifest import check_kept, enter_manifest, problems
from runs.prereg.plan_file import Plan
from tests.faults.bench import LONGEST, end, report, results, start, stop, tries
from tests.runs import sealed_study, test_compare
from tests.runs.small_study import Killed

ARMS, SLOW = ("none", "fear"), pytest.mark.slow
OPERATIONS = [(os, "replace"), (os, "fsync"), (io, "open"), (os, "unlink"), (Path, "write_bytes")]
STUDIES = {
    "compare": test_compare.WITHOUT,  # in the flagship world, Drive
    "validity": ("--env", "CartPole"),
    "reward_free": ("--env", "CartPole"),
    "continual": ("--env", "CartPole"),
    "inherit": (),
    "evolve": (),
}


def declare_and_enter(out: Path, plan: Plan) -> None:
    """All that a study enters in its ledger, as its command does when it is begun or resumed."""
    out.mkdir(exist_ok=True)
    check_kept(out)
    seal.check_scores(out)
    seal.register(out, plan)
    if not (out / "checkpoints").exists():
        shutil.copytree(out.parent / "trained", out / "checkpoints")
    seal.freeze_agents(out)
    sealed_study.score(out, arms=ARMS)
    seal.enter_scores(out)
    seal.draw_sealed(out)
    sealed_study.score(out, "sealed.csv", ARMS, better=0.1)
    seal.enter_scores(out, "sealed")
    enter_manifest(out)


class KilledAt:
    """Kills the process at a file operation, by an exception that nothing handles; 0 for never."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int):
        self.number, self.done = number, 0
        for owner, name in OPERATIONS:
            patch.setattr(owner, name, self.counted(getattr(owner, name), name))

    def counted(self, real, name):
        def call(*args, **kwargs):
            if name != "open" or {"a", "w"} & set(str(args[1:])):  # reading changes nothing
                self.done += 1
                if self.done == self.number:
                    raise Killed
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize(
    ("stride", "torn"),
    [(17, False), pytest.param(1, False, marks=SLOW), pytest.param(1, True, marks=SLOW)],
)
def test_a_ledger_killed_at_each_file_operation_is_completed(
    stride, torn, tmp_path, monkeypatch, record_property
):
    monkeypatch.setattr(ledger, "code_version", lambda: (None, None))
    plan = sealed_study.sealed_plan(ARMS)
    sealed_study.train(tmp_path, ARMS)
    (tmp_path / "checkpoints").rename(tmp_path / "trained")
    with monkeypatch.context() as patch:
        counter = KilledAt(patch, 0)
        declare_and_enter(tmp_path / "whole", plan)
    assert counter.done > 50
    for number in range(1, counter.done + 1, stride):
        out = tmp_path / f"study-{number}"
        with monkeypatch.context() as patch:
            KilledAt(patch, number)
            with pytest.raises(Killed):
                declare_and_enter(out, plan)
        if torn and (out / ledger.NAME).exists():
            with (out / ledger.NAME).open("a") as file:
                file.write('{"index": ')
        declare_and_enter(out, plan)
        assert ledger.problems(out / ledger.NAME) == problems(out) == [], number
        splits = [entry.split for entry in ledger.read_entries(out / ledger.NAME)]
        assert splits == ["train", "train", "dev", "sealed", "sealed", "files"]
    assert watermark(out) is None
    times = len(range(0, counter.done, stride))
    report(record_property, "kills of a ledger at its file operations", times)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_a_killed_study_ends_as_one_that_was_not(study, tmp_path, record_property):
    if study == "evolve":
        pytest.importorskip("cma")
    argv = f"runs.{study}", "--smoke", *STUDIES[study], "--out"
    begun = end(start(*argv, tmp_path / "whole"))
    assert begun.code == 0, begun.err
    rng, out, kills = random.Random(study), tmp_path / "killed", 0
    while kills < tries(20):
        ended = stop(start(*argv, out), signal.SIGKILL, rng.uniform(1, LONGEST))
        kills += ended.code == -signal.SIGKILL
        assert "Traceback" not in ended.err
        if ended.code == 0:  # it is complete: the next kills are of another
            assert results(out) == results(tmp_path / "whole")
            shutil.rmtree(out)
    last = end(start(*argv, out))
    assert last.code == 0, last.err
    assert results(out) == results(tmp_path / "whole")
    report(record_property, f"kills of runs.{study} at random times", kills)
