"""Tanh layers with one linear output: the network of `Value` and of distilled heads."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.transition import is_a, is_whole


class MLP(nnx.Module):
    """Network of tanh layers from an observation [..., D] to a number [...]; linear without any."""

    def __init__(self, inputs: int, layers: Sequence[int], *, rngs: nnx.Rngs):
        sizes = [inputs, *layers]
        self.depth = len(layers)
        for i in range(self.depth):  # named, as Orbax takes no lists of layers
            setattr(self, f"hidden_{i}", nnx.Linear(sizes[i], sizes[i + 1], rngs=rngs))
        self.out = nnx.Linear(sizes[-1], 1, rngs=rngs)

    @property
    def hidden(self) -> list[Any]:
        """The tanh layers, from the first on."""
        return [getattr(self, f"hidden_{i}") for i in range(self.depth)]

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Output [...] at obs [..., D]."""
        for layer in self.hidden:
            obs = jnp.tanh(layer(obs))
        return self.out(obs)[..., 0]


def check_layers(layers: Any) -> tuple[int, ...]:
    """Checks the numbers of units of hidden layers, a tuple or one number -> a tuple.

    Raises:
        ValueError: one of them is no whole number, or below 1.
    """
    sizes = tuple(layers) if is_a(layers, tuple | list) else (layers,)
    if not all(is_whole(n) and n >= 1 for n in sizes):
        raise ValueError(f"layers are whole numbers of units, at least 1, not {layers!r}")
    return sizes
