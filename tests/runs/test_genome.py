"""Genomes: fits and bytes, one form for all, sizes of the study, results, formula, command."""

import re
from dataclasses import replace
from functools import cache, partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from affect import Spec, distil
from agents import PPO
from agents.body import Body
from envs.worlds.drive.drive import Drive
from envs.worlds.drive.sensors import SENSES
from runs.describe import describe
from runs.errors import UserError
from runs.genome import Settings, main
from runs.genomes.distilled import (
    CommonForm,
    Distillations,
    Genome,
    common_form,
    distil_all,
    with_senses,
)
from runs.genomes.newborns import (
    FORTY,
    PERMUTED,
    RULE,
    SHUFFLED,
    TEACHER,
    GenomePotential,
    GenomeTeacher,
    carriers_in,
    cells,
    genome_design,
    genomes,
    places,
    planned_newborns,
    severities,
    tuned_in,
)
from runs.genomes.page import draw_gains, findings, formula, gains_table, smallest_lines
from runs.genomes.results import FULL, Size, dense_bytes, make_results, slope_change
from runs.genomes.results import smallest_equal as smallest
from runs.genomes.road import X, Y, road_observations
from runs.inheritance.carriers import CARRIERS
from runs.inheritance.choices import OWN, Choices, tried
from runs.inheritance.design import CONSTANT, VALUE
from runs.inheritance.newborns import Upbringing, make_rows, misfit, newborn_blend
from runs.inheritance.parent import Parent, one_parent
from runs.inheritance.tuning import Choice
from tests.runs import small_study

unchecked = pytest.fixture(autouse=True, scope="module")(small_study.without_key_check_in_threads)
SPEC, AGENT = Spec(obs_dim=5, num_actions=3), PPO(width=64)
P, N, D, STEPS = 2, 1000, 5, 300


@pytest.fixture(scope="module")
def parents():
    """Untrained parents [P]."""
    init = jax.jit(jax.vmap(partial(AGENT.init, spec=SPEC)))
    return Parent(init(jax.random.split(jax.random.key(0), P)), {}, AGENT)


@pytest.fixture(scope="module")
def obs():
    """Observations [P, N, D], those of the second parent in other units."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(P, N, D)) * [[[1.0]], [[5.0]]] + 1).astype(np.float32)


def bent(obs):
    """A function that two tanh units hold."""
    return jnp.tanh(0.3 * (obs[..., 0] - obs[..., 1])) + 0.5 * jnp.tanh(0.2 * obs[..., 3])


# --- fits -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_values_of_all_parents_are_distilled_as_each_by_itself(obs):
    genomes_of_all = distil_all(
        Genome("value", "units", (2,)), obs, np.asarray(bent(obs))[..., None], STEPS
    )
    assert genomes_of_all.kernels[0].shape == (P, D, 2)
    alone = distil(bent, units=2, bits=4, on=obs[1], steps=STEPS)
    assert genomes_of_all.num_bytes == alone.num_bytes == 4 + (2 * (D + 1) + 3) * 4 // 8 + 1
    np.testing.assert_allclose(genomes_of_all.r2, alone.r2, atol=0.1)
    predicted = np.asarray(common_form(genomes_of_all).first)  # weights are few multiples
    for kernel in predicted[:, :, :2].reshape(P, -1):
        assert len(np.unique(np.round(np.abs(kernel) / np.abs(kernel).max(), 2))) <= 8
    again = Distillations.from_columns(genomes_of_all.columns())
    jax.tree.map(np.testing.assert_array_equal, again, genomes_of_all)


@pytest.mark.slow
def test_logits_are_distilled_together_from_the_senses_that_predict_them(obs):
    logits = np.stack([obs[..., 0], -obs[..., 0], 2 * obs[..., 3]], -1)
    genome = Genome("policy", "features", features=2, bits=8)
    distilled = distil_all(genome, obs, logits, STEPS)
    assert (distilled.r2 > 0.99).all()
    for kernel in distilled.kernels[0]:
        assert np.flatnonzero(np.abs(kernel).sum(1)).tolist() == [0, 3]
    assert distilled.num_bytes == 2 + -(-9 * (8 + 5) // 8)  # scale, 9 weights, places among 18


@pytest.mark.slow
def test_pruned_weights_are_0(obs):
    genome = Genome("value", "pruned", (8,), weights=30, bits=8)
    distilled = distil_all(genome, obs, np.asarray(bent(obs))[..., None], STEPS)
    for i in range(P):
        parts = (*distilled.kernels, *distilled.biases)
        assert sum(int((part[i] != 0).sum()) for part in parts) <= 30
    assert (distilled.r2 > 0.8).all()


def random_genomes(*sizes: int) -> Distillations:
    """Two networks of these layers with random weights."""
    rng, pairs = np.random.default_rng(1), list(zip(sizes, sizes[1:], strict=False))
    kernels = [rng.normal(size=(P, m, n)).astype(np.float32) for m, n in pairs]
    biases = [rng.normal(size=(P, n)).astype(np.float32) for _, n in pairs]
    return Distillations(kernels, biases, np.ones(P), 1)


def test_one_genome_for_all_is_the_same_for_each():
    distilled = random_genomes(D, 4, 1)
    one = Distillations(*([x[:1] for x in part] for part in distilled[:2]), np.ones(1), 1)
    for kernel, shared in zip(distilled.kernels, one.repeated(3).kernels, strict=True):
        np.testing.assert_array_equal(shared, np.stack([kernel[0]] * 3))


@pytest.mark.parametrize("sizes", [(D, 3), (D, 4, 1), (D, 64, 7, 3)])
def test_the_common_form_computes_what_the_network_does(sizes, obs):
    distilled = random_genomes(*sizes)
    common, x = common_form(distilled), obs[:, :20]
    expected = x
    for kernel, bias in zip(distilled.kernels, distilled.biases, strict=True):
        expected = expected @ kernel + bias[:, None]
        expected = np.tanh(expected) if kernel is not distilled.kernels[-1] else expected
    got = jax.vmap(CommonForm.__call__)(common, jnp.asarray(x))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    order = np.array([2, 0, 1, 4, 3])
    shuffled = jax.vmap(CommonForm.__call__)(with_senses(common, order), jnp.asarray(x))
    unshuffled = jax.vmap(CommonForm.__call__)(common, jnp.asarray(x[..., order]))
    np.testing.assert_allclose(shuffled, unshuffled, rtol=1e-4, atol=1e-4)
    like = common_form(random_genomes(D, 2, sizes[-1]))
    assert jax.tree.map(jnp.shape, common) == jax.tree.map(jnp.shape, like)


# --- carriers -------------------------------------------------------------------------------------


def whole_policies(parents: Parent) -> CommonForm:
    """The policies of parents of 64-64 units in the common form."""
    layers = [*parents.net.actor.trunk.hidden, parents.net.actor.out]
    kernels = [np.asarray(layer.kernel[...]) for layer in layers]
    biases = [np.asarray(layer.bias[...]) for layer in layers]
    return common_form(Distillations(kernels, biases, np.ones(P), 1))


@pytest.mark.slow
def test_a_distilled_policy_teaches_as_the_whole_policy_does(parents):
    inherited = whole_policies(parents)
    rows, body = make_rows([(1, 0), (0, 0)], [{"weight": 1.0, "fade": 1.0}]), Body(AGENT, (2, 0, 1))
    x, teachers = jax.random.normal(jax.random.key(2), (4, 5)), []
    for carrier, handed in ((CARRIERS[TEACHER], parents), (GenomeTeacher(), inherited)):
        upbringing = Upbringing(carrier, body, worlds=jnp.zeros((1, 1)), base=0.0)
        teachers.append(upbringing.phase(rows, small_study.CONFIG, parents, handed).teacher)
    for row in range(2):
        states = [jax.tree.map(itemgetter(row), teacher.state) for teacher in teachers]
        logits = [t.agent.policy(state, x) for t, state in zip(teachers, states, strict=True)]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *logits)
        assert np.abs(logits[0][0]).max() > 1e-4


def test_genomes_of_all_forms_share_a_program_and_fit_into_a_body(parents):
    one, two = GenomePotential(Genome("value", "linear")), GenomePotential(FORTY, shuffled=True)
    assert one == two and newborn_blend(one) is newborn_blend(two)
    assert describe(one) == describe(two)
    assert GenomeTeacher(Genome("policy", "linear")) == GenomeTeacher(FORTY) != one
    common = jax.tree.map(lambda leaf: leaf[0], common_form(random_genomes(D, 2, 3)))
    parent = one_parent(parents, 0)
    assert not misfit(GenomeTeacher(), AGENT, SPEC, parent, common)
    finer = replace(SPEC, num_actions=25)
    reason = misfit(GenomeTeacher(), AGENT, finer, parent, common)
    assert reason == "the teacher has 3 actions and this body 25"
    numbers = {"scale": 2.0, "shift": -1.0}
    x = jnp.ones((3, D))
    np.testing.assert_allclose(one.phi(common, numbers, x), 2 * common(x)[..., 0] - 1, rtol=1e-6)


# --- design ---------------------------------------------------------------------------------------


def test_every_genome_gets_as_many_trials_and_the_study_has_3248_newborns():
    design = full_design()
    assert len(design.carriers) == 35 and list(design.bodies) == [OWN, PERMUTED]
    expected = 35 * (26 + 48) + 6 * 26 + 21 * 24 - 18 + 16
    assert planned_newborns(design) == expected == 3248
    assert len(tuned_in(design, OWN)) == 35 and len(tuned_in(design, PERMUTED)) == 6
    permuted = carriers_in(design, PERMUTED)
    assert {*FULL.values(), CONSTANT, "none", SHUFFLED, RULE, FORTY.name} < set(permuted)
    assert "value, linear, 32 bits" in permuted and "value, linear, 4 bits" not in permuted
    assert "value, 16 units, 32 weights, 32 bits" not in permuted
    for name, carrier in design.carriers.items():
        for body in design.bodies:
            assert len(tried(design, name, body, None)[1]) == (8 if carrier.knobs else 1)
    assert sum(cell.count for cell in cells(design)) == 35 * 48 + 21 * 24
    assert list(severities(design).values()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    steps = ("Drive", "cross 0.25", "cross 0.5", "cross 0.75", "cross", "Timid")
    assert tuple(place.name for place in places(design)) == steps
    assert [place.name for place in places(design, PERMUTED)] == ["Drive", "cross", "Timid"]
    raised = {pair for cell in cells(design) for pair, _ in cell.newborns}
    tried_on = {pair for pair, _ in design.dev_newborns}
    assert not raised & tried_on and len(raised) == 8
    assert planned_newborns(genome_design(Settings(smoke=True, seeds=3))) < 250


def test_in_other_suites_than_drive_there_are_fewer_newborns(tmp_path):
    design = genome_design(Settings(env="Acrobot"))
    assert list(design.bodies) == [OWN] and len(design.carriers) == 16
    assert [place.name for place in places(design)] == ["Acrobot", "mass", "mass 0.5"]
    assert list(severities(design).values()) == [0.0, 1.0]
    assert planned_newborns(design) == 16 * (26 + 24) - 18 + 16
    rows = [
        {"carrier": name, "body": OWN, "place": place.name, "pair": pair, "area": 0.01 * pair}
        for name in SIZES
        for place in places(design)
        for pair in range(3)
    ]
    draw_gains(make_results(design, pd.DataFrame(rows), SIZES), tmp_path / "genome.png")
    assert (tmp_path / "genome.png").stat().st_size > 10_000


def test_genomes_have_names_of_their_own():
    names = [genome.name for genome in genomes(37)]
    assert len(set(names)) == len(names) == 29
    assert names[0] == "value, 2 senses, 32 bits" and FORTY.name == "value, 2 units, 4 bits"
    assert "value, 1 unit, 4 bits" in names and "value, 64-64 units, 32 bits" in names
    assert {"policy, linear, 4 bits", FORTY.name} < set(names)
    few = [genome.name for genome in genomes(2)]  # where an observation has two numbers
    assert len(few) == 24 and not [name for name in few if "senses" in name]


def test_an_environment_without_homes_is_refused(tmp_path):
    with pytest.raises(UserError, match="--env CartPole: expected one of Drive"):
        main(["--env", "CartPole", "--out", str(tmp_path / "study")])


# --- results --------------------------------------------------------------------------------------

SIZES = {
    "none": Size("", 0, np.nan, False),
    CONSTANT: Size("", 0, np.nan, False),
    VALUE: Size("value", 20_000, 1.0, True),
    TEACHER: Size("policy", 30_000, 1.0, True),
    SHUFFLED: Size("value", 300, np.nan, False),
    RULE: Size("value", 6, 0.8, False),
    "value, 2 senses, 32 bits": Size("value", 14, 0.86, True),
    FORTY.name: Size("value", 44, 0.96, False),
    "value, 2 units, 32 bits": Size("value", 316, 0.97, True),
    "policy, linear, 32 bits": Size("policy", 1368, 0.9, True),
}
GAINS = {CONSTANT: 0, VALUE: 0.3, TEACHER: -0.1, FORTY.name: 0.3} | {
    "value, 2 senses, 32 bits": 0.1,
    "value, 2 units, 32 bits": 0.3,
}


@cache
def full_design():
    """The design of the whole study."""
    return genome_design(Settings())


@cache
def some_results(further: float = 0.0):
    """Results of 8 pairs: gains of GAINS; the critic's changes by `further` with severity."""
    design = full_design()
    steps, rng = {x.name: s for x, s in severities(design).items()}, np.random.default_rng(1)
    rows = [
        {"carrier": name, "body": body, "place": place.name, "pair": pair}
        | {
            "area": 0.4
            + GAINS.get(name, 0.2)
            + noise
            + further * (name == VALUE) * steps.get(place.name, 0.0)
        }
        for name in SIZES
        for body in design.bodies
        for place in places(design, body)
        for pair, noise in enumerate(rng.normal(0, 0.02, 8), 4)
    ]
    return make_results(design, pd.DataFrame(rows), SIZES)


def test_the_smallest_that_is_not_worse_than_the_whole():
    results = some_results()
    assert results.by_size("value", in_line=True) == [
        *("value, 2 senses, 32 bits", "value, 2 units, 32 bits", VALUE)
    ]
    assert results.gain(VALUE, OWN, "Drive").value == pytest.approx(0.3, abs=0.03)
    name, estimate = smallest(results, "value", "cross")
    assert name == FORTY.name and estimate.low < 0 < estimate.high
    assert smallest(results, "policy", "cross") is None  # the teacher loses
    text = smallest_lines(results)
    assert text.count(f"{FORTY.name} (44 bytes)") == 5 and text.count("of policies: none") == 5


def test_the_slope_over_bytes_changes_with_severity_as_it_was_made_to():
    assert slope_change(some_results()).value == pytest.approx(0.0, abs=0.02)
    x = np.log10([14, 316, 20_000])
    expected = 0.2 * (x - x.mean())[2] / np.square(x - x.mean()).sum()
    change = slope_change(some_results(further=0.2))
    assert change.value == pytest.approx(expected, abs=0.02) and change.low > 0


def test_findings_say_whether_the_statements_hold():
    choice = {VALUE: 0.7, CONSTANT: 0.4}
    chosen = {(name, OWN): Choice({}, choice.get(name, 0.5), 8, ()) for name in SIZES}
    choices = Choices(0.0, chosen, {}, {})
    equal, size, among = findings(some_results(), choices)
    assert equal.startswith("Finding: 44 bytes are equivalent to the whole critic")
    assert "margin 0.060" in equal and "is not shown, nor its opposite" in size
    assert "the further, the more bytes are worth" in findings(some_results(0.2), choices)[1]
    assert "the further from home holds" in findings(some_results(-0.2), choices)[1]
    x = np.log10([14, 316, 20_000])
    expected = 0.2 * (x - x.mean())[1:].sum() / np.square(x - x.mean()).sum()
    (value,) = np.unique(re.findall(r"ten times the bytes add \+([.\d]+)", among))
    assert "Among the 3 values" in among and float(value) == pytest.approx(expected, abs=0.02)
    chosen[FORTY.name.replace("4", "32"), OWN] = Choice({"scale": 2.0}, 0.5, 8, ())
    assert "No three values got the same" in findings(some_results(), choices)[2]
    chosen[VALUE, OWN] = Choice({}, 0.3, 8, ())  # no gain: no margin
    assert "cannot be tested, for want of a gain" in findings(some_results(), choices)[0]


def test_table_and_figure_show_every_genome(tmp_path):
    results = some_results()
    lines = gains_table(results).splitlines()
    assert len(lines) == 2 + len(SIZES) - 1 and CONSTANT not in "".join(lines)
    assert "| severity 0.25 " in lines[0] and "| Timid " in lines[0]
    (row,) = [line for line in lines if FORTY.name in line]
    assert "| 44 " in row and "| 0.960 |" in row and row.count(" / ") == 3
    draw_gains(results, tmp_path / "genome.png")
    assert (tmp_path / "genome.png").stat().st_size > 10_000


def test_the_whole_critic_has_as_many_bytes_as_its_weights(parents):
    trunk = sum(leaf[0].size for leaf in jax.tree.leaves(parents.net.critic.trunk))
    assert dense_bytes((D, 64, 64, 1)) == 4 * (trunk + 65)


# --- the formula and the road ---------------------------------------------------------------------


def test_a_small_network_is_written_as_a_formula():
    kernels = [np.array([[0.5, 0.0], [-2.0, 0.25]]), np.array([[-1.5], [3.0]])]
    text = formula(kernels, [np.array([0.1, -0.2]), np.array([0.75])], ("speed", "near[0]"))
    assert text.split("\n") == [
        "f = 0.75",
        "    - 1.5 tanh(0.1 - 2 near[0] + 0.5 speed)",
        "    + 3 tanh(-0.2 + 0.25 near[0])",
    ]


def test_senses_of_drive_are_named_in_the_order_of_its_observations():
    assert len(SENSES) == Drive.spec.obs_dim and len(set(SENSES)) == len(SENSES)
    assert SENSES[5] == "near[0]" and SENSES[7] == "near[-5]" and SENSES[21] == "closing[0]"


def test_observations_over_the_road_are_those_of_the_driver():
    seen = np.asarray(road_observations())
    assert seen.shape == (len(Y), len(X), len(SENSES)) and np.isfinite(seen).all()
    row, column = np.abs(Y + 4).argmin(), np.abs(X - 20).argmin()  # a car 25 m ahead, at 45 m
    at = dict(zip(SENSES, seen[row, column], strict=True))
    assert at["near[0]"] == pytest.approx(1 - (25 - 2.25) / 60, abs=1e-4)
    assert at["closing[0]"] == pytest.approx(5 / 20, abs=1e-4)
    assert at["progress"] == pytest.approx(20 / 150) and at["speed"] == pytest.approx(12 / 18)
    assert at["time"] == pytest.approx(20 / 12 / 30)
    assert at["position"] == pytest.approx(Y[row] / 5.1)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_smoke_run_ends_in_a_page_and_nothing_is_raised_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "study"
    assert main(["--smoke", "--seeds", "3", "--out", str(out)]) == 0
    text = (out / "genome.md").read_text()
    assert "Finding: 44 bytes" in text and "tanh(" in text and "| none " in text
    assert {"genome.md", "genome.png", "genome-road.png", "genome.csv"} <= {
        path.name for path in out.iterdir()
    }
    parts = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert any(path.name.startswith("genome") for path in parts)
    assert main(["--smoke", "--seeds", "3", "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == parts
    table = pd.read_csv(out / "genome.csv")
    design = genome_design(Settings(smoke=True, seeds=3))
    assert len(table) == sum(cell.count for cell in cells(design))
    assert {"of", "bytes", "r2", "area"} <= set(table)
