"""Genomes: the values or policies of all parents, distilled at once into few weights of few bits.

The fit is that of `affect.distil`, mapped over parents and with an output for each action, so that
one compiled program makes the genomes of all parents.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect import Distilled, Spec
from affect.distil import HELD_OUT
from affect.fitting import Units, best_features, fit, pruning_mask, used
from affect.genome import layers_of, on_grid, pack, scales_of
from affect.mlp import MLP
from runs.engine.seeds import vmap_seeds
from runs.inheritance.parent import one_parent, stack

STEPS = 2000  # of gradient descent, and as many again once weights are pruned or rounded
WIDTH = 64  # units of a layer of a genome, at most


class Genome(NamedTuple):
    """What is distilled, into which form and precision (see `affect.distil`).

    Attributes:
        of: "value", or "policy", whose logits are distilled.
        form: "features", "linear", "units", "layers" or "pruned".
        units: of each tanh layer.
        features: number of observations, of "features".
        weights: number of weights that are kept at most, of "pruned".
        bits: of a weight; None for float32.
    """

    of: str
    form: str
    units: tuple[int, ...] = ()
    features: int = 2
    weights: int = 32
    bits: int | None = 4

    @property
    def name(self) -> str:
        """Such as value, 2 units, 4 bits."""
        units = "-".join(map(str, self.units))
        shape = {
            "features": f"{self.features} senses",
            "units": f"{units} unit{'s' * (self.units != (1,))}",
            "layers": f"{units} units",
            "pruned": f"{units} units, {self.weights} weights",
        }.get(self.form, self.form)
        return f"{self.of}, {shape}, {self.bits or 32} bits"


class Distillations(NamedTuple):
    """Genomes of P parents, all of one form.

    Attributes:
        kernels: of each layer, the output last, [P, inputs, outputs].
        biases: of each layer, [P, outputs].
        r2: share [P] of the variance of what was distilled that each explains, on samples that it
            was not fitted to.
        num_bytes: of the weights of one parent's genome, as `affect.genome.pack` writes them.
    """

    kernels: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]
    r2: np.ndarray
    num_bytes: int

    def columns(self) -> dict[str, list]:
        """As lists of numbers, for a file."""
        parts = (self.kernels, self.biases, [self.r2])
        lists = [[np.asarray(x, np.float64).tolist() for x in part] for part in parts]
        return dict(zip(self._fields, [*lists, [self.num_bytes]], strict=True))

    @classmethod
    def from_columns(cls, columns: Mapping[str, list]) -> "Distillations":
        """From the lists of `columns`."""
        kernels, biases, (r2,) = (
            [np.array(x, np.float32) for x in columns[name]] for name in ("kernels", "biases", "r2")
        )
        return cls(kernels, biases, r2, columns["num_bytes"][0])

    def repeated(self, count: int) -> "Distillations":
        """The genome of one parent for `count` of them."""
        kernels, biases, r2 = jax.tree.map(lambda leaf: np.repeat(leaf, count, 0), self[:3])
        return Distillations(kernels, biases, r2, self.num_bytes)


class Outputs(MLP):
    """Network of tanh layers from an observation [..., D] to several numbers [..., A]."""

    def __init__(self, inputs: int, layers: Sequence[int], outputs: int, *, rngs: nnx.Rngs):
        super().__init__(inputs, layers, rngs=rngs)
        self.out = nnx.Linear([inputs, *layers][-1], outputs, rngs=rngs)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Outputs [..., A] at obs [..., D]."""
        for layer in self.hidden:
            obs = jnp.tanh(layer(obs))
        return self.out(obs)


def distil_all(
    genome: Genome, obs: np.ndarray, targets: np.ndarray, steps: int = STEPS
) -> Distillations:
    """Fits a genome of each parent to its targets, by least squares.

    Args:
        genome: the form.
        obs: [P, N, D] of each parent.
        targets: [P, N, A] at them: values, A = 1, or logits.
        steps: of gradient descent, and as many again once weights are pruned or rounded.
    """
    parents, test = range(len(obs)), np.arange(obs.shape[1]) % HELD_OUT == 0
    data = jnp.asarray(obs[:, ~test]), jnp.asarray(targets[:, ~test])
    scale = stack([units_of(*pair) for pair in zip(*map(np.asarray, data), strict=True)])
    net = Outputs(obs.shape[-1], genome.units, targets.shape[-1], rngs=nnx.Rngs(0))
    nets = stack([net for _ in parents])
    keys = jax.random.split(jax.random.key(0), 2 * steps)
    masks = stack([first_mask(genome, net, obs[i], targets[i]) for i in parents])
    inputs, bits = (*data, scale), genome.bits
    nets = _program(None, bits, len(obs))(nets, masks, *inputs, keys[:steps])
    if genome.form == "pruned":
        masks = stack([pruning_mask(one_parent(nets, i), genome.weights) for i in parents])
    if genome.form == "pruned" or bits is not None:
        nets = _program(bits, bits, len(obs))(nets, masks, *inputs, keys[steps:])
    nets, scales = jax.jit(jax.vmap(partial(rounded, bits=genome.bits)))(nets, masks, scale)
    predicted = jax.jit(jax.vmap(lambda net, obs: net(obs)))(nets, jnp.asarray(obs[:, test]))
    errors = np.square(np.asarray(predicted) - targets[:, test]).mean(1).sum(-1)
    layers = layers_of(nets)
    return Distillations(
        [np.asarray(layer.kernel[...]) for layer in layers],
        [np.asarray(layer.bias[...]) for layer in layers],
        1 - errors / targets[:, test].var(1).sum(-1),
        packed_size(genome, one_parent(nets, 0), None if scales is None else scales[0]),
    )


def units_of(obs: np.ndarray, targets: np.ndarray) -> Units:
    """Units of observations [N, D] and targets [N, A], one deviation for all A of them."""
    units = Units.of(obs, targets[:, 0])
    deviation = np.sqrt(targets.var(0).mean())
    return units._replace(level=targets.mean(0), unit=np.float32(max(deviation, 1e-6)))


def first_mask(genome: Genome, net: Outputs, obs: np.ndarray, targets: np.ndarray) -> Outputs:
    """Mask of the weights of a network: 1, and 0 for observations that "features" leaves out."""
    mask = jax.tree.map(jnp.ones_like, net)
    if genome.form == "features":
        units = units_of(obs, targets)
        whitened = (obs - units.centre) / units.spread, (targets - units.level) / units.unit
        kernel = np.zeros(mask.out.kernel.shape, np.float32)
        kernel[best_features(*whitened, genome.features)] = 1
        mask.out.kernel = nnx.Param(jnp.asarray(kernel))
    return mask


def _program(bits: int | None, final_bits: int | None, parents: int) -> Any:
    """`affect.fitting.fit`, compiled for all parents; all but the keys have their axis."""

    def fit_one(net, mask, obs, targets, units, keys):
        return fit(net, mask, bits, (obs, targets, units), keys, final_bits)

    return vmap_seeds(fit_one, parents, shared=1)


def rounded(
    net: Outputs, mask: Outputs, units: Units, bits: int | None
) -> tuple[Outputs, jax.Array | None]:
    """The network in own units, pruned and rounded, and the scale of each layer, None of none."""
    net, scales = used(net, mask, None, units), None
    if bits is not None:
        scales = scales_of(net, bits)
        net = on_grid(net, scales, bits)
    return jax.tree.map(lambda leaf: jnp.where(leaf == 0, 0.0, leaf), net), scales  # no -0


def packed_size(genome: Genome, net: Outputs, scales: jax.Array | None) -> int:
    """Bytes of the weights of one parent's network."""
    inputs = layers_of(net)[0].kernel.shape[0]
    outputs = net.out.bias.size
    kept = {"features": (genome.features + 1) * outputs, "pruned": genome.weights}.get(genome.form)
    form = {"layers": genome.units, "bits": genome.bits, "kept": kept}
    head = Distilled(Spec(inputs, num_actions=1), **form, rngs=nnx.Rngs(0))
    head.net = net
    if scales is not None:
        head.scales = nnx.Param(scales)
    return len(pack(head))


# --- one form for all -----------------------------------------------------------------------------


class CommonForm(NamedTuple):
    """A genome as two tanh layers of WIDTH units and a way around each, most weights 0.

    Genomes of all forms are the same pytree in it, so that all newborns of a body share a program.

    Attributes:
        around: [D, A] from observations to outputs.
        first: [D, WIDTH] from observations to the first layer.
        first_bias: [WIDTH].
        past: [WIDTH, A] from the first layer to outputs.
        second: [WIDTH, WIDTH] from the first layer to the second.
        second_bias: [WIDTH].
        last: [WIDTH, A] from the second layer to outputs.
        bias: [A].
    """

    around: Any
    first: Any
    first_bias: Any
    past: Any
    second: Any
    second_bias: Any
    last: Any
    bias: Any

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Outputs [..., A] at obs [..., D]."""
        one = jnp.tanh(_plus(obs @ self.first, self.first_bias))
        two = jnp.tanh(_plus(one @ self.second, self.second_bias))
        return _plus(obs @ self.around + one @ self.past + two @ self.last, self.bias)


def common_form(genomes: Distillations) -> CommonForm:
    """Genomes of P parents in the common form, leaves [P, ...]."""
    (parents, inputs, _), outputs = genomes.kernels[0].shape, genomes.biases[-1].shape[-1]
    shapes = ((inputs, outputs), (inputs, WIDTH), (WIDTH,), (WIDTH, outputs), (WIDTH, WIDTH))
    shapes = (*shapes, (WIDTH,), (WIDTH, outputs), (outputs,))
    common = CommonForm(*(np.zeros((parents, *shape), np.float32) for shape in shapes))
    *hidden, out = genomes.kernels
    common.bias[:] = genomes.biases[-1]
    ways = (common.around, common.past, common.last)
    ways[len(hidden)][:, : out.shape[1]] = out
    layers = ((common.first, common.first_bias), (common.second, common.second_bias))
    for (kernel, bias), own, own_bias in zip(layers, hidden, genomes.biases, strict=False):
        kernel[:, : own.shape[1], : own.shape[2]] = own
        bias[:, : own.shape[2]] = own_bias
    return jax.tree.map(jnp.asarray, common)


def with_senses(common: CommonForm, order: np.ndarray) -> CommonForm:
    """Genomes [P] that read observations in another order: number order[i] in place of i."""
    back = np.argsort(order)
    return common._replace(around=common.around[:, back], first=common.first[:, back])


def _plus(x: jax.Array, bias: jax.Array) -> jax.Array:
    """X [..., N] plus a bias [N]."""
    return x + jnp.broadcast_to(bias, x.shape)
