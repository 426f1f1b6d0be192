"""Distillation: a small network that imitates a head or a function, and its weights in few bits."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect.factory import Factory
from affect.fitting import Units, best_features, fit, pruning_mask, used
from affect.genome import Distilled, check_bits, on_grid, pack, scales_of
from affect.head import Head
from affect.mlp import MLP, check_layers
from affect.transition import Spec, Transition, is_a, is_whole, one_line
from affect.value import Value

FORMS = ("features", "linear", "units", "layers", "pruned")
STEPS = 4000  # of gradient descent, and as many again once weights are pruned or rounded
FEWEST_WEIGHTS = 4  # of a pruned network that is not constant
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
        weights: number of weights that are kept at most, at least 4, for "pruned".
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
    if form == "pruned" and weights < FEWEST_WEIGHTS:
        raise ValueError(
            f"weights={weights}: a pruned network keeps at least {FEWEST_WEIGHTS}, one of an "
            "observation, the bias and the output weight of its unit, and the bias of the output"
        )
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
        mask = pruning_mask(net, weights)
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
