"""Plan, splits and sealed draw: what each refuses, and what the sealed key depends on."""

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


def test_the_hash_does_not_depend_on_comments_and_layout(tmp_path):
    path, plan = tmp_path / plan_file.PLAN_FILE, sealed_plan()
    path.write_text("# a remark\n" + plan_text(plan).replace(" = ", "   =  "))
    assert read_plan(path).hash == plan.hash
    for other in (replace(plan, seeds=4), replace(plan, primary=("fear", "none"))):
        assert other.hash != plan.hash


def test_the_first_plan_stays_and_later_changes_are_named(tmp_path):
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
    assert plan_file.read_plan(_write_plan(tmp_path, plan_text(plan))) == plan


def _write_plan(folder, text):
    (folder / plan_file.PLAN_FILE).write_text(text)
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
def test_an_inconsistent_plan_is_refused(old, new, named, tmp_path):
    text = plan_text(sealed_plan())
    assert old in text
    path = _write_plan(tmp_path, text.replace(old, new, 1))
    with pytest.raises(UserError, match=named) as caught:
        read_plan(path)
    assert "\n" not in str(caught.value)


def test_the_suite_hash_changes_with_severities_shifts_and_parameters():
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
    hashes = {plan_file.suite_hash(variant) for variant in (suite, *others)}
    assert len(hashes) == 4
    assert plan_file.suite_hash(small_study.suite()) in hashes


def test_departures_of_the_scores_from_the_plan_are_named(tmp_path):
    plan = sealed_plan()
    score(tmp_path)
    rows = read_scores(tmp_path / "scores.csv")
    assert score_departures(plan, rows) == []
    without_a_seed = [row for row in rows if row["arm"] != "random" or row["seed"]]
    assert score_departures(plan, without_a_seed) == ["seeds of random: 3 were declared, 2 scored"]
    assert score_departures(plan, without_a_seed, stopped=[("random", 0)]) == []
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


def test_sealed_shifts_are_scored_in_the_sealed_file_alone(tmp_path):
    sealing_plan = sealed_plan(sealed=["actuator"])
    score(tmp_path)
    rows = read_scores(tmp_path / "scores.csv")
    public_rows = [row for row in rows if row["shift"] != "flip"]
    sealed_rows = [row for row in rows if row["shift"] != "force"]
    assert (
        score_departures(sealing_plan, public_rows)
        == score_departures(sealing_plan, sealed_rows, "sealed")
        == []
    )
    assert score_departures(sealing_plan, rows) == ["shift flip: scored as dev, declared sealed"]
    assert score_departures(sealing_plan, rows, "sealed") == [
        "shift force: scored as sealed, declared dev"
    ]
    assert score_departures(sealed_plan(), rows, "sealed") == []  # new draws of all


# --- splits -------------------------------------------------------------------------------------


def test_compositions_with_a_sealed_family_are_sealed():
    splits = split(SHIFTS, sealed=["sensor"])
    assert splits.names("sealed") == ("fog", "blind_ice")
    assert splits.names("dev") == ("ice", "flip")
    assert splits.of("none") == "train"


def test_training_on_dev_or_sealed_worlds_is_refused():
    worlds = {"none": "none", "random": "dynamics"}
    open_splits, sealed_splits = split(SHIFTS, worlds), split(SHIFTS, worlds, ["dynamics"])
    refuse_training_on("none", sealed_splits)
    refuse_training_on("random", open_splits)
    for name, splits, reason in (
        ("ice", open_splits, "world ice is dev"),
        ("ice", sealed_splits, "world ice is sealed"),
        ("random", sealed_splits, "its family dynamics is sealed"),
        ("icy", open_splits, "did you mean ice"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            refuse_training_on(name, splits)
        assert "\n" not in str(caught.value)


def test_a_split_is_immutable_and_refuses_unknown_families():
    splits = split(SHIFTS, sealed=["sensor"])
    with pytest.raises(TypeError):
        splits.shifts["fog"] = "dynamics"
    with pytest.raises(dataclasses.FrozenInstanceError):
        splits.sealed = ()
    with pytest.raises(UserError, match="unknown family"):
        split(SHIFTS, sealed=["sensors"])


def test_rotations_seal_each_family_once():
    assert [splits.sealed for splits in rotations(SHIFTS)] == [
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


def test_the_key_depends_on_plan_and_checkpoints_but_not_their_order():
    digest = seal.seal_digest("plan", ["a", "b"])
    assert digest == seal.seal_digest("plan", ["b", "a"])
    others = [seal.seal_digest("plan 2", ["a", "b"]), seal.seal_digest("plan", ["a", "c"])]
    assert len({digest, *others}) == 3
    assert digest == "ceb3aa281e578e52597826211a7fc7ec3f6676e0a031a2f08858bafb14fe08e2"
    keys = [jax.random.key_data(seal.seal_key(other)) for other in (digest, digest, *others)]
    assert jnp.array_equal(keys[0], keys[1])
    assert not any(jnp.array_equal(keys[0], key) for key in keys[2:])
    assert not jnp.array_equal(keys[0], jax.random.key_data(seal.seal_key(digest[:-1] + "0")))
    assert 0 <= seal.host_seed(digest) < 2**31


def test_saving_the_same_checkpoints_again_keeps_the_draw(tmp_path):
    study(tmp_path)
    before = seal.draw_sealed(tmp_path)
    train(tmp_path)  # again, under other serial numbers and manifests
    assert seal.draw_sealed(tmp_path) == before


def test_a_finished_study_may_be_run_again_and_adds_no_entry(tmp_path):
    study(tmp_path)
    lines = (tmp_path / ledger.NAME).read_text()
    study(tmp_path)
    assert (tmp_path / ledger.NAME).read_text() == lines
    splits = [entry.split for entry in ledger.read_entries(tmp_path / ledger.NAME)]
    assert splits == ["train", "train", "dev", "sealed", "sealed"]
    assert ledger.count_looks([tmp_path / ledger.NAME]) == (1, 1)


def test_nothing_is_drawn_before_all_checkpoints_are_frozen(tmp_path):
    seal.register(tmp_path, sealed_plan())
    train(tmp_path, sealed_study.ARMS[:-1])
    with pytest.raises(UserError, match="freeze every checkpoint"):
        seal.draw_sealed(tmp_path)
    with pytest.raises(UserError, match="fear_constant has no checkpoint"):
        seal.freeze_agents(tmp_path)


def test_a_swapped_checkpoint_is_refused_and_named(tmp_path):
    study(tmp_path)
    train(tmp_path, ["fear"], luck=1.0)
    for call in (seal.draw_sealed, seal.freeze_agents, seal.enter_scores):
        with pytest.raises(UserError, match="fear was swapped") as caught:
            call(tmp_path)
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


def test_registering_another_plan_returns_its_differences(tmp_path):
    study(tmp_path)
    assert seal.register(tmp_path, replace(sealed_plan(), seeds=5)) == [
        "seeds: 3 was declared, 5 run"
    ]


def test_the_same_sealed_key_draws_the_same_worlds(tmp_path):
    suite = small_study.suite()
    shifted = replace(suite, shifts=suite.shifts[:1])
    key = seal.seal_key(seal.seal_digest("plan", ["a"]))
    first, second = (shifted.worlds(jax.random.clone(key), 2) for _ in range(2))
    equal = jax.tree.map(lambda a, b: np.array_equal(a, b), first, second)
    assert all(jax.tree.leaves(equal))
