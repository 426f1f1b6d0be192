"""Drift: level and noise of the rewards, and the rewards of the other arms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World, reset_batch, rollout
from envs.worlds.theory.drift import Drift, Params

ENV = Drift(arms=3, horizon=50)
PARAMS = Params(level=1.0, drift=-0.02, gap=0.5, noise=0.3)


@pytest.fixture(scope="module")
def batch():
    """[50, 2000] steps of pulling arms at random."""
    sample_world = partial(lambda world, key: world, World(PARAMS))
    k_reset, k_rollout = jax.random.split(jax.random.key(0))

    def act(key, obs):
        return jax.random.randint(key, obs.shape[:1], 0, 3)

    env_states = reset_batch(k_reset, ENV, sample_world, 2000)
    return jax.jit(lambda key, env_states: rollout(key, ENV, sample_world, act, env_states, 50)[1])(
        k_rollout, env_states
    )


def test_the_level_changes_by_drift_per_step(batch):
    level = 1.0 - 0.02 * np.arange(50)
    foregone = np.asarray(batch.info["foregone"])
    for arm in range(3):
        np.testing.assert_allclose(foregone[..., arm].mean(1), level + 0.5 * arm, atol=0.03)


def test_noise_is_independent_across_arms_and_steps(batch):
    noise = np.asarray(batch.info["foregone"])
    noise = noise - noise.mean(1, keepdims=True)
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[:-1, :, 0].ravel(), noise[1:, :, 0].ravel())[0, 1]) < 0.02


def test_the_reward_of_the_pulled_arm_is_in_the_next_observation(batch):
    expected = np.take_along_axis(batch.info["foregone"], batch.action[..., None], -1)[..., 0]
    np.testing.assert_array_equal(batch.reward, expected)
    np.testing.assert_allclose(batch.next_obs[..., 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(batch.next_obs[..., 1:].argmax(-1), batch.action)
    assert (batch.obs[0] == 0).all()


def test_only_the_horizon_ends_an_episode(batch):
    assert not batch.terminated.any()
    assert batch.truncated[-1].all() and not batch.truncated[:-1].any()


def test_the_lag_of_an_average_is_that_of_the_docstring():
    alpha, drift, value = 0.2, 0.01, 0.0
    for t in range(400):
        value += alpha * (drift * t - value)
    assert drift * 399 - value == pytest.approx(drift * (1 - alpha) / alpha, rel=1e-6)
    assert drift * 400 - value == pytest.approx(drift / alpha, rel=1e-6)


def test_success_is_a_positive_total():
    assert ENV.success(jnp.array([-1.0, 0.0, 1.0]), jnp.ones(3)).tolist() == [False, False, True]


def test_different_states_give_different_pictures():
    state = ENV.initial(jax.random.key(0), PARAMS)
    later = ENV.transition(state, jnp.int32(1), jax.random.key(1), PARAMS)
    images = [ENV.render_image(s, None, PARAMS)[1] for s in (state, later)]
    assert images[0].shape == (300, 400, 3) and (images[0] != images[1]).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 2 arms, not 1"):
        Drift(arms=1)
