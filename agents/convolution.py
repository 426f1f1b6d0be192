"""Convolutional layers that turn an image in an observation into numbers, chosen by its size."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Image, Spec
from affect.image import Layer, in_groups, output_sizes, patches, small_layers
from affect.observation import split
from agents.nets import dense

NATURE = (32, 8, 4), (64, 4, 2), (64, 3, 1), 512
"""Layers of Mnih et al. (2015): (filters, kernel, stride) each, and units of the last layer."""
SMALL_UNITS = 128  # of the last layer, where the image chooses the others
EXPECTED = "None, 'nature', or layers such as ((16, 8, 4), (32, 4, 2), 128)"


def check_convolution(agent: str, value: Any) -> None:
    """Checks the convolution of an agent's settings: None, a name, or layers and last units.

    Raises:
        ValueError: for anything else.
    """
    if value is None or value == "nature":
        return
    good = isinstance(value, tuple) and len(value) > 1 and _positive(value[-1:])
    layers = value[:-1] if good else ("none",)
    if not all(isinstance(x, tuple) and len(x) == 3 and _positive(x) for x in layers):
        raise ValueError(f"{agent}: convolution={value!r}, expected {EXPECTED}")


def chosen_layers(image: Image, convolution: Any) -> tuple[tuple[Layer, ...], int]:
    """Layers and last units of a convolution for an image.

    Raises:
        ValueError: if the kernel of a layer does not fit.
    """
    if convolution is None:
        layers, units = small_layers(image), SMALL_UNITS
    else:
        *given, units = NATURE if convolution == "nature" else convolution
        layers = tuple(given)
    for i, size in enumerate(output_sizes(image, layers)):
        if min(size) < 1:
            raise ValueError(
                f"convolution: the kernel {layers[i][1]} of layer {i} does not fit an image of "
                f"{image.height} x {image.width}: give smaller ones, or None"
            )
    return layers, units


class Encoder(nnx.Module):
    """Layers with rectified units from the image of an observation to features.

    A convolution is the product of patches with a kernel, which batches over seeds without a
    convolution of groups, slow on a CPU. Bytes are divided by the image's unit here, and nowhere
    else: in batches they stay bytes.
    """

    def __init__(self, spec: Spec, convolution: Any, *, rngs: nnx.Rngs):
        self.spec, image = spec, spec.image
        self.layers, units = chosen_layers(image, convolution)
        inputs = image.channels
        for i, (filters, kernel, _) in enumerate(self.layers):  # named, as Orbax takes no lists
            setattr(self, f"layer_{i}", dense(kernel * kernel * inputs, filters, 2.0, rngs))
            inputs = filters
        height, width = output_sizes(image, self.layers)[-1]
        self.out = dense(height * width * inputs, units, 2.0, rngs)

    @property
    def encoded(self) -> Spec:
        """Shapes of what it makes of observations: features, numbers and mask."""
        dim = self.out.out_features + self.spec.obs_dim
        return replace(self.spec, obs_dim=dim, image=None, reader=None)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Features, numbers and mask in a row [..., F + obs_dim + n] of observations [..., D]."""
        image, numbers, mask = split(self.spec, obs)
        row = [jax.nn.relu(self.out(in_groups(self._convolved, image)))]
        row += [] if numbers is None else [numbers]
        row += [] if mask is None else [mask.astype(jnp.float32)]
        return jnp.concatenate(row, -1)

    def _convolved(self, flat: jax.Array) -> jax.Array:
        """What the last convolution makes, flat [N, h w filters], of bytes [N, size]."""
        x = self.spec.image.shaped(flat)
        for i, (_, kernel, stride) in enumerate(self.layers):
            x = patches(x, kernel, stride)
            x = x.astype(jnp.float32) / self.spec.image.unit if i == 0 else x
            x = jax.nn.relu(getattr(self, f"layer_{i}")(x))
        return x.reshape(len(x), -1)


def _positive(values: Any) -> bool:
    """Whether all values are whole numbers of at least 1."""
    return all(isinstance(x, int) and not isinstance(x, bool) and x >= 1 for x in values)
