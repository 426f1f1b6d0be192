"""Fitting of small networks by least squares, whose weights are pruned or rounded to few bits."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from affect.genome import layers_of, on_grid, scales_of
from affect.learn import TrainState, gradient_step
from affect.mlp import MLP

SAMPLES = 1024  # of a step


class Units(NamedTuple):
    """Mean and deviation of observations, [D] each, and of values, by which a fit is whitened."""

    centre: np.ndarray
    spread: np.ndarray
    level: float
    unit: float

    @classmethod
    def of(cls, obs: np.ndarray, target: np.ndarray) -> "Units":
        """Units of observations [N, D] and values [N]; what hardly varies keeps its scale."""
        spread = np.where(obs.std(0) > 1e-4 * (1 + np.abs(obs.mean(0))), obs.std(0), 1.0)
        return cls(obs.mean(0), spread.astype(np.float32), target.mean(), target.std())

    def unfold(self, net: MLP) -> MLP:
        """The network in the data's own units, of one in whitened units."""
        net = jax.tree.map(lambda leaf: leaf, net)
        first = layers_of(net)[0]
        kernel = first.kernel[...] / self.spread[:, None]
        first.bias = nnx.Param(first.bias[...] - self.centre @ kernel)
        first.kernel = nnx.Param(kernel)
        last = layers_of(net)[-1]
        last.kernel = nnx.Param(last.kernel[...] * self.unit)
        last.bias = nnx.Param(last.bias[...] * self.unit + self.level)
        return net


@partial(jax.jit, static_argnames=("bits", "final_bits"))
def fit(
    net: MLP,
    mask: MLP,
    bits: int | None,
    data: tuple,
    keys: jax.Array,
    final_bits: int | None = None,
) -> MLP:
    """Takes an Adam step a key on the mean squared error of the network that is used -> net.

    To it is added the error that rounding a layered network to the final bits is expected to add,
    so that of networks that compute nearly the same one is fitted that rounding changes little.

    Args:
        net: in whitened units.
        mask: 0 for weights that are pruned, else 1.
        bits: of a weight of the network that is used; rounding passes the gradient straight
            through (Bengio et al., 2013). None for float32.
        data: observations [N, D], values [N], and their `Units`.
        keys: [steps], of the samples.
        final_bits: of a weight in the end, when all steps are taken.
    """
    tx = optax.adam(optax.cosine_decay_schedule(2e-2, len(keys)))
    obs, target, units = data

    def loss(net: MLP, rows: jax.Array) -> tuple[jax.Array, dict]:
        error = used(net, mask, bits, units)(obs[rows]) - target[rows]
        added = jnp.zeros(())
        if final_bits is not None and net.hidden:  # a linear function has no other weights
            exact = jax.tree.map(jnp.multiply, units.unfold(net), mask)
            added = rounding_error(exact, final_bits, units) / jnp.square(units.unit)
        return jnp.square(error / units.unit).mean() + added, {}

    def step(train_state: TrainState, key: jax.Array) -> tuple[TrainState, None]:
        rows = jax.random.randint(key, (min(SAMPLES, len(obs)),), 0, len(obs))
        return gradient_step(train_state, tx, loss, rows)[0], None

    return jax.lax.scan(step, TrainState.create(net, tx), keys)[0].net


def rounding_error(net: MLP, bits: int, units: Units) -> jax.Array:
    """Expected square of what rounding the weights to some bits adds to the outputs [], at most.

    A weight that is rounded to multiples of a step has an error of variance step^2 / 12, which its
    input and the weights of the layers after it pass on; the slope of tanh is taken as 1, and means
    of inputs are left to the biases. The step of a layer is set by its largest weight. Without this
    term that is often the weight of an input that hardly varies, and all others are rounded to 0.

    Args:
        net: in own units.
        bits: of a weight.
        units: of the observations.
    """
    power, variance = jnp.square(units.spread).sum(), jnp.zeros(())
    for layer, step in zip(layers_of(net), scales_of(net, bits), strict=True):
        kernel = layer.kernel[...]
        passed = variance @ jnp.square(kernel) if variance.ndim else variance
        variance = passed + jnp.square(step) / 12 * (power + 1) * jnp.ones(kernel.shape[-1])
        power = kernel.shape[-1]  # of outputs of tanh, at most 1 each
    return variance.mean()


def used(net: MLP, mask: MLP, bits: int | None, units: Units) -> MLP:
    """The network in own units, pruned and rounded, of one in whitened units."""
    exact = jax.tree.map(jnp.multiply, units.unfold(net), mask)
    if bits is None:
        return exact
    rounded = on_grid(exact, scales_of(exact, bits), bits)
    return jax.tree.map(lambda w, q: w + jax.lax.stop_gradient(q - w), exact, rounded)


def best_features(obs: np.ndarray, target: np.ndarray, count: int) -> list[int]:
    """Indices of observations that predict best together, chosen one after the other.

    Args:
        obs: [N, D], whitened.
        target: [N], or [N, A] of several values, less their means.
        count: of indices.
    """
    covariance, with_target = obs.T @ obs / len(obs), obs.T @ target / len(obs)
    chosen: list[int] = []

    def explained(index: int) -> float:
        rows = [*chosen, index]
        weights = np.linalg.lstsq(covariance[np.ix_(rows, rows)], with_target[rows], rcond=None)[0]
        return float((weights * with_target[rows]).sum())

    for _ in range(count):
        left = [index for index in range(obs.shape[1]) if index not in chosen]
        chosen.append(max(left, key=explained))
    return chosen


def pruning_mask(net: MLP, count: int) -> MLP:
    """Mask of at most `count` weights of a network of one tanh layer, 1, and of all others, 0.

    Weights of observations are kept in order of |w v|, where v are those from the same unit to the
    outputs: as far as tanh is linear, the change of the outputs per unit of the observation (each
    a product over a path, as in Tanaka et al., 2020). A unit of which any is kept keeps its bias
    and its weights to the outputs too, and outputs keep their biases, all of which count.

    Args:
        net: of D observations, U units and A outputs, in whitened units.
        count: of weights, at least 2 A + 2, or only the biases of the outputs are kept.
    """
    (hidden,), out = net.hidden, net.out
    kernel, outgoing = np.asarray(hidden.kernel[...]), np.asarray(out.kernel[...])
    effect = np.abs(kernel) * np.abs(outgoing).sum(-1)
    kept, left = np.zeros(effect.shape, np.float32), count - outgoing.shape[-1]
    order = np.argsort(-effect, axis=None, kind="stable")
    for place in zip(*np.unravel_index(order, effect.shape), strict=True):
        cost = 1 if kept[:, place[1]].any() else 2 + outgoing.shape[-1]
        if cost <= left:
            kept[place], left = 1, left - cost
    units, mask = kept.max(0), jax.tree.map(jnp.ones_like, net)
    mask.hidden[0].kernel = nnx.Param(jnp.asarray(kept))
    mask.hidden[0].bias = nnx.Param(jnp.asarray(units))
    mask.out.kernel = nnx.Param(jnp.asarray(np.repeat(units[:, None], outgoing.shape[-1], 1)))
    return mask
