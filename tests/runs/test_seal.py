"""Plan, splits and sealed draw: what each refuses, and what the sealed key depends on."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.analysis.scores import read_scores
from runs.engine.checkpoint import Checkpoints
from runs.prereg import ledger, plan_file, seal
from runs.prereg.plan_file import PLAN_FILE, plan_changes, plan_text, read_plan, score_departures
from runs.prereg.splits import Splits, families, refuse_training_on
from tests.refusal import refusal
from tests.runs import sealed_study
from tests.runs.sealed_study import cartpole, score, sealed_plan, train
from tests.runs.small_study import Killed

SHIFTS = {"ice": "dynamics", "fog": "sensor", "blind_ice": "dynamics|sensor", "flip": "actuator"}


def write_plan(folder: Path, text: str) -> Path:
    (folder / PLAN_FILE).write_text(text)
    return folder / PLAN_FILE


def test_a_plan_comes_back_from_its_file(tmp_path):
    odd = {'a "quoted" <b>\n': "dynamics", "ü.x": "sensor|time", "": "social", "\x7f": "layout"}
    for plan in (
        sealed_plan(sealed=["actuator"], without=["lesion"]),
        replace(sealed_plan(), shifts=odd, severities=(1e-7, 0.1), agent={"lr": 1e20, "on": True}),
    ):
        path = write_plan(tmp_path, plan_text(plan))
        assert read_plan(path) == plan
        assert read_plan(path).hash == plan.hash
    assert sealed_plan().primary == ("fear_constant", "constant_plus")
    assert sealed_plan().worlds == {"none": "none", "random": "dynamics"}


OLD_PLAN = """# Declared before training; see python -m runs.verify.
env = "CartPole"
suite = "abc"
arms = ["none", "constant_plus", "fear_constant"]
without = []
primary = ["fear_constant", "constant_plus"]
secondary = [["fear_constant", "none"]]
seeds = 3
base = 0
steps = 64
episodes = 4
severities = [0.5, 1.0]
sealed = []
version = 1

[shifts]
"ice|fog" = "dynamics|sensor"

[worlds]
none = "none"

[sizes]
chunks = 2

[agent]
kind = "PPO"
lr = 0.001
"""


def test_the_hash_depends_on_the_content_and_not_on_the_layout(tmp_path):
    plan = read_plan(write_plan(tmp_path, OLD_PLAN))
    assert plan.hash == "d0c0d93a201efcf49979fe12df795e27c7f62452ddc7c843de2ab65107f69589"
    for text in (plan_text(plan), "# a remark\n" + plan_text(plan).replace(" = ", "   =  ")):
        assert read_plan(write_plan(tmp_path, text)).hash == plan.hash
    for other in (replace(plan, seeds=4), replace(plan, primary=("fear_constant", "none"))):
        assert other.hash != plan.hash


def test_the_first_plan_stays_and_later_changes_are_named(tmp_path):
    plan = sealed_plan()
    assert seal.register(tmp_path, plan) == []
    other = replace(plan, seeds=20, agent=plan.agent | {"width": 64})
    changes = ["seeds: 3 was declared, 20 run", "agent.width: 8 was declared, 64 run"]
    assert seal.register(tmp_path, other) == plan_changes(plan, other) == changes
    assert read_plan(tmp_path / PLAN_FILE) == plan
    assert len(ledger.read_entries(tmp_path / ledger.NAME)) == 1


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('= ["fear_constant", "constant_plus"]', '= ["hope", "none"]', "unknown arm 'hope'"),
        ('= ["fear_constant", "constant_plus"]', '= [["a", "b"], ["c", "d"]]', "one primary"),
        ('"none"]]', '"fear_constant"]]', "compare two different arms"),
        ("secondary", 'primary = ["fear", "none"]\nsecondary', "not TOML"),
        ('= "dynamics|sensor"', '= "dynamcis"', "did you mean dynamics"),
        ("sealed = []", 'sealed = ["social"]', "social"),
        ("seeds = 3", "seeds = 2", "at least 3"),
        ("seeds = 3\n", "", "lacks the field seeds"),
        ("seeds = 3", "seeds = 3\nsedes = 4", "did you mean seeds"),
        ("version = 1", "version = 0", "of version 0"),
        ('"none", "constant_plus"', '"none", "none", "constant_plus"', "name each arm once"),
        ('["none", "constant_plus", "fear_constant"]', "3", "plan.toml: "),
        ("[sizes]", "[sizes", "not TOML"),
    ],
)
def test_an_inconsistent_plan_is_refused(old, new, named, tmp_path):
    assert old in OLD_PLAN
    assert named in refusal(read_plan, write_plan(tmp_path, OLD_PLAN.replace(old, new, 1)))


def test_the_suite_hash_changes_with_severities_shifts_and_parameters():
    suite = cartpole()
    heavier = jax.tree.map(lambda x: x * 2.0, suite.world.params)
    variants = (
        suite,
        replace(suite, severities=(1.0,)),
        replace(suite, shifts=suite.shifts[:1]),
        replace(suite, world=suite.world._replace(params=heavier)),
    )
    hashes = [plan_file.suite_hash(variant) for variant in variants]
    assert len(set(hashes)) == 4
    assert plan_file.suite_hash(replace(suite)) == hashes[0]


def test_departures_of_the_scores_from_the_plan_are_named(tmp_path):
    plan = sealed_plan()
    score(tmp_path)
    rows = read_scores(tmp_path / "scores.csv")
    short = [row for row in rows if row["arm"] != "random" or row["seed"]]
    lacking = ["points of none: some seeds lack a point or have one twice"]
    for changed, departures in (
        (rows, []),
        (short, ["seeds of random: 3 were declared, 2 scored"]),
        (rows[1:], lacking),
        ([*rows, rows[0]], lacking),
        (rows + [row | {"arm": "magic"} for row in rows], ["arm magic: scored, not declared"]),
        ([row for row in rows if row["shift"] != "flip"], ["shift flip: declared, not scored"]),
    ):
        assert score_departures(plan, changed) == departures
    assert score_departures(plan, short, stopped=[("random", 0)]) == []
    for field, value, departure in (
        ("episodes", 64, "episodes: 64 was declared, 2 scored"),
        ("env", "Drive", 'env: "Drive" was declared, "CartPole" scored'),
    ):
        assert score_departures(replace(plan, **{field: value}), rows) == [departure]


def test_sealed_shifts_are_scored_in_the_sealed_file_alone(tmp_path):
    plan = sealed_plan(sealed=["actuator"])
    score(tmp_path)
    rows = read_scores(tmp_path / "scores.csv")
    public = [row for row in rows if row["shift"] != "flip"]
    sealed = [row for row in rows if row["shift"] != "force"]
    assert score_departures(plan, public) == score_departures(plan, sealed, "sealed") == []
    assert score_departures(plan, rows) == ["shift flip: scored as dev, declared sealed"]
    assert score_departures(plan, rows, "sealed") == ["shift force: scored as sealed, declared dev"]
    assert score_departures(sealed_plan(), rows, "sealed") == []  # new draws of all


def test_compositions_with_a_sealed_family_are_sealed():
    splits = Splits(SHIFTS, {"none": "none"}, ("sensor",))
    assert splits.names("sealed") == ("fog", "blind_ice")
    assert splits.names("dev") == ("ice", "flip")
    assert splits.of("none") == "train"
    assert families(SHIFTS) == ("dynamics", "sensor", "actuator")


@pytest.mark.parametrize(
    ("world", "sealed", "reason"),
    [
        ("ice", (), "world ice is dev (a shift): train in none, random, or leave its arm out"),
        ("ice", ("dynamics",), "world ice is sealed"),
        ("random", ("dynamics",), "its family dynamics is sealed): train in none, or"),
        ("icy", (), "did you mean ice"),
    ],
)
def test_training_on_dev_or_sealed_worlds_is_refused(world, sealed, reason):
    splits = Splits(SHIFTS, {"none": "none", "random": "dynamics"}, sealed)
    refuse_training_on("none", splits)
    assert reason in refusal(refuse_training_on, world, splits)


def test_the_key_depends_on_plan_and_checkpoints_but_not_their_order():
    digest = seal.seal_digest("plan", ["a", "b"])
    assert digest == seal.seal_digest("plan", ["b", "a"])
    assert digest == "ceb3aa281e578e52597826211a7fc7ec3f6676e0a031a2f08858bafb14fe08e2"
    others = [seal.seal_digest("plan 2", ["a", "b"]), seal.seal_digest("plan", ["a", "c"])]
    digests = [digest, digest, *others, digest[:-1] + "0"]
    keys = [jax.random.key_data(seal.seal_key(each)) for each in digests]
    assert jnp.array_equal(keys[0], keys[1])
    assert not any(jnp.array_equal(keys[0], key) for key in keys[2:])


def test_saving_the_same_checkpoints_again_keeps_the_draw(out):
    before = seal.draw_sealed(out)
    train(out)  # again, under other serial numbers and manifests
    assert seal.draw_sealed(out) == before


def test_a_finished_study_may_be_run_again_and_adds_no_entry(out):
    lines = (out / ledger.NAME).read_text()
    sealed_study.study(out)
    assert (out / ledger.NAME).read_text() == lines
    entries = ledger.read_entries(out / ledger.NAME)
    splits = [entry.split for entry in entries]
    assert splits == ["train", "train", "dev", "sealed", "sealed"]
    assert ledger.count_looks([out / ledger.NAME], entries[0].suite) == (1, 1)


def test_nothing_is_drawn_before_all_checkpoints_are_frozen(tmp_path):
    seal.register(tmp_path, sealed_plan())
    train(tmp_path, sealed_study.ARMS[:-1])
    assert "freeze every checkpoint" in refusal(seal.draw_sealed, tmp_path)
    assert "fear_constant has no checkpoint" in refusal(seal.freeze_agents, tmp_path)


def test_a_swapped_checkpoint_is_refused_and_named(out):
    train(out, ["fear"], luck=1.0)
    for call in (seal.draw_sealed, seal.freeze_agents, seal.enter_scores):
        assert "fear was swapped" in refusal(call, out)
    shutil.rmtree(out / "checkpoints" / "fear")
    assert "fear was deleted" in refusal(seal.draw_sealed, out)


def test_a_changed_plan_draws_nothing(out):
    path = out / PLAN_FILE
    path.write_text(path.read_text().replace("base = 0", "base = 1"))
    assert "not the plan that was entered" in refusal(seal.draw_sealed, out)


def test_an_arm_whose_save_was_killed_has_no_checkpoint(tmp_path, monkeypatch):
    """A kill leaves the folder of the arm, which was once taken for its checkpoint."""
    folder = tmp_path / "checkpoints" / "fear"

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", killed)
        with pytest.raises(Killed):
            Checkpoints(folder).save(1, {"x": np.zeros(2)})
    assert folder.is_dir() and not seal.has_checkpoint(tmp_path, "fear")
    Checkpoints(folder).save(1, {"x": np.zeros(2)})
    assert seal.has_checkpoint(tmp_path, "fear") and not seal.has_checkpoint(tmp_path, "none")
