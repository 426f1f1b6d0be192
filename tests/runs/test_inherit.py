"""Newborns: what they share and what they do not; the recipe of the README; the command."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from affect import Blend, Hope
from envs import load_suite
from runs.engine.backend import make_backend
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.seeds import seed_keys
from runs.engine.train import mixed_signals
from runs.inherit import main
from runs.inheritance.carrier import Carrier
from runs.inheritance.carriers import CARRIERS
from runs.inheritance.controls import KNOWLEDGE_FREE
from runs.inheritance.design import place_points
from runs.inheritance.homes import Place
from runs.inheritance.newborns import Upbringing, make_rows, raise_newborns
from runs.inheritance.parent import make_parent
from runs.inheritance.run import join
from tests.runs import small_study

unchecked = pytest.fixture(autouse=True, scope="module")(small_study.without_key_check_in_threads)
SUITE = load_suite("CartPole")
CONFIG = replace(small_study.CONFIG, seeds=4, rows=4, chunks=2, num_steps=16)
AGENT = CONFIG.agent
PLACES = [Place("CartPole"), Place("CartPole", "force")]
KEY = jax.random.key(5)


@cache
def backend():
    """Of all tests, which share its programs."""
    return make_backend(SUITE.env, CONFIG)


@cache
def points():
    """Where newborns are scored."""
    return join(place_points(SUITE, place, 0) for place in PLACES)


@pytest.fixture(scope="module")
def parents():
    """Four untrained parents, with a head."""
    phase = Phase(
        world_pool(flat_worlds(points().worlds, [0])), 2, 2, AGENT, Blend(hope=(1.0, Hope))
    )
    state = backend().init(phase, jax.random.split(jax.random.key(9), 4))
    return make_parent(AGENT, state.learner, SUITE.env.spec.info)


def raise_in(carrier, parents, rows, agent=AGENT):
    """What becomes of newborns in CartPole."""
    upbringing = Upbringing(carrier, agent, points().worlds, base=0.0)
    return raise_newborns(backend(), upbringing, rows, parents, parents, KEY, points=points())


@pytest.mark.slow
def test_a_newborn_that_inherits_nothing_is_the_plain_agent(parents):
    rows = make_rows([(i, 0) for i in range(4)], [{}])
    phase = Phase(world_pool(flat_worlds(points().worlds, [0])), 2, 2, AGENT, Blend())
    state, lengths = backend().init(phase, seed_keys(KEY, range(4))), []
    for first in (0, 2):
        state, metrics, _ = backend().train(state, phase, first, lambda: False)
        lengths.append(np.asarray(metrics["success"]))
    raised = raise_in(KNOWLEDGE_FREE["none"], parents, rows)
    np.testing.assert_array_equal(raised.curve, np.nan_to_num(np.stack(lengths, 1)))
    scores = list(backend().evaluate(state.learner, AGENT, points(), lambda: False))
    expected = np.stack([score["length"] for score in scores], 1)
    np.testing.assert_allclose(raised.scores["length"], expected, rtol=1e-6)


@pytest.mark.slow
def test_newborns_of_a_pair_share_their_random_numbers_and_no_others(parents):
    newborns = [(0, 0), (1, 0), (0, 1), (3, 1)]
    rows = make_rows(newborns, [{"k": 0.0}])
    nothing = raise_in(KNOWLEDGE_FREE["none"], parents, make_rows(newborns, [{}]))
    level_0 = raise_in(KNOWLEDGE_FREE["constant potential"], parents, rows)
    np.testing.assert_array_equal(nothing.scores["length"], level_0.scores["length"])
    changed = raise_in(
        KNOWLEDGE_FREE["constant potential"],
        parents,
        make_rows(newborns, [{"k": -5.0}]),
    )
    assert (changed.scores["length"] != level_0.scores["length"]).any()
    assert len({tuple(row) for row in nothing.scores["length"]}) == 4


@pytest.mark.slow
def test_rows_of_several_trials_are_those_of_each_trial(parents):
    newborns, trials = [(0, 0), (1, 1)], [{"scale": 1.0, "shift": 0.0}, {"scale": 3.0, "shift": -1}]
    carrier = CARRIERS["value"]
    together = raise_in(carrier, parents, make_rows(newborns, trials))
    for i, trial in enumerate(trials):
        alone = raise_in(carrier, parents, make_rows(newborns, [trial]))
        for name in ("length", "return"):
            got = together.scores[name][2 * i : 2 * i + 2]
            np.testing.assert_allclose(got, alone.scores[name], rtol=1e-5)


def test_a_yoked_newborn_keeps_its_own_constant_reward():
    carrier, rows = KNOWLEDGE_FREE["yoked value"], make_rows([(0, 0)], [{"scale": 1, "shift": 0}])
    mix = Upbringing(carrier, AGENT, points().worlds, base=0.0).mix(rows, CONFIG)
    signals = jnp.stack([jax.random.normal(KEY, (5, 3)), jnp.full((5, 3), 0.01)], -1)
    mixed = mixed_signals(mix._replace(yoked=mix.yoked[0]), signals)
    np.testing.assert_array_equal(mixed[..., 1], signals[..., 1])
    others = jnp.roll(signals[..., 0], -1, 1) - signals[..., 0].mean()
    np.testing.assert_allclose(mixed[..., 0], others, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_newborn_with_its_parents_policy_and_no_step_acts_as_it_does(parents):
    rows = make_rows([(2, 0), (3, 0)], [{}])
    frozen = replace(AGENT, lr=0.0)
    raised = raise_in(CARRIERS["policy + critic"], parents, rows, frozen)
    learner = jax.tree.map(lambda leaf: leaf, parents)
    expected = list(backend().evaluate(learner, AGENT, points(), lambda: False))[0]["length"]
    np.testing.assert_allclose(raised.scores["length"][:, 0], expected[2:4], rtol=1e-6)


@pytest.mark.slow
def test_the_carrier_of_the_readme_pays_less_and_less(parents):
    text = (Path(__file__).parents[2] / "runs/inheritance/README.md").read_text()
    (recipe,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict = {"__name__": "recipe"}
    exec(compile(recipe, "README", "exec"), names)
    carrier = names["FadingValue"]()
    assert isinstance(carrier, Carrier)
    numbers = {"scale": 1.0, "shift": -1.0, "fade": 0.5}
    weights = [carrier.schedule(numbers, jnp.float32(p))["signal"] for p in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(weights, [1.0, 0.5, 0.0, 0.0])
    raised = raise_in(carrier, parents, make_rows([(0, 0), (1, 0)], [numbers]))
    assert raised.alive.all() and raised.curve.shape == (2, 2)


@pytest.mark.slow
def test_the_smoke_run_ends_in_a_page_that_can_be_verified(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "study"
    assert main(["--smoke", "--seeds", "3", "--out", str(out)]) == 0
    text = (out / "inherit.md").read_text()
    assert "own: value less own: constant potential" in text and "impossible" in text.lower()
    assert {"inherit.md", "inherit.png", "inherit-curves.png", "inherit.csv", "plan.toml"} <= {
        path.name for path in out.iterdir()
    }
    parts = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert main(["--smoke", "--seeds", "3", "--out", str(out)]) == 0  # nothing is raised again
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == parts
    table = pd.read_csv(out / "inherit.csv")
    assert set(table["part"]) == {"worlds", "bodies", "severity", "parents"}
