"""Distilled heads: small networks with weights of few bits, packed into bytes and back exactly."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect.head import Head, State
from affect.mlp import MLP, check_layers
from affect.transition import Spec, Transition, is_whole

BITS = range(2, 17)


class Distilled(Head):
    """A small network of `next_obs` that imitates another head or function; made by `distil`.

    Its weights are whole multiples of the scale of their layer, of `bits` bits, or float32; `pack`
    gives them as bytes.

    Args:
        spec: shapes of the world.
        layers: units of each tanh layer; none for a linear function.
        bits: of a weight; None for float32.
        kept: number of weights that are not pruned, at most; None for all.
        rngs: for weights that `distil` replaces.

    Raises:
        ValueError: a layer without units, bits or kept that are no such number.
    """

    depends = ("obs",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks layers, bits and kept."""
        check_bits(settings["bits"])
        kept = settings["kept"]
        if kept is not None and not (is_whole(kept) and kept >= 1):
            raise ValueError(f"kept is a number of weights, at least 1, not {kept!r}")
        return settings | {"layers": check_layers(settings["layers"])}

    def __init__(
        self,
        spec: Spec,
        layers: tuple[int, ...] = (),
        bits: int | None = None,
        kept: int | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        self.net = MLP(spec.obs_dim, layers, rngs=rngs)
        self.bits, self.kept = bits, kept
        if bits is not None:
            self.scales = nnx.Param(jnp.ones((len(layers) + 1,)))

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal [T, B] at `next_obs`, in units of what it imitates."""
        return jax.lax.stop_gradient(self.net(batch.next_obs)), state


def check_bits(bits: int | None) -> None:
    """Checks a number of bits of a weight; None stands for float32.

    Raises:
        ValueError: it is no whole number from 2 to 16.
    """
    if bits is not None and (not is_whole(bits) or bits not in BITS):
        raise ValueError(f"bits are a whole number from 2 to 16, or None, not {bits!r}")


def layers_of(net: MLP) -> list[Any]:
    """The layers of a network, `nnx.Linear`s from the first on."""
    return [*net.hidden, net.out]


def scales_of(net: MLP, bits: int) -> jax.Array:
    """Step of the grid of each layer, [layers], in the precision of bfloat16."""
    most = [
        jnp.maximum(jnp.abs(x.kernel[...]).max(), jnp.abs(x.bias[...]).max())
        for x in layers_of(net)
    ]
    steps = (jnp.stack(most) / (2 ** (bits - 1) - 1)).astype(jnp.bfloat16).astype(jnp.float32)
    return jnp.where(steps > 0, steps, 1.0)


def on_grid(net: MLP, scales: jax.Array, bits: int) -> MLP:
    """The network with each weight a whole multiple of its layer's scale, of `bits` bits."""
    net, most = jax.tree.map(lambda leaf: leaf, net), 2 ** (bits - 1) - 1
    for layer, scale in zip(layers_of(net), scales, strict=True):
        for name in ("kernel", "bias"):
            codes = jnp.clip(jnp.round(getattr(layer, name)[...] / scale), -most, most)
            setattr(layer, name, nnx.Param(codes * scale))
    return net


def pack(head: Distilled) -> bytes:
    """The weights of a distilled head as bytes: scales, positions if it is pruned, and codes."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(head.net)]
    flat, width = np.concatenate([leaf.ravel() for leaf in leaves]), head.bits or 32
    start = b""
    if head.bits is None:
        codes = flat.view(np.uint32).astype(np.int64)
    else:
        codes = np.rint(flat / _scale_of_each(head)).astype(np.int64) + 2 ** (head.bits - 1) - 1
        start = (np.asarray(head.scales[...]).view(np.uint32) >> 16).astype("<u2").tobytes()
    if head.kept is None:
        return start + np.packbits(_bits(codes, width)).tobytes()
    places = np.sort(np.argsort(flat == 0, kind="stable")[: head.kept])
    parts = _bits(places, _index_bits(len(flat))), _bits(codes[places], width)
    return start + np.packbits(np.concatenate(parts)).tobytes()


def unpack(data: bytes, like: Distilled) -> Distilled:
    """The head of some bytes, for layers, bits and observations as those of `like`."""
    head = jax.tree.map(lambda leaf: leaf, like)
    leaves, structure = jax.tree.flatten(head.net)
    size, width = sum(leaf.size for leaf in leaves), head.bits or 32
    if head.bits is not None:
        count = 2 * head.scales.size
        scales = np.frombuffer(data[:count], "<u2").astype(np.uint32) << 16
        head.scales, data = nnx.Param(jnp.asarray(scales.view(np.float32))), data[count:]
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    places = np.arange(size)
    if head.kept is not None:
        index = _index_bits(size)
        places, bits = _whole(bits[: head.kept * index], index), bits[head.kept * index :]
    codes = _whole(bits[: len(places) * width], width)
    flat = np.zeros(size, np.float32)
    if head.bits is None:
        flat[places] = codes.astype(np.uint32).view(np.float32)
    else:
        steps = (codes - (2 ** (head.bits - 1) - 1)).astype(np.float32)
        flat[places] = steps * _scale_of_each(head)[places]
    parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
    shaped = [jnp.asarray(x.reshape(leaf.shape)) for x, leaf in zip(parts, leaves, strict=True)]
    head.net = jax.tree.unflatten(structure, shaped)
    return head


def _scale_of_each(head: Distilled) -> np.ndarray:
    """Scale of each weight, in the order of the leaves of the network."""
    scales, net = np.asarray(head.scales[...]), jax.tree.map(lambda leaf: leaf, head.net)
    for layer, scale in zip(layers_of(net), scales, strict=True):
        for name in ("kernel", "bias"):
            setattr(layer, name, nnx.Param(np.full(getattr(layer, name).shape, scale)))
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(net)])


def _bits(codes: np.ndarray, width: int) -> np.ndarray:
    """Whole numbers as bits, `width` of each."""
    return ((codes[:, None] >> np.arange(width)) & 1).astype(np.uint8).ravel()


def _whole(bits: np.ndarray, width: int) -> np.ndarray:
    """Whole numbers of `width` bits each."""
    return (bits.reshape(-1, width).astype(np.int64) << np.arange(width)).sum(-1)


def _index_bits(size: int) -> int:
    """Number of bits of an index into `size` weights."""
    return max(1, math.ceil(math.log2(size)))
