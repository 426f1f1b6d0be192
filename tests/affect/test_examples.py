"""The example heads match the equations of their papers; `test_matrix` has them too."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import affect
from affect import Blend, Innate, MissingInfo, Spec, build
from affect.examples import (
    e3b,
    icm,
    inequity_aversion,
    learning_progress,
    regret,
    source_satiation,
)
from affect.examples.e3b import E3B, RIDGE
from affect.examples.icm import ICM
from affect.examples.inequity_aversion import ENVY, GUILT, TRACE, InequityAversion
from affect.examples.learning_progress import LearningProgress
from affect.examples.regret import Regret
from tests.affect.cases import KEY, SPEC, B, T, apply_head, experience, run_head


@pytest.mark.parametrize(
    "module", [e3b, icm, inequity_aversion, learning_progress, regret, source_satiation]
)
def test_an_example_has_at_most_65_lines_and_outside_the_core(module):
    assert len(Path(module.__file__).read_text().splitlines()) <= 65
    assert not set(affect.__all__) & {"E3B", "ICM", "LearningProgress", "Regret"}


# --- E3B --------------------------------------------------------------------------------------


def test_the_elliptical_bonus_equals_the_inverse_covariance_form():
    batch = experience(seed=3, steps=20)
    head, bonus, _ = run_head(E3B, batch)
    features = np.asarray(jnp.tanh(head.random(batch.next_obs)), np.float64)
    for b in range(B):
        for t in range(20):
            if batch.first[t, b]:
                covariance = RIDGE * np.eye(16)
            f = features[t, b]
            np.testing.assert_allclose(bonus[t, b], f @ np.linalg.inv(covariance) @ f, rtol=2e-3)
            covariance += np.outer(f, f)


# --- ICM --------------------------------------------------------------------------------------


def noisy_walk(steps=32, envs=16):
    """Batch [T, B]: the action moves coordinate 0; coordinate 1 is 0, coordinate 2 is noise."""
    rng = np.random.default_rng(1)
    action = rng.integers(0, 2, (steps, envs))
    noise = rng.normal(0, 1, (2, steps, envs))
    x = rng.uniform(-1, 1, (steps, envs))
    obs = np.stack([x, 0 * x, noise[0]], -1).astype(np.float32)
    next_obs = np.stack([x + 0.5 * (2 * action - 1), 0 * x, noise[1]], -1).astype(np.float32)
    fields = {"obs": obs, "next_obs": next_obs, "action": action}
    return experience(steps=steps, envs=envs)._replace(**jax.tree.map(jnp.asarray, fields))


@pytest.mark.slow
def test_icm_error_rises_for_a_wrong_effect_of_the_action_and_not_for_noise():
    """After training, the error is high if the action has the reverse effect."""
    blend, batch = Blend(epochs=1500, it=(1.0, ICM)), noisy_walk()
    after, metrics = jax.jit(blend.learn)(blend.init(KEY, SPEC, 16), batch)
    assert metrics["it/inverse"] < 0.1

    def error(next_obs):
        return apply_head(after.heads["it"].net, (), batch._replace(next_obs=next_obs))[0].mean()

    x, next_x, noise = batch.obs[..., 0], batch.next_obs[..., 0], batch.next_obs[..., 2]
    baseline = error(batch.next_obs)
    assert error(batch.next_obs.at[..., 0].set(2 * x - next_x)) > 3 * baseline
    assert error(batch.next_obs.at[..., 2].set(jnp.roll(noise, 1))) < 1.2 * baseline


@pytest.mark.slow
def test_the_features_of_icm_are_trained_by_the_inverse_model_only():
    """The error of the forward model has a gradient for the forward model only."""
    batch = experience(seed=1, steps=16)
    gradients = jax.grad(lambda head: head.loss((), batch)[1]["error"])(build(ICM, SPEC, KEY))
    assert not any(leaf.any() for leaf in jax.tree.leaves((gradients.features, gradients.inverse)))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients.forward))


def test_icm_accepts_continuous_actions():
    batch = experience(seed=1)._replace(action=jax.random.normal(KEY, (T, B, 2)))
    head = build(ICM, Spec(obs_dim=3, action_dim=2), KEY)
    assert apply_head(head, (), batch)[0].shape == (T, B)
    assert jnp.isfinite(head.loss((), batch)[0])


# --- learning progress ------------------------------------------------------------------------


def progress(error, tau=50, places=None):
    """Learning progress [T] for an error [T], by default all of it in one place."""
    error = jnp.asarray(error, jnp.float32)[:, None]
    places = np.zeros(len(error)) if places is None else places
    next_obs = jnp.asarray(1.0 - 2.0 * places, jnp.float32)[:, None, None] * jnp.ones((1, 1, 3))
    batch = experience(steps=len(error), envs=1)._replace(reward=error, next_obs=next_obs)
    factory = LearningProgress(partial(Innate, fn=lambda batch: batch.reward), tau=tau)
    return np.asarray(run_head(factory, batch)[1])[:, 0]


def test_progress_is_proportional_to_the_slope_of_the_error():
    slope, tau = 0.001, 50
    falling = 5 - slope * np.arange(1000)
    np.testing.assert_allclose(progress(falling, tau)[-1], 0.9 * tau * slope, rtol=1e-3)
    np.testing.assert_allclose(progress(falling[::-1], tau)[-1], -0.9 * tau * slope, rtol=1e-3)


def test_a_constant_or_noisy_error_gives_no_progress():
    np.testing.assert_allclose(progress(np.full(200, 7.0)), 0.0, atol=1e-5)
    noise = progress(np.random.default_rng(0).uniform(0, 2, 4000))[1000:]
    assert abs(noise.mean()) < 0.02


def test_progress_is_that_of_the_place_and_a_change_of_scene_is_none():
    """Two rooms, visited in turns: a constant error in one, a falling one in the other."""
    steps = np.arange(2000)
    places = (steps // 10) % 2  # on opposite sides of every plane
    still, falling = np.full(2000, 3.0), 5 - 0.002 * np.cumsum(places)
    both_still = progress(np.where(places, 1.0, 3.0), places=places)
    np.testing.assert_allclose(both_still, 0.0, atol=1e-5)
    learned = progress(np.where(places, falling, still), places=places)
    np.testing.assert_allclose(learned[places == 0], 0.0, atol=1e-5)
    np.testing.assert_allclose(learned[places == 1][-10:], 0.9 * 50 * 0.002, rtol=1e-2)


def test_a_tau_below_10_is_refused():
    with pytest.raises(ValueError, match="a tau of at least 10 visits, not 5"):
        progress([1.0], tau=5)


# --- regret -----------------------------------------------------------------------------------


def test_regret_is_reward_minus_the_best_foregone_reward():
    foregone = jnp.array([[[1.0, 3.0], [2.0, -1.0], [-1.0, -2.0]]])
    batch = experience(steps=1, envs=3)._replace(
        reward=jnp.array([[1.0, 2.0, -2.0]]), info={"foregone": foregone}
    )
    assert run_head(Regret, batch)[1].tolist() == [[-2.0, 0.0, -1.0]]


def test_regret_requires_foregone_in_info():
    with pytest.raises(MissingInfo, match=r'Regret reads info\["foregone"\] .* reports harm'):
        build(Regret, Spec(obs_dim=3, num_actions=2, info=("harm",)), KEY)


# --- inequity aversion ------------------------------------------------------------------------


def test_inequity_costs_envy_and_guilt_of_smoothed_rewards():
    batch = experience(seed=4, steps=30)
    head, signal, _ = run_head(InequityAversion, batch)
    own, other = np.asarray(batch.reward), np.asarray(batch.info["other"]["reward"])
    traces = np.zeros((2, B))
    for t in range(30):
        traces = TRACE * np.where(batch.first[t], 0, traces) + np.stack([own[t], other[t]])
        behind = traces[1] - traces[0]
        cost = ENVY * np.maximum(behind, 0) + GUILT * np.maximum(-behind, 0)
        np.testing.assert_allclose(signal[t], -cost, rtol=1e-4, atol=1e-5)
    with pytest.raises(MissingInfo, match=r'InequityAversion reads info\["other"\]'):
        build(InequityAversion, Spec(obs_dim=3, num_actions=2), KEY)
