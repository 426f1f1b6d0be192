"""The example heads match the equations of their papers and follow the protocol of heads."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import affect
from affect import Blend, Curiosity, Innate, MissingInfo, Spec, build
from affect.examples import e3b, icm, learning_progress, regret
from affect.examples.e3b import E3B, RIDGE
from affect.examples.icm import ICM
from affect.examples.learning_progress import LearningProgress
from affect.examples.regret import Regret
from tests.affect.cases import SPEC, B, T, apply_head, assert_close, chunk, experience

KEY = jax.random.key(0)
EXAMPLES = {
    "E3B": E3B,
    "ICM": ICM,
    "LearningProgress": LearningProgress(Curiosity),
    "Regret": Regret,
}


@pytest.mark.parametrize("module", [e3b, icm, learning_progress, regret])
def test_an_example_is_shorter_than_60_lines(module):
    assert len(Path(module.__file__).read_text().splitlines()) < 60


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_follows_the_protocol_of_heads(name):
    """Shapes, signs, single steps against chunks; and absent from `affect.__all__`."""
    assert name not in affect.__all__
    head, batch = build(EXAMPLES[name], SPEC, KEY), experience(seed=2)
    whole, last = apply_head(head, head.initial_state(B), batch)
    assert whole.shape == (T, B)
    assert (head.sign * whole >= 0).all()
    state, signals = head.initial_state(B), []
    for t in range(T):
        signal, state = apply_head(head, state, chunk(batch, t, t + 1))
        signals.append(signal)
    assert_close((jnp.concatenate(signals), state), (whole, last), rtol=1e-3)
    blend = Blend(it=(1.0, EXAMPLES[name]))
    after = jax.jit(blend.update)(blend.init(KEY, SPEC, B), batch)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


# --- E3B --------------------------------------------------------------------------------------


def test_the_elliptical_bonus_equals_the_inverse_covariance_form():
    batch = experience(seed=3, steps=20)
    head = build(E3B, SPEC, KEY)
    bonus, _ = apply_head(head, head.initial_state(B), batch)
    features = np.asarray(jnp.tanh(head.random(batch.next_obs)), np.float64)
    for b in range(B):
        for t in range(20):
            if batch.first[t, b]:
                covariance = RIDGE * np.eye(16)
            f = features[t, b]
            np.testing.assert_allclose(bonus[t, b], f @ np.linalg.inv(covariance) @ f, rtol=2e-3)
            covariance += np.outer(f, f)


def test_the_bonus_decays_with_visits_and_resets_with_the_episode():
    """The k-th visit to the same state gives n / (RIDGE + (k - 1) n), n = |f|^2."""
    batch = experience(steps=9)
    same_obs = jnp.ones((9, B, 3))
    first = jnp.zeros((9, B), bool).at[jnp.array([0, 5])].set(True)
    head = build(E3B, SPEC, KEY)
    bonus, _ = apply_head(
        head, head.initial_state(B), batch._replace(next_obs=same_obs, first=first)
    )
    size = np.square(jnp.tanh(head.random(jnp.ones(3)))).sum()
    visits = np.array([1, 2, 3, 4, 5, 1, 2, 3, 4])
    np.testing.assert_allclose(bonus[:, 0], size / (RIDGE + (visits - 1) * size), rtol=1e-3)


# --- ICM --------------------------------------------------------------------------------------


def noisy_walk(steps=32, envs=16):
    """Batch [T, B]: the action moves coordinate 0; coordinate 1 is 0, coordinate 2 is noise."""
    batch, rng = experience(seed=0, steps=steps, envs=envs), np.random.default_rng(1)
    action = rng.integers(0, 2, (steps, envs))
    noise = rng.normal(0, 1, (2, steps, envs))
    x = rng.uniform(-1, 1, (steps, envs))
    still = np.zeros_like(x)
    obs = np.stack([x, still, noise[0]], -1).astype(np.float32)
    next_obs = np.stack([x + 0.5 * (2 * action - 1), still, noise[1]], -1).astype(np.float32)
    return batch._replace(
        obs=jnp.asarray(obs), next_obs=jnp.asarray(next_obs), action=jnp.asarray(action)
    )


def test_icm_error_rises_for_a_wrong_effect_of_the_action_and_not_for_noise():
    """After training, the error is high if the action has the reverse effect."""
    blend, batch = Blend(epochs=1500, it=(1.0, ICM)), noisy_walk()
    before = blend.init(KEY, SPEC, 16)
    after, metrics = jax.jit(blend.learn)(before, batch)
    assert metrics["it/inverse"] < 0.1
    trained = after.heads["it"].net
    baseline, _ = apply_head(trained, (), batch)
    change = batch.next_obs[..., 0] - batch.obs[..., 0]
    reversed_obs = batch.next_obs.at[..., 0].set(batch.obs[..., 0] - change)
    reversed_error, _ = apply_head(trained, (), batch._replace(next_obs=reversed_obs))
    noisy_obs = batch.next_obs.at[..., 2].set(jnp.roll(batch.next_obs[..., 2], 1))
    noise_error, _ = apply_head(trained, (), batch._replace(next_obs=noisy_obs))
    assert reversed_error.mean() > 3 * baseline.mean()
    assert noise_error.mean() < 1.2 * baseline.mean()


def test_the_features_of_icm_are_trained_by_the_inverse_model_only():
    """The error of the forward model has a gradient for the forward model only."""
    batch = experience(seed=1, steps=16)
    head = build(ICM, SPEC, KEY)
    gradients = jax.grad(lambda head: head.loss((), batch)[1]["error"])(head)
    assert not any(leaf.any() for leaf in jax.tree.leaves((gradients.features, gradients.inverse)))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients.forward))


def test_icm_accepts_continuous_actions():
    batch = experience(seed=1)
    batch = batch._replace(action=jax.random.normal(KEY, (T, B, 2)))
    head = build(ICM, Spec(obs_dim=3, action_dim=2), KEY)
    assert apply_head(head, (), batch)[0].shape == (T, B)
    assert jnp.isfinite(head.loss((), batch)[0])


# --- learning progress ------------------------------------------------------------------------


def progress(error, tau=50):
    """Learning progress [T] for an error [T]."""
    factory = LearningProgress(
        lambda spec, *, rngs: Innate(spec, fn=lambda batch: batch.reward, rngs=rngs), tau=tau
    )
    batch = experience(steps=len(error), envs=1)
    batch = batch._replace(reward=jnp.asarray(error, jnp.float32)[:, None])
    head = build(factory, SPEC, KEY)
    return np.asarray(apply_head(head, head.initial_state(1), batch)[0])[:, 0]


def test_progress_is_proportional_to_the_slope_of_the_error():
    slope, tau = 0.001, 50
    falling = 5 - slope * np.arange(1000)
    np.testing.assert_allclose(progress(falling, tau)[-1], 0.9 * tau * slope, rtol=1e-3)
    np.testing.assert_allclose(progress(falling[::-1], tau)[-1], -0.9 * tau * slope, rtol=1e-3)


def test_a_constant_or_noisy_error_gives_no_progress():
    np.testing.assert_allclose(progress(np.full(200, 7.0)), 0.0, atol=1e-5)
    noise = progress(np.random.default_rng(0).uniform(0, 2, 4000))[1000:]
    assert abs(noise.mean()) < 0.02


def test_a_tau_below_10_is_refused():
    with pytest.raises(ValueError, match="a tau of at least 10 steps, not 5"):
        progress([1.0], tau=5)


# --- regret -----------------------------------------------------------------------------------


def test_regret_is_reward_minus_the_best_foregone_reward():
    batch = experience(steps=1, envs=3)
    foregone = jnp.array([[[1.0, 3.0], [2.0, -1.0], [-1.0, -2.0]]])
    rewarded = batch._replace(reward=jnp.array([[1.0, 2.0, -2.0]]), info={"foregone": foregone})
    assert regret_signal(rewarded).tolist() == [[-2.0, 0.0, -1.0]]


def regret_signal(batch):
    return apply_head(build(Regret, SPEC, KEY), (), batch)[0]


def test_regret_requires_foregone_in_info():
    with pytest.raises(MissingInfo, match=r'Regret reads info\["foregone"\] .* reports harm'):
        build(Regret, Spec(obs_dim=3, num_actions=2, info=("harm",)), KEY)
