"""`dense_dot` and its gradients against `jnp.matmul`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from agents.dense_vjp import dense_dot
from agents.nets import dense


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def gradients(multiply, inputs, kernel, weight):
    """Gradients of a weighted sum of the product for both operands."""
    return jax.grad(lambda x, w: (multiply(x, w) * weight).sum(), (0, 1))(inputs, kernel)


@pytest.mark.parametrize("lead", [(), (7,), (4, 5)], ids=str)
@pytest.mark.parametrize(("wide", "narrow"), [(6, 6), (3, 6), (6, 3), (6, 1)])
def test_values_and_gradients_equal_those_of_matmul(lead, wide, narrow):
    inputs, kernel = normal(0, *lead, wide), normal(1, wide, narrow)
    weight = normal(2, *lead, narrow)
    np.testing.assert_array_equal(dense_dot(inputs, kernel), inputs @ kernel)
    gradients_of_dense = gradients(dense_dot, inputs, kernel, weight)
    gradients_of_matmul = gradients(jnp.matmul, inputs, kernel, weight)
    for actual, expected in zip(gradients_of_dense, gradients_of_matmul, strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_off_the_cpu_there_is_no_barrier(monkeypatch):
    inputs, kernel, weight = normal(0, 9, 6), normal(1, 6, 3), normal(2, 9, 3)

    def num_barriers():
        jaxpr = jax.make_jaxpr(lambda x, w: gradients(dense_dot, x, w, weight))(inputs, kernel)
        return str(jaxpr).count("optimization_barrier")

    assert num_barriers() == 2
    on_cpu = gradients(dense_dot, inputs, kernel, weight)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    assert num_barriers() == 0
    off_cpu = gradients(dense_dot, inputs, kernel, weight)
    for actual, expected in zip(on_cpu, off_cpu, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_gradients_under_vmap_equal_those_of_each_net():
    inputs, kernels, weights = normal(0, 3, 8, 6), normal(1, 3, 6, 4), normal(2, 3, 8, 4)
    together = jax.vmap(lambda *operands: gradients(dense_dot, *operands))(inputs, kernels, weights)
    for k in range(3):
        alone = gradients(jnp.matmul, inputs[k], kernels[k], weights[k])
        for actual, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(actual[k], expected, rtol=1e-5, atol=1e-5)


def test_dense_equals_a_linear_layer_of_flax():
    layer, obs = dense(3, 5, 2.0, nnx.Rngs(0)), normal(3, 2, 3)
    plain = nnx.Linear(3, 5, rngs=nnx.Rngs(1))
    plain.kernel[...], plain.bias[...] = layer.kernel[...], layer.bias[...] + 0.5
    np.testing.assert_allclose(layer(obs) + 0.5, plain(obs), rtol=1e-6)
