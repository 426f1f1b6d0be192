"""Tuning and claims: trials, chosen numbers, verdicts on tables made by hand, tables from files."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from envs.normalised import Normalised
from envs.world import World
from runs.cli.study import study_folder
from runs.errors import UserError
from runs.inherit import COMMAND, Settings
from runs.inheritance.carriers import CopiedPolicy
from runs.inheritance.choices import (
    Choices,
    choices_csv,
    choose_numbers,
    planned_newborns,
    read_choices,
    tried,
    tune,
)
from runs.inheritance.claims import Arm, Claim, arms_of, make_claims, verdicts
from runs.inheritance.design import CONSTANT, VALUE, make_design
from runs.inheritance.homes import HOMES, Place
from runs.inheritance.page import gains_table
from runs.inheritance.table import GivenArm, differences, place_named, read_arms
from runs.inheritance.tuning import Choice, best_trials, choose, stages, trials
from runs.scale.grid import Range
from tests.refusal import refused
from tests.runs.study_job import table_rows

KNOBS = {"scale": Range(0.25, 4.0, log=True), "shift": Range(-1.0, 1.0), "horizon": (10, 20, 50)}


# --- tuning ---------------------------------------------------------------------------------------


def test_the_first_trial_is_the_middle_and_all_lie_in_the_intervals():
    points = trials(KNOBS, 24)
    assert len(points) == 24
    assert points[0] == {"scale": pytest.approx(1.0), "shift": 0.0, "horizon": 20}
    for point in points:
        assert 0.25 <= point["scale"] <= 4 and -1 <= point["shift"] <= 1
        assert point["horizon"] in (10, 20, 50)
    assert points == trials(KNOBS, 24)


def test_numbers_that_are_fixed_are_not_tuned():
    points = trials(KNOBS, 8, {"scale": 3.0, "horizon": 50.0})
    assert {point["scale"] for point in points} == {3.0}
    assert {point["horizon"] for point in points} == {50.0}
    assert len({point["shift"] for point in points}) == 8
    assert trials({}, 8) == [{}] and trials(KNOBS, 8, dict.fromkeys(KNOBS, 1.0)) == [
        dict.fromkeys(KNOBS, 1.0)
    ]


def test_the_best_mean_is_chosen_and_a_failed_newborn_counts_as_0():
    points = [{"shift": -1.0}, {"shift": 0.0}, {"shift": 0.5}]
    areas = np.array([[0.5, 0.5], [np.nan, 0.9], [0.4, 0.5]])
    choice = choose(points, areas, {"shift": Range(-1.0, 1.0)}, tried=3)
    assert choice == Choice({"shift": -1.0}, 0.5, 3, ("shift",))


def test_a_third_of_the_trials_goes_on_after_a_quarter_and_half_of_the_newborns():
    assert stages(24, range(8)) == [(24, range(0, 2)), (8, range(2, 4)), (3, range(4, 8))]
    assert stages(8, range(8)) == [(8, range(0, 2)), (3, range(2, 4)), (1, range(4, 8))]
    assert stages(1, range(8)) == [(1, range(8))]  # nothing to choose
    assert stages(2, range(2)) == [(2, range(0, 1)), (1, range(1, 2))]


def test_the_best_trials_keep_their_order_and_a_failed_newborn_counts_as_0():
    areas = np.array([[0.2, 0.4], [0.5, np.nan], [0.9, 0.1], [0.0, 0.6]])
    assert best_trials(areas, 2).tolist() == [0, 2]
    assert best_trials(areas, 1).tolist() == [2]


class ScoredRun:
    """Stands for a run whose newborns have the area that their shift says."""

    def __init__(self, design):
        self.design, self.raised, self.cells = design, [], []

    def raise_cell(self, step: str, cell, source: int) -> pd.DataFrame:
        self.raised.append((step, len(cell.trials), len(cell.newborns)))
        self.cells.append(cell)
        return pd.DataFrame(
            {
                "trial": i,
                "pair": pair,
                "place": place.name,
                "area": 1 - abs(t.get("shift", 0) - 1.0),
            }
            for i, t in enumerate(cell.trials)
            for pair, place in cell.newborns
        )


def test_tuning_finds_the_best_trial_through_all_stages():
    design = make_design(Settings(seeds=3))
    run = ScoredRun(design)
    choice, areas = tune(run, "value", "own", None)
    _, points = tried(design, "value", "own", None)
    best = min(points, key=lambda point: abs(point["shift"] - 1.0))
    assert choice.numbers == best and choice.tried == 24
    assert areas.tolist() == [pytest.approx(choice.score)] * 8
    assert run.raised == [("chosen 1", 24, 2), ("chosen 2", 8, 2), ("chosen 3", 3, 4)]


def test_every_carrier_gets_as_many_trials_and_other_bodies_choose_scale_and_shift_again():
    design = make_design(Settings(seeds=3))
    for name, carrier in design.carriers.items():
        _, points = tried(design, name, "own", None)
        assert len(points) == (24 if carrier.knobs else 1), name
    own = Choice({"scale": 2.0, "shift": -1.0, "horizon": 20.0}, 0.5, 24, ())
    _, points = tried(design, "hope", "16 units", own)
    assert len(points) == 8 and {point["horizon"] for point in points} == {20.0}
    assert len({point["scale"] for point in points}) == 8
    _, points = tried(design, "value", "A2C", Choice({"scale": 2.0, "shift": -1.0}, 0.5, 24, ()))
    assert len(points) == 24 and {"lr", "entropy", "scale", "shift"} == set(points[0])


# --- claims ---------------------------------------------------------------------------------------


def chosen_everywhere(design) -> Choices:
    """Choices in which every carrier has the score of its place in the list."""
    names = list(design.carriers)
    cells = [(name, body) for body in design.bodies for name in design.carriers_in(body)]
    scores = {cell: Choice({}, names.index(cell[0]) / 100, 1, ()) for cell in cells}
    return Choices(0.0, scores, dict.fromkeys(cells, np.arange(8.0)), {})


def test_the_claims_name_the_best_carrier_without_value_of_each_body():
    design = make_design(Settings(seeds=3))
    choices = chosen_everywhere(design)
    claims = make_claims(design, choices)
    assert [claim.title for claim in claims] == [
        "own: value less own: constant potential",
        "other bodies: value less other bodies: best other carrier",
        "permuted: trunk + critic + value less permuted: trunk + critic + constant",
        "own: small value less own: value",
    ]
    assert claims[1].arm.cells == tuple(("value", body) for body in design.claimed)
    weights = [name for name, carrier in design.carriers.items() if carrier.knows == "weights"]
    assert {carrier for carrier, _ in claims[1].reference.cells} == {weights[-1]}
    names = list(design.carriers)
    gain = (names.index("value") - names.index("constant potential")) / 100
    assert claims[3].margin == pytest.approx(0.2 * gain)


def claim(name: str, margin: float | None = None) -> Claim:
    """A claim of an arm of this name, less the arm `base`."""
    return Claim(Arm(name, ()), Arm("base", ()), "", "", margin)


def table_of(**areas: np.ndarray) -> pd.DataFrame:
    """Table of newborns of arms in two worlds, of these areas [pairs]."""
    rows = [
        {"arm": arm, "pair": pair, "place": place, "area": area + off}
        for arm, values in areas.items()
        for pair, area in enumerate(values)
        for place, off in (("a", -0.1), ("b", 0.1))
    ]
    return pd.DataFrame(rows)


def test_verdicts_are_paired_and_adjusted_together():
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.2, 20)  # pairs differ more than arms do
    table = table_of(
        base=base,
        better=base + rng.normal(0.05, 0.02, 20),
        worse=base - rng.normal(0.05, 0.02, 20),
        same=base + rng.normal(0.0, 0.005, 20),
    )
    claims = [claim("better"), claim("worse"), claim("same"), claim("same", 0.02)]
    results = verdicts(claims, table)
    assert [verdict.holds for verdict in results] == [True, False, False, True]
    assert results[0].contrast.estimate.value == pytest.approx(0.05, abs=0.01)
    means = table.groupby("arm")["area"].mean()
    assert results[1].areas == pytest.approx((means["worse"], means["base"]))
    assert results[0].contrast.p_holm >= results[0].contrast.p_value
    inconclusive = verdicts([claim("same", -0.1)], table)[0]
    assert not inconclusive.holds and inconclusive.contrast.p_value == 1.0
    assert set(arms_of(claims)) == {"base", "better", "worse", "same"}
    lost = table_of(base=base, better=np.full(20, np.nan))
    with pytest.raises(UserError, match="better less base: fewer than 3 pairs have finite areas"):
        verdicts([claim("better")], lost)


def test_bodies_whose_heads_sense_more_than_the_newborn_are_named_so():
    design = make_design(Settings(seeds=3))
    rows = [
        {"part": "bodies", "body": body, "carrier": carrier, "pair": pair, "area": area + pair}
        for body in ("16 units", "noisy", "no closing speeds")
        for carrier, area in ((CONSTANT, 0.2), (VALUE, 0.5))
        for pair in range(3)
    ]
    text = gains_table(design, pd.DataFrame(rows).assign(place="Timid"))
    assert "noisy (extra information)" in text and "no closing speeds (extra" in text
    assert "16 units (" not in text and "+0.300 [+0.300, +0.300]" in text


# --- carriers of a user ---------------------------------------------------------------------------

MINE = """
from runs.inheritance.carrier import Carrier, Range

class Mine(Carrier):
    knobs = {"shift": Range(-1.0, 1.0)}
    pays, knows = "potential", "value"

    def phi(self, inherited, numbers, obs):
        return inherited.value(obs) + numbers["shift"]

class NotOne:
    pass
"""


def test_a_carrier_of_a_user_is_claimed_against_controls_and_the_value(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    design = make_design(Settings(seeds=3, carrier=f"{tmp_path}/mine.py:Mine"))
    assert design.tested == "mine" and "mine" in design.carriers_in("16 units")
    assert {"constant potential", "value", "policy", "mine"} <= set(design.carriers)
    assert not {"hope", "HuRL", "small value"} & set(design.carriers)
    claims = make_claims(design, chosen_everywhere(design))
    assert [claim.title for claim in claims] == [
        "own: mine less own: constant potential",
        "other bodies: mine less other bodies: best other carrier",
        "own: mine less own: value",
    ]
    mine = CopiedPolicy()  # weights of one's own are no rival of themselves
    design = replace(design, carriers={**design.carriers, "mine": mine})
    rivals = make_claims(design, chosen_everywhere(design))[1].reference.cells
    assert "mine" not in {carrier for carrier, _ in rivals}


def test_a_head_or_a_file_of_a_user_becomes_a_potential(tmp_path):
    design = make_design(Settings(seeds=3, heads=("hope-30",)))
    assert design.tested == "hope_30" and "hope_30" in design.blend.names
    design = make_design(Settings(seeds=3, from_file="zoo:drive-value-2x4"))
    assert design.tested == "drive-value-2x4"
    head = design.carriers["drive-value-2x4"].init(None, np.zeros((1, 37)))
    assert head.origin.spec.obs_dim == 37


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"carrier": "nowhere.py:Mine"}, "no such file nowhere.py; write it as mine.py:Mine"),
        ({"carrier": "{}/mine.py:NotOne"}, "expected a class of runs.inheritance.carrier.Carrier"),
        ({"carrier": "{}/mine.py:Other"}, "has no class or function 'Other'"),
        ({"from_file": "zoo:drive"}, "the zoo has no 'drive'"),
        ({"from_file": "zoo:cartpole-value"}, "reads 4 numbers, and here are 37"),
        ({"env": "CartPole"}, "expected one of Drive"),
    ],
)
def test_what_cannot_be_inherited_is_refused_in_one_line(tmp_path, settings, message):
    (tmp_path / "mine.py").write_text(MINE)
    settings = {name: value.format(tmp_path) for name, value in settings.items()}
    with pytest.raises(UserError, match=message):
        make_design(Settings(seeds=3, **settings))


# --- tables from files ----------------------------------------------------------------------------


def test_tables_of_the_examples_can_be_read(tmp_path):
    design = make_design(Settings(seeds=8))
    from pathlib import Path

    for path in sorted((Path(__file__).parents[2] / "examples/inherit").glob("*.yaml")):
        arms = read_arms(path, design)
        assert len(arms) >= 10 and all(arm.cell.count >= 16 for arm in arms), path
    assert place_named("cones 0.75", design) == Place("Drive", "cones", 0.75)
    assert place_named("Timid", design) == Place("Timid")


def test_arms_of_a_table_are_compared_pair_by_pair():
    arms = [GivenArm("a", 0, None, "b"), GivenArm("c", 0, None, "b"), GivenArm("b", 0, None)]
    rows = [
        {"arm": arm, "place": place, "pair": pair, "area": pair + gain * (place == "cross")}
        for arm, gain in (("a", 0.25), ("b", 0.0))
        for place in ("Timid", "cross")
        for pair in range(3)
    ]
    text = differences(arms[:2], pd.DataFrame(rows), ["Timid", "cross"])
    _, a, c = table_rows(text)
    assert a == ["a", "b", "+0.000 [+0.000, +0.000]", "+0.250 [+0.250, +0.250]"]
    assert c == ["c", "b", "-", "-"]  # impossible: no newborn


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("arms:\n  a: {carrier: valu}", "unknown .* carrier 'valu'; did you mean value?"),
        (
            "arms:\n  a: {carrier: value, numbers: {scale: 1}}",
            "expected those of value: scale, shift",
        ),
        ("arms:\n  a: {body: 17 units}", "unknown .* body '17 units'; did you mean 16 units?"),
        ("arms:\n  a: {wight: 1}", "unknown .* field 'wight'"),
        ("arms:\n  a: {less: b}\n  c: {}", "a: less 'b'; there are c"),
        ("arms: {}\nmore: 1", "expected the keys worlds, pairs, arms"),
    ],
)
def test_a_table_that_is_wrong_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "table.yaml"
    path.write_text(f"worlds: [Timid]\npairs: 3\n{change}\n")
    with pytest.raises(UserError, match=message):
        read_arms(path, make_design(Settings(seeds=3)))


def test_a_table_that_is_missing_or_no_yaml_is_refused(tmp_path):
    path, design = tmp_path / "table.yaml", make_design(Settings(seeds=3))
    with pytest.raises(UserError, match=r"table.yaml: no such file or directory$"):
        read_arms(path, design)
    path.write_text("worlds: [")
    with pytest.raises(UserError, match="is not YAML"):
        read_arms(path, design)


@pytest.mark.parametrize(
    ("world", "message"),
    [
        ("crass", "unknown world 'crass'; did you mean cross"),
        ("cross much", "severity as a number"),
    ],
)
def test_a_world_that_does_not_exist_is_refused(world, message):
    with pytest.raises(UserError, match=message):
        place_named(world, make_design(Settings(seeds=3)))


# --- choices as a file ----------------------------------------------------------------------------


def some_choices() -> Choices:
    """Choices of two carriers, one of which has failed newborns."""
    chosen = {
        ("value", "own"): Choice({"scale": 1.5, "shift": -1.0}, 0.625, 24, ("scale", "shift")),
        ("none", "16 units"): Choice({}, 0.25, 1, ()),
    }
    areas = {("value", "own"): np.array([0.5, np.nan]), ("none", "16 units"): np.array([0.25, 0.0])}
    return Choices(1.0, chosen, areas, {})


def test_choices_come_back_from_their_file_and_are_not_chosen_again(tmp_path):
    path, design = tmp_path / "choices.csv", make_design(Settings(seeds=3))
    path.write_text(choices_csv(some_choices()))
    known = read_choices(path, design)
    assert known.base == 1.0 and known.chosen == some_choices().chosen
    for cell, areas in some_choices().areas.items():
        np.testing.assert_array_equal(known.areas[cell], areas)
    every = planned_newborns(design, ["own"])
    assert planned_newborns(design, ["own"], known) == every - 16 - (24 * 2 + 8 * 2 + 3 * 4)
    run = ScoredRun(design)
    run.misfit = lambda carrier, body: ""
    choices = choose_numbers(run, ["own"], known)
    assert choices.chosen["value", "own"] == known.chosen["value", "own"] and run.base == 1.0
    assert all(cell.carrier != "value" for cell in run.cells)
    assert {name for name, body in choices.chosen if body == "own"} == set(design.carriers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("carrier,body\nvalue,own\n", "is no table of choices"),
        (
            choices_csv(some_choices()).replace('""scale"": 1.5, ', ""),
            "numbers shift, expected sca",
        ),
        (choices_csv(some_choices()).replace("{}", "{"), "is no table of choices"),
    ],
)
def test_a_broken_file_of_choices_is_refused_in_one_line(tmp_path, content, message):
    path, design = tmp_path / "choices.csv", make_design(Settings(seeds=3))
    if content is not None:
        path.write_text(content)
    with refused(UserError, match=message):
        read_choices(path, design)


def test_the_claims_alone_and_all_of_a_study_are_in_one_folder():
    folders = {study_folder(Settings(parts=parts), COMMAND) for parts in ("claims", "both")}
    assert len(folders) == 1
    assert study_folder(Settings(base=1), COMMAND) not in folders


# --- homes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOMES)
def test_sealed_shifts_are_in_no_public_suite_of_a_home(name):
    if ":" in name:
        pytest.importorskip(name.partition(":")[0])
    home = HOMES[name]
    sealed = home.sealed_shifts(name)
    public = {(place.suite, place.shift) for place in (*home.dev, *home.shown)}
    suites = home.suites()
    assert sealed and not sealed.keys() & {shift.name for shift in suites[name].shifts}
    for suite, shift in public:
        assert shift == "none" or shift in {s.name for s in suites[suite].shifts}
    assert {s.name for s in home.sealed_suite(name, "0" * 64).shifts} == sealed.keys()


def test_a_normalised_environment_pays_in_units_and_grades_returns():
    env = HOMES["Acrobot"].suites()["Acrobot"].env
    returns = np.array([-5.5, -2.85, -0.7, -0.5])
    np.testing.assert_allclose(env.success(returns, np.zeros(4)), [0, 0.5, 1, 1], atol=1e-6)
    plain = env.env
    state, forward = plain.reset(jax.random.key(0), World(env.default_params)), jnp.array(2)
    steps = [e.step(jax.random.key(1), state, forward)[1] for e in (env, plain)]
    scaled, reference = steps
    assert float(scaled.reward) == pytest.approx(float(reference.reward) / 100)
    np.testing.assert_array_equal(scaled.next_obs, reference.next_obs)
    with pytest.raises(ValueError, match="expected a unit above 0 and low < high"):
        Normalised(plain, 0.0, -500.0, -70.0)
