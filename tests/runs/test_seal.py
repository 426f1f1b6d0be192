"""The plan, the splits and the sealed draw: what each refuses, and what the key depends on."""

import dataclasses
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.analysis.scores import read_scores
from runs.errors import UserError
from runs.prereg import ledger, plan_file, seal
from runs.prereg.plan_file import plan_changes, plan_text, read_plan, score_departures
from runs.prereg.splits import families, refuse_training_on, rotations, sealed_score, split
from tests.runs import sealed_study, small_study
from tests.runs.sealed_study import score, sealed_plan, study, train

SHIFTS = {"ice": "dynamics", "fog": "sensor", "blind_ice": "dynamics|sensor", "flip": "actuator"}

# --- the plan -----------------------------------------------------------------------------------


def test_a_plan_comes_back_from_its_file(tmp_path):
    plan = sealed_plan(sealed=["actuator"], without=["lesion"])
    assert plan_file.freeze_plan(tmp_path, plan) == plan
    assert read_plan(tmp_path / plan_file.PLAN_FILE) == plan
    assert read_plan(tmp_path / plan_file.PLAN_FILE).hash == plan.hash
    assert plan.primary == ("fear_constant", "constant_plus")
    assert plan.worlds == {"none": "none", "random": "dynamics"}


def test_the_hash_is_of_what_is_said_not_how(tmp_path):
    path, plan = tmp_path / plan_file.PLAN_FILE, sealed_plan()
    path.write_text("# a remark\n" + plan_text(plan).replace(" = ", "   =  "))
    assert read_plan(path).hash == plan.hash
    for other in (replace(plan, seeds=4), replace(plan, primary=("fear", "none"))):
        assert other.hash != plan.hash


def test_what_was_declared_first_stands_and_changes_are_named(tmp_path):
    plan = sealed_plan()
    plan_file.freeze_plan(tmp_path, plan)
    other = replace(plan, seeds=20, agent=plan.agent | {"width": 64})
    assert plan_file.freeze_plan(tmp_path, other) == plan
    assert plan_changes(plan, other) == [
        "seeds: 3 was declared, 20 run",
        "agent.width: 8 was declared, 64 run",
    ]


def test_odd_names_survive_the_file(tmp_path):
    odd = {'a "quoted" <script>\n': "dynamics", "ü.x": "sensor|time", "": "social"}
    plan = replace(sealed_plan(), shifts=odd)
    assert plan_file.read_plan(_written(tmp_path, plan_text(plan))) == plan


def _written(folder, said):
    (folder / plan_file.PLAN_FILE).write_text(said)
    return folder / plan_file.PLAN_FILE


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"fear_constant", "constant_plus"]', '"hope_constant", "constant_plus"]', "hope_constant"),
        ('= ["fear_constant", "constant_plus"]', '= [["a", "b"], ["c", "d"]]', "one primary"),
        ("secondary", 'primary = ["fear", "none"]\nsecondary', "not TOML"),
        ('force = "dynamics"', 'force = "dynamcis"', "did you mean dynamics"),
        ("sealed = []", 'sealed = ["social"]', "social"),
        ("seeds = 3", "seeds = 2", "at least 3"),
        ("seeds = 3\n", "", "lacks the field seeds"),
        ("seeds = 3", "seeds = 3\nsedes = 4", "did you mean seeds"),
        ("version = 1", "version = 0", "of version 0"),
        ('"fear", "fear_sham"', '"fear", "fear"', "name each arm once"),
        ("[sizes]", "[sizes", "not TOML"),
    ],
)
def test_a_plan_that_does_not_hang_together_is_refused(old, new, named, tmp_path):
    said = plan_text(sealed_plan())
    assert old in said
    path = _written(tmp_path, said.replace(old, new, 1))
    with pytest.raises(UserError, match=named) as caught:
        read_plan(path)
    assert "\n" not in str(caught.value)


def test_a_suite_hash_changes_with_whatever_the_suite_says():
    suite = small_study.suite()
    heavier = jax.tree.map(lambda x: x * 2.0, suite.world.params)
    others = [
        replace(suite, severities=(1.0,)),
        replace(suite, shifts=suite.shifts[:1]),
        replace(
            suite,
            world=suite.world._replace(params=heavier),
        ),
    ]
    hashes = {plan_file.suite_hash(one) for one in (suite, *others)}
    assert len(hashes) == 4
    assert plan_file.suite_hash(small_study.suite()) in hashes


def test_what_was_not_scored_as_planned_is_named_field_by_field(tmp_path):
    plan = sealed_plan()
    score(tmp_path)
    rows = read_scores(tmp_path / "scores.csv")
    assert score_departures(plan, rows) == []
    short = [row for row in rows if row["arm"] != "random" or row["seed"]]
    assert score_departures(plan, short) == ["seeds of random: 3 were declared, 2 scored"]
    assert score_departures(plan, short, stopped=[("random", 0)]) == []
    assert score_departures(plan, rows[1:]) != []
    assert score_departures(plan, [*rows, rows[0]]) == [
        "points of none: some seeds lack a point or have one twice"
    ]
    assert score_departures(replace(plan, episodes=64), rows) == [
        "episodes: 64 was declared, 2 scored"
    ]
    assert "arm magic: scored, not declared" in score_departures(
        plan, rows + [row | {"arm": "magic"} for row in rows]
    )
    unshifted = [row for row in rows if row["shift"] != "flip"]
    assert "shift flip: declared, not scored" in score_departures(plan, unshifted)


def test_sealed_shifts_are_scored_as_such_and_nowhere_else(tmp_path):
    kept = sealed_plan(sealed=["actuator"])
    score(tmp_path)
    rows = read_scores(tmp_path / "scores.csv")
    public = [row for row in rows if row["shift"] != "flip"]
    hidden = [row for row in rows if row["shift"] != "force"]
    assert score_departures(kept, public) == score_departures(kept, hidden, "sealed") == []
    assert score_departures(kept, rows) == ["shift flip: scored as dev, declared sealed"]
    assert score_departures(kept, rows, "sealed") == ["shift force: scored as sealed, declared dev"]
    assert score_departures(sealed_plan(), rows, "sealed") == []  # new draws of all


# --- splits -------------------------------------------------------------------------------------


def test_a_sealed_family_takes_its_compositions_along():
    kept = split(SHIFTS, sealed=["sensor"])
    assert kept.names("sealed") == ("fog", "blind_ice")
    assert kept.names("dev") == ("ice", "flip")
    assert kept.of("none") == "train"


def test_only_training_worlds_are_trained_in():
    worlds = {"none": "none", "random": "dynamics"}
    public, kept = split(SHIFTS, worlds), split(SHIFTS, worlds, ["dynamics"])
    refuse_training_on("none", kept)
    refuse_training_on("random", public)
    for name, splits, why in (
        ("ice", public, "world ice is dev"),
        ("ice", kept, "world ice is sealed"),
        ("random", kept, "its family dynamics is sealed"),
        ("icy", public, "did you mean ice"),
    ):
        with pytest.raises(UserError, match=why) as caught:
            refuse_training_on(name, splits)
        assert "\n" not in str(caught.value)


def test_a_split_cannot_be_changed_and_knows_its_families():
    kept = split(SHIFTS, sealed=["sensor"])
    with pytest.raises(TypeError):
        kept.shifts["fog"] = "dynamics"
    with pytest.raises(dataclasses.FrozenInstanceError):
        kept.sealed = ()
    with pytest.raises(UserError, match="unknown family"):
        split(SHIFTS, sealed=["sensors"])


def test_every_family_takes_its_turn():
    assert [turn.sealed for turn in rotations(SHIFTS)] == [
        ("dynamics",),
        ("sensor",),
        ("actuator",),
    ]
    assert families(SHIFTS) == ("dynamics", "sensor", "actuator")


def test_the_sealed_score_is_the_mean_over_rotations():
    scores = {
        "dynamics": {"ice": 0.2, "blind_ice": 0.4, "fog": 100.0},
        "sensor": {"fog": 0.6, "blind_ice": 0.0},
        "actuator": {"flip": 0.9},
    }
    assert sealed_score(scores, SHIFTS) == pytest.approx((0.3 + 0.3 + 0.9) / 3)
    del scores["sensor"]["fog"]
    with pytest.raises(UserError, match="rotation sensor: fog"):
        sealed_score(scores, SHIFTS)


# --- the draw -----------------------------------------------------------------------------------


def test_the_key_depends_on_the_plan_and_every_checkpoint_and_on_no_order():
    drawn = seal.seal_digest("plan", ["a", "b"])
    assert drawn == seal.seal_digest("plan", ["b", "a"])
    others = [seal.seal_digest("plan 2", ["a", "b"]), seal.seal_digest("plan", ["a", "c"])]
    assert len({drawn, *others}) == 3
    assert drawn == "ceb3aa281e578e52597826211a7fc7ec3f6676e0a031a2f08858bafb14fe08e2"
    keys = [jax.random.key_data(seal.seal_key(each)) for each in (drawn, drawn, *others)]
    assert jnp.array_equal(keys[0], keys[1])
    assert not any(jnp.array_equal(keys[0], key) for key in keys[2:])
    assert not jnp.array_equal(keys[0], jax.random.key_data(seal.seal_key(drawn[:-1] + "0")))
    assert 0 <= seal.host_seed(drawn) < 2**31


def test_saving_the_same_numbers_again_draws_nothing_else(tmp_path):
    study(tmp_path)
    before = seal.draw_sealed(tmp_path)
    train(tmp_path)  # again, under other serial numbers and manifests
    assert seal.draw_sealed(tmp_path) == before


def test_an_honest_study_draws_and_may_be_gone_on_with(tmp_path):
    study(tmp_path)
    lines = (tmp_path / ledger.NAME).read_text()
    study(tmp_path)
    assert (tmp_path / ledger.NAME).read_text() == lines
    splits = [entry.split for entry in ledger.read_entries(tmp_path / ledger.NAME)]
    assert splits == ["train", "train", "dev", "sealed", "sealed"]
    assert ledger.count_looks([tmp_path / ledger.NAME]) == (1, 1)


def test_nothing_is_drawn_before_everything_is_frozen(tmp_path):
    seal.register(tmp_path, sealed_plan())
    train(tmp_path, sealed_study.ARMS[:-1])
    with pytest.raises(UserError, match="freeze every checkpoint"):
        seal.draw_sealed(tmp_path)
    with pytest.raises(UserError, match="fear_constant has no checkpoint"):
        seal.freeze_agents(tmp_path)


def test_a_swapped_checkpoint_is_refused_and_named(tmp_path):
    study(tmp_path)
    train(tmp_path, ["fear"], luck=1.0)
    for act in (seal.draw_sealed, seal.freeze_agents, seal.enter_scores):
        with pytest.raises(UserError, match="fear was swapped") as caught:
            act(tmp_path)
        assert "\n" not in str(caught.value)
    shutil.rmtree(tmp_path / "checkpoints" / "fear")
    with pytest.raises(UserError, match="fear was deleted"):
        seal.draw_sealed(tmp_path)


def test_a_changed_plan_draws_nothing(tmp_path):
    study(tmp_path)
    path = tmp_path / plan_file.PLAN_FILE
    path.write_text(path.read_text().replace("base = 0", "base = 1"))
    with pytest.raises(UserError, match="not the plan that was entered"):
        seal.draw_sealed(tmp_path)


def test_another_plan_for_the_same_study_is_said(tmp_path):
    study(tmp_path)
    assert seal.register(tmp_path, replace(sealed_plan(), seeds=5)) == [
        "seeds: 3 was declared, 5 run"
    ]


def test_the_sealed_worlds_are_those_of_the_key(tmp_path):
    suite = small_study.suite()
    shifted = replace(suite, shifts=suite.shifts[:1])
    key = seal.seal_key(seal.seal_digest("plan", ["a"]))
    one, other = (shifted.worlds(jax.random.clone(key), 2) for _ in range(2))
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), one, other)
    assert all(jax.tree.leaves(same))
