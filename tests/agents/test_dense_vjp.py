"""`dense_dot` and its gradients against `jnp.matmul`, on a CPU and as elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from agents.dense_vjp import dense_dot
from agents.nets import dense
from tests.tiers import slow


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def gradients(multiply, inputs, kernel, weight):
    """Gradients of a weighted sum of the product for both operands."""
    return jax.grad(lambda x, w: (multiply(x, w) * weight).sum(), (0, 1))(inputs, kernel)


def assert_same_gradients(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("lead", [slow(()), slow((7,)), (4, 5)], ids=str)
@pytest.mark.parametrize(("wide", "narrow"), [(6, 6), (3, 6), (6, 3), (6, 1)])
def test_values_and_gradients_equal_those_of_matmul(lead, wide, narrow, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    inputs, kernel = normal(0, *lead, wide), normal(1, wide, narrow)
    args = inputs, kernel, normal(2, *lead, narrow)
    np.testing.assert_array_equal(dense_dot(inputs, kernel), inputs @ kernel)
    assert_same_gradients(gradients(dense_dot, *args), gradients(jnp.matmul, *args))


def test_gradients_under_vmap_equal_those_of_each_net():
    args = normal(0, 3, 8, 6), normal(1, 3, 6, 4), normal(2, 3, 8, 4)
    together = jax.vmap(lambda *operands: gradients(dense_dot, *operands))(*args)
    for k in range(3):
        alone = gradients(jnp.matmul, *(arg[k] for arg in args))
        assert_same_gradients([gradient[k] for gradient in together], alone)


def test_dense_equals_a_linear_layer_of_flax():
    layer, obs = dense(3, 5, 2.0, nnx.Rngs(0)), normal(3, 2, 3)
    plain = nnx.Linear(3, 5, rngs=nnx.Rngs(1))
    plain.kernel[...], plain.bias[...] = layer.kernel[...], layer.bias[...] + 0.5
    np.testing.assert_allclose(layer(obs) + 0.5, plain(obs), rtol=1e-6)
