"""Running moments and whitening against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect.moments import empty_moments, running_moments, whiten

update = jax.jit(running_moments)


def stream(steps=12, shape=(2,), mean=1.0, deviation=2.0) -> np.ndarray:
    """Random values [steps, 3, *shape]."""
    rng = np.random.default_rng(0)
    return rng.normal(mean, deviation, (steps, 3, *shape)).astype(np.float32)


@pytest.mark.parametrize("sizes", [(12,), (1,) * 12, (7, 1, 4)])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_moments_equal_numpys_at_every_step(sizes, shape):
    x, moments, start = stream(shape=shape), empty_moments(shape), 0
    assert (moments.variance == 0).all()
    for size in sizes:
        history, moments = update(moments, jnp.asarray(x[start : start + size]))
        for t in range(size):
            values = x[: start + t + 1].astype(np.float64).reshape(-1, *shape)
            assert history.number[t] == len(values)
            np.testing.assert_allclose(history.mean[t], values.mean(0), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(history.variance[t], values.var(0), rtol=1e-3, atol=1e-5)
        start += size
    np.testing.assert_allclose(moments.variance, x.reshape(-1, *shape).var(0), rtol=1e-4)


@pytest.mark.parametrize("mean", [1e3, -1e5])
def test_moments_survive_an_offset_far_larger_than_the_deviation(mean):
    x, moments = stream(steps=200, mean=mean), empty_moments((2,))
    for start in range(0, 200, 50):
        _, moments = update(moments, jnp.asarray(x[start : start + 50]))
    x = x.astype(np.float64).reshape(-1, 2)
    np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, x.var(0), rtol=0.02)


def test_whitening_centres_scales_and_clips():
    x = stream(steps=500, mean=50.0, deviation=3.0)
    _, moments = update(empty_moments((2,)), jnp.asarray(x))
    white = np.asarray(whiten(moments, jnp.asarray(x), 2.0)).reshape(-1, 2)
    assert np.abs(white).max() == 2.0
    expected = (x.reshape(-1, 2) - x.mean((0, 1))) / x.std((0, 1))
    np.testing.assert_allclose(white, np.clip(expected, -2, 2), atol=1e-3)


def test_whitening_leaves_a_small_change_of_what_was_constant_small():
    _, moments = update(empty_moments((2,)), jnp.full((100, 4, 2), 1.0 + 1e-6))
    changed = jnp.full((2,), 1.0 + 1e-3)
    assert np.abs(whiten(moments, changed, 10.0)).min() > 9
    assert np.abs(whiten(moments, changed, 10.0, constant=1e-4)).max() < 2e-3
    _, large = update(empty_moments((2,)), 1e6 + 50 * jnp.asarray(stream(shape=(2,), steps=100)))
    assert np.abs(whiten(large, jnp.full((2,), 1e6 + 150.0), 10.0, constant=1e-4)).max() < 5
    wide = moments._replace(m2=moments.m2 + moments.number)
    np.testing.assert_array_equal(whiten(wide, changed, 10.0), whiten(wide, changed, 10.0, 1e-4))
