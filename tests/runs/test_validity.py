"""Validity: finding, tables and figures of made-up readouts, refusals, and the command."""

import csv
import io
from dataclasses import replace

import jax
import numpy as np
import pytest

from affect import Blend
from agents.ppo import PPO
from envs.host.suite import host_suite
from envs.suite import Point
from runs.cli.settings import shared_settings
from runs.compare import Settings as Comparison
from runs.engine.config import make_run_config
from runs.engine.evaluate import draw_points
from runs.engine.host_backend import HostBackend
from runs.engine.phases import Phase, one_world
from runs.probes.baselines import SIZES
from runs.validity import Settings, main
from runs.validity_page import (
    METRICS,
    ValidityResult,
    csv_text,
    family_contrasts,
    figures,
    finding,
    pooled_reliability,
    sections,
)
from tests.runs import small_study

unchecked = pytest.fixture(autouse=True)(small_study.without_key_check_in_threads)
S = 5
NAMES = ("fear", *SIZES, "minus_critic", "innate", "fear_untrained", "minus_short_critic")
NAMES += tuple(f"{name}_offline" for name in ("fear", *SIZES))
SHIFTS = ("cones", "aggressive", "cross", "ice", "fog", "noise")
POINTS = (Point("none", "none", 0.0),) + tuple(
    Point(shift, "social", severity) for shift in SHIFTS for severity in (0.5, 1.0)
)


def made_up_result(fear=0.8, critic=0.6, noise=0.01) -> ValidityResult:
    """Made-up readouts: AUROC `fear` for fear, and `critic` for all other signals."""
    rng = np.random.default_rng(0)
    seed_offset, readouts = rng.normal(0, 0.1, (S, 1)), {}
    for name in NAMES:
        level = fear if name == "fear" else critic
        auroc = level + seed_offset + rng.normal(0, noise, (S, len(POINTS)))
        readouts |= {f"{name}/{metric}": auroc for metric in METRICS}
        if "fear" in name:
            readouts |= {f"{name}/expected": auroc, f"{name}/brier": auroc}
            readouts[f"{name}/reliability"] = rng.random((S, len(POINTS), 10, 3))
    readouts |= {key: rng.random((S, len(POINTS))) for key in ("harmed", "nearness", "steps")}
    readouts["memory"] = rng.random((S, len(SIZES), 2))
    return ValidityResult("Drive", "fear", POINTS, readouts)


def test_means_are_per_seed_and_over_severities_before_shifts():
    result = made_up_result()
    result.readouts["fear/auroc"] = np.arange(S * len(POINTS), dtype=float).reshape(S, -1)
    auroc = result.readouts["fear/auroc"]
    np.testing.assert_allclose(result.at_home("fear"), auroc[:, 0])
    np.testing.assert_allclose(result.under_shift("cross", "fear"), auroc[:, 5:7].mean(1))
    np.testing.assert_allclose(result.over_shifts("fear"), auroc[:, 1:].mean(1))
    auroc[0, 5] = np.nan  # a severity without harm does not count, and its shift still does
    shifts = [auroc[0, i : i + 2].mean() for i in range(1, 13, 2)]
    shifts[2] = auroc[0, 6]
    assert result.over_shifts("fear")[0] == pytest.approx(np.mean(shifts))
    auroc[1, 1:] = np.nan
    assert np.isnan(result.over_shifts("fear")[1])


def test_contrasts_are_paired_and_adjusted_and_the_primary_is_first():
    family = family_contrasts(made_up_result())
    assert [contrast.reference for contrast in family] == [
        *("minus_critic", "minus_short_critic", "innate", "fear_untrained"),
        *("fear_linear", "fear_256_256", "fear_offline"),
    ]
    primary = family[0]
    assert primary.estimate.value == pytest.approx(0.2, abs=0.01)
    assert primary.estimate.high - primary.estimate.low < 0.05  # a seed's offset is shared
    assert primary.p_holm < 0.01
    equal = family_contrasts(made_up_result(fear=0.6))
    assert max(contrast.p_holm for contrast in equal) == 1.0  # capped after Holm's factor of 7


@pytest.mark.parametrize(
    ("fear", "words"),
    [
        (0.8, ("ranks harm better than the agent's critic: AUROC", "Better than a critic with")),
        (0.6, ("does not differ significantly from the agent's", "Not significant: a critic")),
        (0.4, ("ranks harm worse than the agent's critic", "Worse than a critic with")),
    ],
)
def test_the_finding_states_the_primary_contrast(fear, words):
    result = made_up_result(fear)
    text = finding(result, family_contrasts(result))
    assert text.startswith("Drive, 5 seeds: under shift fear ")
    assert all(word in text for word in words)


def test_without_harm_there_is_no_contrast():
    result = made_up_result()
    for name in NAMES:
        result.readouts[f"{name}/auroc"][:] = np.nan
    assert "harm was too rare for a contrast" in finding(result, family_contrasts(result))


def test_tables_csv_and_figures_are_made(tmp_path):
    result = made_up_result()
    text = "\n".join(sections(result, "validity-Drive", "5 seeds.", 10, 1000, 4096))
    for row in ("**fear**", "fear_256_256", "cones"):
        assert f"\n| {row} " in text
    assert text.count("\n| fear_256_256 ") == 3  # ranking, calibration, memory
    assert "1,000 gradient steps; `_offline` heads as many on 4,096 steps" in text
    rows = list(csv.DictReader(io.StringIO(csv_text(result))))
    fear_signals = sum("fear" in name for name in NAMES)
    assert len(rows) == len(POINTS) * (len(NAMES) * len(METRICS) + 2 * fear_signals)
    for suffix, draw in figures(result).items():
        draw(tmp_path / f"a{suffix}.png")
        assert (tmp_path / f"a{suffix}.png").stat().st_size > 10_000
        assert suffix == "" or f"validity-Drive{suffix}.png" in text


def test_pooled_reliability_is_weighted_by_steps():
    curve = np.full((1, 2, 10, 3), np.nan)
    curve[..., 0] = 0
    curve[0, 0, 2], curve[0, 1, 2] = (1, 0.2, 0.0), (0.5, 0.26, 1.0)
    curve[0, 1, 7] = (0.5, 0.7, 1.0)
    predicted, observed = pooled_reliability(curve, np.array([[10.0, 20.0]]))
    np.testing.assert_allclose([predicted[2], observed[2]], (0.23, 0.5))
    np.testing.assert_allclose([predicted[7], observed[7]], (0.7, 1.0))
    assert np.isnan(predicted[[0, 9]]).all()


def test_the_comparison_has_all_settings_that_it_knows():
    settings = Settings(image="pixels", workers=2, steps=5)
    compared = shared_settings(Comparison, settings, heads=("hope",))
    assert (compared.image, compared.workers, compared.steps) == ("pixels", 2, 5)
    assert compared.heads == ("hope",) and compared.agent == ""


# --- hosts ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cartpole():
    """Host backend of CartPole under two shifts, the suite, a phase and its initial state."""
    suite = host_suite("CartPole-v1", workers=0)
    shifts = tuple(shift for shift in suite.shifts if shift.name in ("force", "noise"))
    suite = replace(suite, shifts=shifts, severities=(1.0,))
    agent = PPO(width=8, epochs=1, minibatches=2)
    sizes = {"seeds": 2, "steps": 32, "num_envs": 2, "num_steps": 8, "episodes": 2}
    run_config = make_run_config(agent, **sizes, optimise=False)
    phase = Phase(one_world(suite.world), 1, 1, run_config.agent, Blend(epochs=1))
    backend = HostBackend(suite.env, run_config)
    with jax.debug_key_reuse(False):
        yield backend, suite, phase, backend.init(phase)
    backend.close()


@pytest.mark.slow
def test_recorded_host_episodes_are_those_that_are_scored(cartpole):
    backend, suite, phase, state = cartpole
    inputs = state.learner, phase.agent, draw_points(suite, 1, 0), lambda: False
    recorded = backend.record(*inputs, backend.run_config.episodes)
    for scores, (batch, alive) in zip(backend.evaluate(*inputs), recorded, strict=True):
        np.testing.assert_allclose(alive.sum(1).mean(1), scores["length"])
        np.testing.assert_allclose(batch.reward.sum(1).mean(1), scores["return"])
        assert alive.shape == batch.reward.shape == (2, suite.env.horizon, 2)
        assert not batch.next_obs[~alive].any() and not batch.terminated[~alive].any()
        assert (batch.first.sum(1) == 1).all() and batch.first[:, 0].all()


@pytest.mark.slow
def test_recorded_host_batches_are_contiguous(cartpole):
    backend, _, phase, state = cartpole
    batches = backend.record_batches(state, phase, 3, lambda: False)
    assert batches.reward.shape == (2, 3, 8, 2)
    joined = jax.tree.map(lambda leaf: leaf.reshape(2, 24, *leaf.shape[3:]), batches)
    ended = joined.terminated | joined.truncated
    np.testing.assert_array_equal(joined.first[:, 1:], ended[:, :-1])
    inside = ~ended[:, :-1]
    np.testing.assert_allclose(joined.obs[:, 1:][inside], joined.next_obs[:, :-1][inside])


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole", "CartPole-v1"])
def test_the_command_evaluates_a_custom_head_and_resumes(env, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    (tmp_path / "my_head.py").write_text(small_study.CUSTOM_HEAD)
    argv = ["--smoke", "--env", env, "--head", "my_head.py:Dread", "--out", "here"]
    argv += ["--shifts", "noise"]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert "| **dread** " in first and "dread_untrained" in first and "minus_critic" in first
    files = {file.name.removeprefix(f"validity-{env}") for file in tmp_path.glob("here/validity*")}
    assert files == {".md", ".csv", ".png", "-reliability.png", "-memory.png"}
    assert main(argv) == 0
    assert capsys.readouterr().out == first
