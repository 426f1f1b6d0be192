"""Distillation: a small network that imitates a head or a function, and its weights in few bits."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from affect.factory import Factory
from affect.genome import Distilled, check_bits, layers_of, on_grid, pack, scales_of
from affect.head import Head
from affect.learn import TrainState, gradient_step
from affect.mlp import MLP, check_layers
from affect.transition import Spec, Transition, is_a, is_whole, one_line
from affect.value import Value

FORMS = ("features", "linear", "units", "layers", "pruned")
STEPS = 4000  # of gradient descent, and as many again once weights are pruned or rounded
SAMPLES = 1024  # of a step
HELD_OUT = 5  # one sample in so many measures R2
LARGEST = 1e15  # number, whose square float32 can sum
HARDLY = 1e-6  # deviation relative to the largest value, which float32 cannot tell from none


class Distillation(NamedTuple):
    """Result of `distil`.

    Attributes:
        head: the small head.
        r2: share of the variance that it explains, on samples that it was not fitted to.
        num_bytes: of its weights, as `pack` writes them.
    """

    head: Distilled
    r2: float
    num_bytes: int


def distil(
    f: Head | Callable[[jax.Array], jax.Array],
    form: str = "units",
    bits: int | None = 4,
    *,
    on: Transition | jax.Array,
    units: int | tuple[int, ...] = 2,
    features: int = 2,
    weights: int = 32,
    seed: int = 0,
    steps: int = STEPS,
) -> Distillation:
    """Fits a small head to f by least squares on given observations (Hinton et al., 2015).

    R2 is a bad guide to what the small head teaches: in a pilot a constant had the best R2 that a
    constant can have and taught worse than no head, and heads of R2 .87 and .99 taught alike. Raise
    learners with it.

    Args:
        f: a head without a state, or a function of observations [N, D] to [N].
        form: "linear"; "features", linear in the few observations that predict best; "units", one
            tanh layer; "layers", several; "pruned", one tanh layer of which few weights are kept.
        bits: of a weight, 2 to 16; None for float32.
        on: transitions [T, B], or observations [..., D].
        units: of the layer, or of each of several.
        features: number of observations, for "features".
        weights: number of weights that are kept, for "pruned".
        seed: of initial weights and samples.
        steps: of gradient descent, and as many again once weights are pruned or rounded.

    Raises:
        ValueError: an argument out of range, a head with a state, or an f that is no finite number
            for each observation, or the same for all.
    """
    layers, kept = _sizes(form, units, features, weights)
    check_bits(bits)
    for name, value, least in (("steps", steps, 1), ("seed", seed, 0)):
        if not is_whole(value) or value < least:
            raise ValueError(f"{name} is a whole number, at least {least}, not {value!r}")
    try:
        obs, target = samples(f, on)
    except (TypeError, AttributeError, KeyError, ZeroDivisionError) as error:  # of whatever f is
        raise ValueError(
            f"f={one_line(f)} cannot be evaluated on={one_line(on)}: give a head or a function of "
            f"observations [N, D] to [N] written with jax.numpy ({one_line(error, 120)})"
        ) from error
    spec = Spec(obs.shape[-1], num_actions=1)
    if form == "features" and features > spec.obs_dim:
        raise ValueError(f"features={features}, and an observation has {spec.obs_dim} numbers")
    like = jax.eval_shape(lambda: MLP(spec.obs_dim, layers, rngs=nnx.Rngs(0)))
    total = sum(leaf.size for leaf in jax.tree.leaves(like))
    if form == "pruned" and weights > total:
        raise ValueError(f"weights={kept}, and a network of {units} units has {total}")
    test = np.arange(len(obs)) % HELD_OUT == 0
    scale = Units.of(obs[~test], target[~test])
    data = jnp.asarray(obs[~test]), jnp.asarray(target[~test]), scale
    net = MLP(spec.obs_dim, layers, rngs=nnx.Rngs(seed))
    mask, keys = jax.tree.map(jnp.ones_like, net), jax.random.split(jax.random.key(seed), 2 * steps)
    if form == "features":
        whitened = (obs - scale.centre) / scale.spread, (target - scale.level) / scale.unit
        kernel = np.zeros((spec.obs_dim, 1), np.float32)
        kernel[best_features(*whitened, features)] = 1
        mask.out.kernel = nnx.Param(jnp.asarray(kernel))
    net = fit(net, mask, None, data, keys[:steps], bits)
    if form == "pruned":
        mask = largest(net, weights)
    if form == "pruned" or bits is not None:
        net = fit(net, mask, bits, data, keys[steps:], bits)
    head = Distilled(spec, layers=layers, bits=bits, kept=kept, rngs=nnx.Rngs(0))
    final = used(net, mask, None, scale)
    if bits is not None:
        head.scales = nnx.Param(scales_of(final, bits))
        final = on_grid(final, head.scales[...], bits)
    head.net = jax.tree.map(lambda leaf: jnp.where(leaf == 0, 0.0, leaf), final)  # no -0
    errors = np.square(np.asarray(jax.jit(head.net)(obs[test])) - target[test])
    return Distillation(head, float(1 - errors.mean() / target[test].var()), len(pack(head)))


def _sizes(
    form: str, units: Any, features: Any, weights: Any
) -> tuple[tuple[int, ...], int | None]:
    """Layers and number of kept weights of a form.

    Raises:
        ValueError: an unknown form, or a size that is no whole number above 0.
    """
    if form not in FORMS:
        raise ValueError(f"form is one of {', '.join(FORMS)}, not {form!r}")
    for name, value in (("features", features), ("weights", weights)):
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name} is a whole number, at least 1, not {value!r}")
    try:
        layers = check_layers(units)
    except ValueError:
        raise ValueError(f"units are whole numbers, at least 1, not {units!r}") from None
    if form != "layers" and len(layers) != 1:
        raise ValueError(f'units={units!r} are several layers: that is form="layers"')
    kept = {"features": features + 1, "pruned": weights}.get(form)
    return (() if form in ("features", "linear") else layers), kept


def samples(f: Any, on: Any) -> tuple[np.ndarray, np.ndarray]:
    """Observations [N, D] and the values [N] of f at them.

    A head is evaluated on the transitions, at `next_obs`, and a `Value` where it is not 0 by
    definition. On observations alone it is evaluated without reward, action and ends.

    Raises:
        ValueError: as `distil`.
    """
    if is_a(f, type | Factory):
        raise TypeError("it is a class or a factory, not yet a head: build it")
    if is_a(on, Transition):
        obs = on.next_obs
    else:
        obs = np.asarray(on)
        if obs.ndim < 2 or 0 in obs.shape or obs.dtype.kind in "OSU":
            raise ValueError(f"on is a Transition, or observations [..., D], not {one_line(on)}")
        obs = jnp.asarray(on, jnp.float32)
        obs = obs.reshape(-1, 1, obs.shape[-1])
    keep = np.ones(obs.shape[:2], bool)
    if is_a(f, Head):
        no, zero = jnp.zeros(obs.shape[:2], bool), jnp.zeros(obs.shape[:2])
        bare = Transition(obs, zero.astype(int), obs, zero, no, no, no)
        batch = on if is_a(on, Transition) else bare
        state = f.initial_state(obs.shape[1])
        if jax.tree.leaves(state):
            raise ValueError(
                f"{type(f).__name__} carries a state, and a function of one observation has none: "
                "distil its inner head"
            )
        target = jax.jit(lambda batch: f(state, batch)[0])(batch)
        keep = ~np.asarray(batch.terminated) if is_a(f, Value) else keep
    else:
        target = jax.jit(f)(obs.reshape(-1, obs.shape[-1]))
        if target.shape != (obs.shape[0] * obs.shape[1],):
            raise ValueError(
                f"f gave {target.shape} for {obs.shape[0] * obs.shape[1]} observations"
            )
    flat, kept = np.asarray(target, np.float32).ravel(), keep.ravel()
    obs, target = np.asarray(obs, np.float32).reshape(len(flat), -1)[kept], flat[kept]
    if len(target) < 2 * HELD_OUT:
        raise ValueError(f"{len(target)} observations are too few to fit anything: give thousands")
    test = np.arange(len(target)) % HELD_OUT == 0
    if not (np.abs(target) <= LARGEST).all() or not (np.abs(obs) <= LARGEST).all():
        raise ValueError("f or an observation is not finite somewhere: leave such steps out")
    if not all(part.std() > HARDLY * np.abs(part).max() for part in (target[test], target[~test])):
        raise ValueError("f is the same for all observations, nearly: there is nothing to distil")
    return obs, target


# --- fitting ----------------------------------------------------------------------------------


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

    To it is added the error that rounding a layered network to the final bits is expected to add:
    of those that compute nearly the same it is to be the one that is rounded best.

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
    of inputs are left to the biases. The step of a layer is set by its largest weight, in a fit
    without this term that of a sense that hardly varies: the others are rounded to nothing.

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


def largest(net: MLP, count: int) -> MLP:
    """Mask of the weights that are largest in magnitude, 1, and of all others, 0."""
    leaves, structure = jax.tree.flatten(net)
    size = np.abs(np.concatenate([np.asarray(leaf).ravel() for leaf in leaves]))
    flat = np.zeros(len(size), np.float32)
    flat[np.argsort(-size, kind="stable")[:count]] = 1
    parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
    shaped = [jnp.asarray(x.reshape(leaf.shape)) for x, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)
