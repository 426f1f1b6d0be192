"""Evolution: alphabets, searches, bad input, one evolution on a stub, a killed study, a page."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from affect import Blend, Fear, Hope
from envs import load_suite
from runs import evolve as command
from runs import study_run
from runs.engine.backend import make_backend
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.errors import Interrupted, UserError
from runs.evolution import alphabets, design, generations, page, search
from runs.evolution.alphabets import FEELINGS, Feelings, TwoUnits
from runs.evolution.design import ARMS, evolve_design
from runs.evolve import Settings
from runs.inheritance import run as inherit_run
from runs.inheritance.carriers import CARRIERS, HORIZONS
from runs.inheritance.choices import OWN, Choices
from runs.inheritance.design import place_points
from runs.inheritance.homes import Place
from runs.inheritance.newborns import Upbringing, make_rows, newborn_blend, raise_newborns
from runs.inheritance.parent import make_parent
from runs.inheritance.tuning import Choice
from tests.runs import small_study, study_job
from tests.tiers import slow

unchecked = pytest.fixture(autouse=True, scope="module")(small_study.without_key_check_in_threads)
OBS = jnp.array([[0.5, -1.0, 2.0], [0.0, 0.25, 1.0]])
ALPHABETS = (Feelings(lambda obs: obs[..., 0]), Feelings(), TwoUnits(3))


class LinearParent:
    """Stands for a parent whose signals are the senses times a number."""

    def signal(self, head, obs):
        return obs[..., 1] if head == "fear" else int(head[5:]) * obs[..., 0]

    def value(self, obs):
        return 100 * obs[..., 0]


# --- alphabets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", ALPHABETS, ids=["feelings", "without innate", "two units"])
def test_the_middle_of_all_intervals_pays_nothing_and_points_are_genomes(carrier):
    knobs = carrier.knobs
    middle = alphabets.middle(knobs)
    assert len(knobs) <= 10 or isinstance(carrier, TwoUnits)
    assert carrier.reward(middle) == 0
    np.testing.assert_allclose(carrier.phi(LinearParent(), middle, OBS), 0.0)
    assert all(middle[name] == pytest.approx(0.0) for name in carrier.beside)
    point = np.random.default_rng(0).random(len(knobs))
    genome = alphabets.genome_at(point, middle, knobs)
    np.testing.assert_allclose(alphabets.point_of(genome, knobs), point, atol=1e-9)
    free = {name: knobs[name] for name in list(knobs)[:2]}
    part = alphabets.genome_at(np.ones(2), middle, free)
    assert [name for name in knobs if part[name] != middle[name]] == list(free)


@pytest.mark.parametrize("horizon", [10.0, 14.0, 20.0, 50.0, 70.0, 100.0])
def test_a_value_is_interpolated_in_the_logarithm_of_its_horizon(horizon):
    nodes = [*HORIZONS, 100]
    expected = np.interp(np.log(horizon), np.log(nodes), nodes) * OBS[:, 0]
    got = alphabets.value(LinearParent(), jnp.float32(horizon), OBS)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_potential_is_the_weighted_sum_of_what_is_inherited():
    genome = alphabets.middle(FEELINGS) | {"scale": 2.0, "shift": -1.0, "horizon": 100.0}
    genome |= {"fear": 0.5, "innate": -3.0, "reward": 0.01}
    carrier = ALPHABETS[0]
    expected = 200 * OBS[:, 0] - 1 + 0.5 * OBS[:, 1] - 3 * OBS[:, 0]
    np.testing.assert_allclose(carrier.phi(LinearParent(), genome, OBS), expected, rtol=1e-5)
    assert carrier.reward(genome) == 0.01
    text = carrier.formula(genome, ())
    assert "2 V(100 steps) - 1 + 0.5 fear - 3 innate" in text and "+ 0.01 + 0 curiosity" in text


def test_two_units_of_four_bits_are_the_network_that_their_formula_says():
    carrier, rng = TwoUnits(3), np.random.default_rng(1)
    genome = dict(zip(carrier.knobs, rng.uniform(-1, 1, 11), strict=True))
    x = np.round(7 * np.array(list(genome.values()))) / 7
    inner, outer = 2.0 * x[:8].reshape(4, 2), 4.0 * x[8:]
    obs = np.asarray(OBS)
    expected = np.tanh(obs @ inner[:3] + inner[3]) @ outer[:2] + outer[2]
    np.testing.assert_allclose(carrier.phi(None, genome, OBS), expected, rtol=1e-4, atol=1e-5)
    assert carrier.formula(genome, ("a", "b", "c")).count("tanh(") == 2
    assert len(TwoUnits(37).knobs) * 4 / 8 == pytest.approx(39.5)  # Drive: forty bytes


# --- searches -------------------------------------------------------------------------------------


def searched(kind, score, told=6):
    """A search after some generations, and the points of the next one."""
    one = kind(np.full(2, 0.5), 8, (0, 3))
    for _ in range(told):
        points = one.ask()
        assert points.shape == (8, 2) and (points >= 0).all() and (points <= 1).all()
        one.tell(score(points))
    return one.favourite, one.ask()


@pytest.mark.parametrize("kind", [search.RandomSearch, slow(search.EvolutionStrategy)])
def test_a_search_nears_the_best_and_gives_the_same_points_again(kind):
    if kind is search.EvolutionStrategy:
        pytest.importorskip("cma")
    favourite, points = searched(kind, lambda x: -np.square(x - 0.7).sum(1))
    assert np.abs(favourite - 0.7).max() < 0.15
    np.random.default_rng(5).random(), np.random.seed(5)  # noqa: NPY002
    again, same_points = searched(kind, lambda x: -np.square(x - 0.7).sum(1))
    np.testing.assert_array_equal(points, same_points)
    np.testing.assert_array_equal(favourite, again)
    searched(kind, lambda x: np.zeros(8), told=3)  # a fitness that is flat


# --- one evolution --------------------------------------------------------------------------------


class StubRun:
    """Stands for a run: areas of newborns fall with the distance of their shift to -1."""

    def __init__(self, study):
        self.study, self.generation, self.calls = study, 0, []

    def areas(self, name, evolution, draw, genomes, at_home=False):
        self.calls.append((name, evolution, draw, len(genomes), at_home))
        shifts = np.array([[genome["shift"]] for genome in genomes])
        return np.repeat(1 - np.abs(shifts + 1) / 5, self.study.family, 1)


@pytest.fixture(scope="module")
def study():
    """The design of a smoke run, with arms that need no library."""
    kinds = {name: arm._replace(search=search.RandomSearch) for name, arm in ARMS.items()}
    return replace(evolve_design(Settings(smoke=True, seeds=3)), arms=kinds, generations=4)


@pytest.mark.parametrize("arm", ["evolved", "shuffled fitness", "home only", "constant reward"])
def test_an_evolution_checks_its_favourite_and_tells_the_search_of_its_members(study, arm):
    run = StubRun(study)
    rows, genome = generations.evolve(run, arm, 1)
    checked = [call for call in run.calls if call[3] == 1]
    members = [call for call in run.calls if call[3] == study.population]
    assert [call[2] for call in checked] == [generations.CHECKED] * 5
    assert [call[2] for call in members] == [1, 2, 3, 4]
    assert {call[4] for call in checked} == {False}
    assert {call[4] for call in members} == {arm == "home only"}
    assert rows[-1]["genome"] == genome and [row["generation"] for row in rows] == list(range(5))
    assert set(genome) == set(study.alphabets["feelings"].knobs)
    if arm == "evolved":
        scores = [row["areas"].mean() for row in rows]
        assert scores == sorted(scores) and scores[-1] > scores[0]
    if arm == "constant reward":
        assert genome["shift"] == 0 and genome["reward"] != 0


def test_newborns_of_evolutions_have_other_parents_and_the_worlds_in_turn(study):
    assert study.newborns(0) == [(0, study.places[0]), (1, study.places[1])]
    assert study.newborns(2, at_home=True) == [(4, study.home), (5, study.home)]
    assert study.inherit.parents == 5 * 2 + 3


def test_numbers_of_inherit_are_a_genome(study, tmp_path):
    assert study.given["horizon"] == 100 and study.given["scale"] == pytest.approx(7.48, abs=0.01)
    assert study.given["shift"] < 0 and study.given["reward"] == pytest.approx(0.01)
    assert study.given["curiosity"] == study.given["fear"] == 0
    (tmp_path / "mine.csv").write_text("carrier,body\n")
    with pytest.raises(UserError, match="mine.csv"):
        design.given_genome(tmp_path / "mine.csv", study.inherit, study.given)


def test_every_arm_is_claimed_against_once_and_winners_are_averaged(study):
    claims = generations.make_claims(study)
    references = [claim.reference.name for claim in claims]
    assert set(references) == {*ARMS, "runs.inherit"} - {"evolved", "constant reward"}
    assert {claim.arm.cells for claim in claims} == {
        tuple((f"evolved {i}", OWN) for i in range(1, 6))
    }


def test_a_life_ends_where_areas_differ_most_beside_their_spread():
    curves = np.zeros((2, 4, 6))
    curves[1, :, 2:4] = 1.0  # the arms differ here
    curves[:, :2, 4:] = 0.9  # and here newborns do
    assert generations.life(curves) == 4


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "word"),
    [
        ("shift=nan", "shift = nan, expected -4 to 4"),
        ("scale=11", "scale = 11, expected -10 to 10"),
        ("horizon=0", "horizon = 0, expected 10 to 100"),
        ("hope=1", "unknown number hope"),
        ("scale", "write it as scale=2,shift=-1"),
    ],
)
def test_a_broken_genome_is_refused_in_a_line(start, word):
    with pytest.raises(UserError, match=word):
        alphabets.read_start(start, FEELINGS)
    assert alphabets.read_start("shift=-1, scale=2", FEELINGS)["scale"] == 2


def test_a_fitness_that_is_never_finite_ends_the_study_and_one_that_is_rarely_does_not():
    areas = np.full((4, 2), np.nan)
    with pytest.raises(UserError, match="evolved 1, generation 3: no newborn has finite"):
        generations.fitness_of(areas, "evolved 1, generation 3")
    areas[2, 0] = 0.5
    assert generations.fitness_of(areas, "").tolist() == [0, 0, 0.25, 0]


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cma", None)
    with pytest.raises(UserError, match=r"cma is missing: pip install -e '\.\[evolve\]'"):
        command.check(Settings())


# --- page -----------------------------------------------------------------------------------------


def test_the_page_states_what_was_selected_whichever_way_it_fell(study, tmp_path):
    rng, rows, chosen = np.random.default_rng(0), [], {}
    levels = {"evolved": 0.6, "random search": 0.5, "constant potential": 0.7}
    for arm in study.arms:
        genome = dict(study.start[study.arms[arm].alphabet])
        for i in range(study.evolutions):
            chosen[design.winner(arm, i), OWN] = Choice(genome, 0.5, 8, ())
            for generation in range(study.generations + 1):
                areas = levels.get(arm, 0.4) + 0.01 * rng.normal(size=2)
                row = {"arm": arm, "evolution": i, "generation": generation}
                rows.append(row | {"areas": areas, "genome": genome})
    table, winners = pd.DataFrame(rows), Choices(0.0, chosen, {}, {})
    areas = page.mean_areas(table)
    text = page.finding(study, areas, [])
    assert "is above the random search" in text and "is below the constant potential" in text
    assert "none of the others" in text and "refute" in text
    assert page.areas_table(study, areas).count("\n") == 1 + len(ARMS)
    assert "7.48" in page.numbers_table(study, winners)
    assert "evolved 5" in page.formulas(study, winners)
    assert page.generations_csv(table).count("\n") == 1 + 2 * len(table)
    assert page.spread([1.0, 1.0]) == "1" and page.spread([1.0, 2.0]) == "1.5 (1 to 2)"
    page.draw_areas(study, areas, tmp_path / "evolve.png")
    assert (tmp_path / "evolve.png").stat().st_size > 10_000


# --- newborns and studies -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_genome_of_a_value_alone_is_the_parents_value_and_own_heads_learn():
    suite, config = load_suite("CartPole"), replace(small_study.CONFIG, seeds=4, rows=4)
    backend, points = make_backend(suite.env, config), place_points(suite, Place("CartPole"), 0)
    hopes = {f"hope_{n}": (1.0, Hope(horizon=n)) for n in HORIZONS}
    pool, key = world_pool(flat_worlds(points.worlds, [0])), jax.random.key(5)
    phase = Phase(pool, 2, 2, config.agent, Blend(**hopes, fear=(1.0, Fear())))
    state = backend.init(phase, jax.random.split(jax.random.key(9), 4))
    parents = make_parent(config.agent, state.learner, suite.env.spec.info)

    def lengths(carrier, genome):
        upbringing = Upbringing(carrier, config.agent, points.worlds, base=0.0)
        rows = make_rows([(i, 0) for i in range(4)], [genome])
        raised = raise_newborns(backend, upbringing, rows, parents, parents, key, points=points)
        assert raised.alive.all()
        return raised.scores["return"]

    carrier, numbers = Feelings(), {"scale": 2.0, "shift": -1.0}
    genome = alphabets.middle(carrier.knobs) | numbers | {"horizon": 100.0}
    expected = lengths(CARRIERS["value"], numbers)
    np.testing.assert_allclose(lengths(carrier, genome), expected, rtol=1e-4)
    own = lengths(carrier, genome | {"curiosity": 0.05, "satiation": -1.0, "reward": 0.03})
    assert (own != expected).any()
    assert newborn_blend(carrier).names == ("inherited", "constant", "curiosity", "satiation")


def small(study):
    """Two arms without the library, one evolution of each, of one generation."""
    arms = {
        name: ARMS[name]._replace(search=search.RandomSearch) for name in ("evolved", "relearned")
    }
    return replace(study, arms=arms, evolutions=1, generations=1)


def run_study(study, out, stop_at=float("inf")):
    """The evolutions of a study in a folder."""
    job = study_job.make_job(
        Settings(smoke=True, seeds=3, evolutions=3, env="DeepSea"), out, stop_at
    )
    with generations.EvolveRun(study, job) as run:
        run.train_lineages()
        run.chunks = run.measure_life()
        table, winners = generations.evolve_all(run)
    return table, winners, job.progress


@pytest.mark.slow
def test_a_killed_study_ends_as_one_that_was_not(tmp_path, monkeypatch):
    for module in (inherit_run, study_run):
        monkeypatch.setattr(module, "make_backend", study_job.one_backend)
    full = evolve_design(Settings(smoke=True, seeds=3, evolutions=3, env="DeepSea"))
    assert full.given is None and "innate" not in full.alphabets["feelings"].knobs
    study = small(full)
    table, winners, progress = run_study(study, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_study(study, tmp_path / "killed", round(0.8 * progress.done))
    assert 0 < len(list((tmp_path / "killed" / "parts").iterdir())) < 7
    again, same, _ = run_study(study, tmp_path / "killed")
    assert study_job.files(tmp_path / "killed") == study_job.files(tmp_path / "whole")
    assert same.chosen == winners.chosen
    pd.testing.assert_frame_equal(again, table)
    names = [path.name for path in (tmp_path / "killed" / "parts").iterdir()]
    assert len(names) == 1 + 2 * 3  # the life; two favourites and a generation of each arm


@pytest.mark.slow
def test_the_smoke_run_ends_in_a_page(tmp_path, monkeypatch):
    pytest.importorskip("cma")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "study"
    args = ["--smoke", "--seeds", "3", "--evolutions", "3", "--out", str(out)]
    assert command.main(args) == 0
    text = (out / "evolve.md").read_text()
    assert "Finding: after 2 generations" in text and "tanh(" in text and "## Claims" in text
    names = {path.name for path in out.iterdir()}
    assert {"evolve.md", "evolve.png", "evolve.csv", "evolve-winners.csv", "plan.toml"} <= names
    before = study_job.files(out)
    assert command.main(args) == 0
    assert study_job.files(out) == before
