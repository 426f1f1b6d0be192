"""Observations in one row: an image, numbers and an action mask; what heads read of them.

An observation is one array [..., D] everywhere, so that worlds, pools, recordings and checkpoints
need not know what is in it. Without an image a row is of float32: the numbers, then the mask as 0
and 1. With an image it is of bytes: those of the image, of the numbers (float32) and of the mask.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect.image import FEATURES, random_features
from affect.transition import Spec, Transition, one_line


class Parts(NamedTuple):
    """Parts of observations; None where a world has no such part.

    Attributes:
        image: bytes [..., size].
        numbers: [..., obs_dim] float32.
        mask: [..., n] bool, the actions that are allowed, of several one after another.
    """

    image: Any
    numbers: Any
    mask: Any


def split(spec: Spec, obs: jax.Array) -> Parts:
    """Parts of observations [..., D] of a world of shapes `spec`."""
    rest, count = obs.shape[-1] - spec.mask_dim, spec.obs_dim
    mask = obs[..., rest:] > 0 if spec.masked else None
    if spec.image is None:
        return Parts(None, obs[..., :rest] if spec.masked else obs, mask)
    size = spec.image.size
    numbers = obs[..., size:rest].reshape(*obs.shape[:-1], count, 4) if count else None
    if numbers is not None:
        numbers = jax.lax.bitcast_convert_type(numbers, jnp.float32)
    return Parts(obs[..., :size], numbers, mask)


def join(spec: Spec, parts: Parts) -> jax.Array:
    """Observations [..., D] of their parts: the inverse of `split`."""
    image, numbers, mask = parts
    if image is None:
        return numbers if mask is None else jnp.concatenate([numbers, mask.astype(jnp.float32)], -1)
    row = [image]
    if numbers is not None:
        row.append(jax.lax.bitcast_convert_type(numbers.astype(jnp.float32), jnp.uint8))
        row[-1] = row[-1].reshape(*image.shape[:-1], -1)
    if mask is not None:
        row.append(mask.astype(jnp.uint8))
    return jnp.concatenate(row, -1)


def read_spec(spec: Spec) -> Spec:
    """The spec that heads are built for: numbers alone, features of an image among them."""
    if spec.plain:
        return spec
    obs = jax.ShapeDtypeStruct((1, 1, spec.row), spec.dtype)
    obs_dim = jax.eval_shape(partial(read_obs, spec), obs).shape[-1]
    return replace(spec, obs_dim=obs_dim, masked=False, image=None, reader=None)


def read(spec: Spec, batch: Transition) -> Transition:
    """A batch [T, B] with the observations that heads read, [T, B, D'] float32.

    Of an image they get what `spec.reader` makes of it, else its symbols as they are, or frozen
    random features of its brightness; numbers follow, and no mask.
    """
    if spec.plain:
        return batch
    obs, next_obs = (read_obs(spec, x) for x in (batch.obs, batch.next_obs))
    return batch._replace(obs=obs, next_obs=next_obs)


def read_obs(spec: Spec, obs: jax.Array) -> jax.Array:
    """What heads read [T, B, D'] of observations [T, B, D].

    Raises:
        ValueError: if a reader gives no features [T, B, F].
    """
    image, numbers, _ = split(spec, obs)
    if spec.image is None or image is None:
        return numbers
    if spec.reader is not None:
        features = spec.reader(spec.image.shaped(image))
        if jnp.shape(features)[:-1] != image.shape[:-1]:
            raise ValueError(
                f"the reader gives {one_line(features)} of images "
                f"{one_line(spec.image.shaped(image))}, expected features [T, B, F]"
            )
    elif spec.image.symbols:
        features = image
    else:
        features = random_features(spec.image)(image)
    features = jnp.asarray(features, jnp.float32)
    return features if numbers is None else jnp.concatenate([features, numbers], -1)


def reading(spec: Spec) -> str:
    """How heads read an image, in one line; empty where there is none."""
    image = spec.image
    if image is None:
        return ""
    what = f"an image of {image.height} x {image.width} x {image.channels}"
    if spec.reader is not None:
        return f"heads read {what} through {getattr(spec.reader, '__name__', spec.reader)}"
    if image.symbols:
        return f"heads read the {image.size} symbols of {what} as they are"
    return f"heads read {what} through a frozen random convolution, of {FEATURES} features"


def action_numbers(spec: Spec, action: jax.Array) -> jax.Array:
    """Actions as numbers [..., A]: one-hot, of several choices concatenated; else as they are."""
    if spec.num_actions:
        return jax.nn.one_hot(action, spec.num_actions)
    parts = [jax.nn.one_hot(action[..., i], size) for i, size in enumerate(spec.action_sizes)]
    return jnp.concatenate(parts, -1) if parts else action
