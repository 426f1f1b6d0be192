"""The breadth study: areas, measures, diets."""

import jax
import numpy as np
import pandas as pd
import pytest

from envs import load_suite
from runs import breadth as study
from runs import breadth_run
from runs.errors import UserError


def test_area_over_time():
    assert study.area_over_time(np.array([0.0, 1.0])) == 0.5
    np.testing.assert_allclose(study.area_over_time(np.array([[0, 0, 1.0], [1, 1, 1]])), [0.25, 1])
    assert study.area_over_time(np.array([0.4])) == pytest.approx(0.4)


def made_up_tables(seeds: int = 5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and curves: broad is better under shift and learns more, narrow better at home."""
    scores, curves = [], []
    arms = [(d, "none") for d in breadth_run.DIETS] + [
        ("narrow", x) for x in ("inherited", "constant")
    ]
    for diet, heads in arms:
        arm = {"diet": diet, "heads": heads}
        for seed in range(seeds):
            noise = 0.01 * seed + 0.001 * seed * (diet == "broad")
            level = {"broad": 0.7}.get(diet, 0.5) + noise
            points = [("none", 0.0, 0.8 if diet == "broad" else 0.9)]
            points += [(s, x, level - 0.1 * x) for s in ("cross", "ice") for x in (0.5, 1.0)]
            for shift, severity, success in points:
                row = {"seed": seed, "shift": shift, "severity": severity, "success": success}
                scores.append(arm | row | {"family": "any", "harm": 0.0, "alive": True})
            for shift, time in ((s, t) for s in ("cross", "ice") for t in range(3)):
                success = level + 0.1 * time * (1 + (diet == "broad"))
                curves.append(
                    arm | {"seed": seed, "shift": shift, "time": time, "success": success}
                )
    return pd.DataFrame(scores), pd.DataFrame(curves)


def test_measures_sentence_tables_and_figure_of_made_up_tables(tmp_path):
    scores, curves = made_up_tables()
    measures = study.arm_measures(scores, curves)
    broad = {name: values[0] for name, values in measures["broad", "none"].items()}
    expected = {"at home": 0.8, "shifted": 0.625, "worst": 0.6, "area": 0.9, "gain": 0.2}
    assert broad == pytest.approx(expected)
    contrasts = study.breadth_contrasts(measures)
    assert len(contrasts) == 8
    broad = contrasts["shifted: broad, none less narrow, none"]
    assert broad.estimate.value == pytest.approx(0.202)
    assert contrasts["area: noisy, none less narrow, none"].p_holm == 1
    sentence = study.finding(measures, "Drive")
    assert "under shift +0.202" in sentence and "-0.100" in sentence and "is +0.100" in sentence
    assert study.arm_table(measures).count("\n") == 2 + len(measures) - 1
    assert "inherited less narrow, constant" in study.contrast_table(measures)
    study.draw_diets("Drive", scores, curves, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 5000


def test_diets_are_worlds_of_one_structure():
    suite = load_suite("CartPole")
    pools = breadth_run.diet_pools(suite, jax.random.key(0), 6)
    home = jax.tree.map(lambda leaf: leaf[0], pools["narrow"][0])
    shapes = {
        name: [jax.tree.map(lambda x: (x.shape, x.dtype.name), pool) for pool in stages]
        for name, stages in pools.items()
    }
    assert all(pool == shapes["narrow"][0] for stages in shapes.values() for pool in stages)
    noise = np.asarray(pools["noisy"][0].channel.noise)
    assert noise[0] == 0 and noise[-1] == 0.5
    jax.tree.map(np.testing.assert_array_equal, pools["noisy"][0].params, pools["narrow"][0].params)
    spread = [np.ptp(np.asarray(pool.params.force)) for pool in pools["curriculum"]]
    assert (np.diff(spread) > 0).all() and np.ptp(np.asarray(pools["narrow"][0].params.force)) == 0
    last, broad = pools["curriculum"][-1], pools["broad"][0]
    np.testing.assert_array_equal(last.params.force, broad.params.force)
    assert float(home.channel.noise) == 0


def test_an_unknown_new_shift_is_refused():
    with pytest.raises(UserError, match="unknown shift 'snow'"):
        breadth_run.make_design(study.Settings(new=("snow",)))
