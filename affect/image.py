"""Images in observations: their shape, patches for convolutions, and frozen random features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

CPU_BYTES = 2**17  # of images in a group on a CPU, whose patches, 15 times as much, fit its cache
DEVICE_BYTES = 2**23  # of images in a group on any other device, whose patches fit its memory
LOOPS = 2  # over groups, side by side: a CPU computes them on two cores
FEATURES = 64  # numbers of a frozen random convolution, which heads read
Layer = tuple[int, int, int]  # filters, size of the square kernel, stride


@dataclass(frozen=True)
class Image:
    """Shape of an image of bytes in an observation, and what the bytes mean.

    Attributes:
        height, width, channels: of the image.
        unit: what bytes are divided by before a network gets them: 255 for brightness, 1 for
            symbols, such as the codes of the cells of a grid.
        channel_first: whether the bytes come in the order [channels, height, width].

    Raises:
        ValueError: for sizes that are not positive, or a unit that is not.
    """

    height: int
    width: int
    channels: int
    unit: float = 255.0
    channel_first: bool = False

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.channels) < 1 or not self.unit > 0:
            raise ValueError(f"{self}: sizes and unit are positive")

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.height * self.width * self.channels

    @property
    def symbols(self) -> bool:
        """Whether bytes are symbols, and no brightness."""
        return self.unit == 1

    def shaped(self, flat: jax.Array) -> jax.Array:
        """Bytes [..., size] as an image [..., height, width, channels]."""
        if not self.channel_first:
            return flat.reshape(*flat.shape[:-1], self.height, self.width, self.channels)
        image = flat.reshape(*flat.shape[:-1], self.channels, self.height, self.width)
        return jnp.moveaxis(image, -3, -1)

    def flat(self, image: jax.Array) -> jax.Array:
        """The inverse of `shaped`."""
        image = jnp.moveaxis(image, -1, -3) if self.channel_first else image
        return image.reshape(*image.shape[:-3], self.size)


def patches(image: jax.Array, kernel: int, stride: int) -> jax.Array:
    """Patches [N, h, w, kernel kernel C] of images [N, H, W, C], one for each output of a layer.

    A convolution is a matrix product with them, which many networks of one shape batch well. Where
    the stride divides the kernel, pixels are first gathered in blocks, so that few slices remain.
    """
    block = stride if kernel % stride == 0 else 1
    kernel, step = kernel // block, stride // block
    number, height, width, channels = image.shape
    rows, columns = height // block, width // block
    image = image[:, : rows * block, : columns * block]
    image = image.reshape(number, rows, block, columns, block, channels).swapaxes(2, 3)
    image = image.reshape(number, rows, columns, block * block * channels)
    h, w = (rows - kernel) // step + 1, (columns - kernel) // step + 1
    parts = [
        image[:, i : i + step * (h - 1) + 1 : step, j : j + step * (w - 1) + 1 : step]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return jnp.concatenate(parts, -1)


def output_sizes(image: Image, layers: tuple[Layer, ...]) -> list[tuple[int, int]]:
    """Height and width of the output of each layer, below 1 where its kernel does not fit."""
    sizes, size = [], (image.height, image.width)
    for _, kernel, stride in layers:
        size = (size[0] - kernel) // stride + 1, (size[1] - kernel) // stride + 1
        sizes.append(size)
    return sizes


def small_layers(image: Image) -> tuple[Layer, ...]:
    """Two layers of a size that suits a CPU, by the shorter side of the image."""
    side = min(image.height, image.width)
    if side >= 36:
        return (16, 8, 4), (32, 4, 2)
    if side >= 12:
        return (16, 4, 2), (32, 3, 2)
    return (16, min(3, side), 1), (32, min(3, max(side - 2, 1)), 1)


def in_groups(fn: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """`fn`, rows of bytes [N, D] -> [N, F], of x [..., D] -> [..., F], in groups of rows.

    A gradient computes a group again, so that no more than the patches of one are kept.
    """
    rows = x.reshape(-1, x.shape[-1])
    count, size = rows.shape
    room = CPU_BYTES if jax.default_backend() == "cpu" else DEVICE_BYTES
    together = 1 << max(room // size, 1).bit_length() - 1  # a power of 2, as most batches are
    if count > together:
        number = -(-count // (LOOPS * together))
        padded = jnp.pad(rows, ((0, LOOPS * number * together - count), (0, 0)))
        again = jax.checkpoint(fn)
        groups = padded.reshape(LOOPS, number, together, size)
        loops = [jax.lax.map(again, of_loop) for of_loop in groups]
        out = jnp.concatenate(loops).reshape(LOOPS * number * together, -1)[:count]
    else:
        out = fn(rows)
    return out.reshape(*x.shape[:-1], out.shape[-1])


def random_features(image: Image) -> Callable[[jax.Array], jax.Array]:
    """Function from bytes [..., size] to features [..., FEATURES], of a frozen random convolution.

    Its weights are drawn once and are the same in every run: two convolutions with rectified units,
    and a random projection of their outputs (the frozen network of Burda et al., 2018, in small).
    """
    rng, layers = np.random.default_rng(0), small_layers(image)
    inputs, kernels = image.channels, []
    for filters, kernel, _ in layers:
        kernels.append(_weights(rng, kernel * kernel * inputs, filters, 2.0))
        inputs = filters
    height, width = output_sizes(image, layers)[-1]
    projection = _weights(rng, height * width * inputs, FEATURES, 1.0)

    def compute(flat: jax.Array) -> jax.Array:
        x = image.shaped(flat).astype(jnp.float32) / image.unit - 0.5
        for weights, (_, kernel, stride) in zip(kernels, layers, strict=True):
            x = jax.nn.relu(patches(x, kernel, stride) @ weights)
        return x.reshape(len(x), -1) @ projection

    return partial(in_groups, compute)


def _weights(rng: np.random.Generator, inputs: int, outputs: int, gain: float) -> np.ndarray:
    """Gaussian weights [inputs, outputs] of variance gain / inputs."""
    scale = np.sqrt(gain / inputs)
    return (scale * rng.normal(size=(inputs, outputs))).astype(np.float32)
