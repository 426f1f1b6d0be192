"""The product of a linear layer against the one that everybody knows."""

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
    """Of a weighted sum of the product, to both operands."""
    return jax.grad(lambda x, w: (multiply(x, w) * weight).sum(), (0, 1))(inputs, kernel)


@pytest.mark.parametrize("lead", [(), (7,), (4, 5)], ids=str)
@pytest.mark.parametrize(("wide", "narrow"), [(6, 6), (3, 6), (6, 3), (6, 1)])
def test_its_values_and_gradients_are_those_of_a_plain_product(lead, wide, narrow):
    inputs, kernel = normal(0, *lead, wide), normal(1, wide, narrow)
    weight = normal(2, *lead, narrow)
    np.testing.assert_array_equal(dense_dot(inputs, kernel), inputs @ kernel)
    ours = gradients(dense_dot, inputs, kernel, weight)
    theirs = gradients(jnp.matmul, inputs, kernel, weight)
    for one, two in zip(ours, theirs, strict=True):
        assert one.shape == two.shape
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_elsewhere_than_on_a_cpu_nothing_is_turned(monkeypatch):
    inputs, kernel, weight = normal(0, 9, 6), normal(1, 6, 3), normal(2, 9, 3)

    def program():
        told = jax.make_jaxpr(lambda x, w: gradients(dense_dot, x, w, weight))(inputs, kernel)
        return str(told).count("optimization_barrier")

    assert program() == 2
    here = gradients(dense_dot, inputs, kernel, weight)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    assert program() == 0
    there = gradients(dense_dot, inputs, kernel, weight)
    for one, two in zip(here, there, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_many_nets_learn_side_by_side_as_each_would_alone():
    inputs, kernels, weights = normal(0, 3, 8, 6), normal(1, 3, 6, 4), normal(2, 3, 8, 4)
    ours = jax.vmap(lambda *own: gradients(dense_dot, *own))(inputs, kernels, weights)
    for k in range(3):
        alone = gradients(jnp.matmul, inputs[k], kernels[k], weights[k])
        for one, two in zip(ours, alone, strict=True):
            np.testing.assert_allclose(one[k], two, rtol=1e-5, atol=1e-5)


def test_a_layer_is_one_of_flax():
    ours, obs = dense(3, 5, 2.0, nnx.Rngs(0)), normal(3, 2, 3)
    plain = nnx.Linear(3, 5, rngs=nnx.Rngs(1))
    plain.kernel[...], plain.bias[...] = ours.kernel[...], ours.bias[...] + 0.5
    np.testing.assert_allclose(ours(obs) + 0.5, plain(obs), rtol=1e-6)
