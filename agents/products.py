"""The product of a linear layer, whose gradient a CPU takes from its fast kernels."""

from typing import Any

import jax


def product(inputs: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """[..., I] by [I, O] -> [..., O]: the `dot_general` of a `flax.nnx.Linear`."""
    del args, kwargs  # which axes to sum over and how precisely: it is always these
    return _product(inputs, kernel)


@jax.custom_vjp
def _product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return inputs @ kernel


def _forth(inputs: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return inputs @ kernel, (inputs, kernel)


def _back(seen: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = seen
    return grad @ kernel.T, summed(inputs, grad)


_product.defvjp(_forth, _back)


def summed(inputs: jax.Array, grad: jax.Array) -> jax.Array:
    """The gradient [I, O] of a kernel: outer products of inputs [..., I] and grad [..., O], summed.

    On a CPU, XLA hands a product that sums over the first axis of both to kernels that copy both
    into another order, which takes longer than the product itself. The narrower of the two is
    turned by ourselves, behind a barrier, lest XLA turns it back.
    """
    inputs, grad = inputs.reshape(-1, inputs.shape[-1]), grad.reshape(-1, grad.shape[-1])
    if jax.default_backend() != "cpu":
        return inputs.T @ grad
    turn = jax.lax.optimization_barrier
    if inputs.shape[1] <= grad.shape[1]:
        return turn(inputs.T) @ grad
    return turn(turn(grad.T) @ inputs).T
