"""The product of a linear layer, whose gradient a CPU takes from its fast kernels."""

from typing import Any

import jax


def dense_dot(inputs: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """[..., I] by [I, O] -> [..., O]: the `dot_general` of a `flax.nnx.Linear`."""
    del args, kwargs  # which axes to sum over and how precisely: it is always these
    return _dense(inputs, kernel)


@jax.custom_vjp
def _dense(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return inputs @ kernel


def _dense_fwd(
    inputs: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return inputs @ kernel, (inputs, kernel)


def _dense_bwd(seen: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = seen
    return grad @ kernel.T, kernel_gradient(inputs, grad)


_dense.defvjp(_dense_fwd, _dense_bwd)


def kernel_gradient(inputs: jax.Array, grad: jax.Array) -> jax.Array:
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
