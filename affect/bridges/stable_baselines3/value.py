"""The critic of a model of Stable-Baselines3 as a head, `affect.Value`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect.bridges.spaces import ActionReader, ObsReader, spec_of
from affect.factory import Factory
from affect.head import build
from affect.value import CLIP, Value

DISTIL = "affect.distil(function, on=observations) makes a head of any function"


def value_of(model: Any) -> Value:
    """The value network of a trained model, in units of the reward that it was trained on.

    A model that learned from signals values them too. With `VecNormalize` the head whitens
    observations as that did, and its value is in units of the reward before normalisation.

    Args:
        model: of an algorithm with an actor and a critic, such as PPO or A2C, and `MlpPolicy`.

    Raises:
        ValueError: a model without such a critic, other layers than tanh, observations that are
            images, or a `VecNormalize` that clips otherwise.
    """
    policy: Any = getattr(model, "policy", None)
    if not hasattr(policy, "mlp_extractor") or not hasattr(policy, "value_net"):
        raise ValueError(
            f"{type(model).__name__} has no critic of observations alone, as PPO has: {DISTIL}"
        )
    check_flattened(policy)
    layers = [*policy.mlp_extractor.value_net, policy.value_net]
    linear, between = layers[::2], layers[1::2]
    names = [type(layer).__name__ for layer in layers]
    if len(linear) != len(between) + 1 or set(names[::2]) != {"Linear"}:
        raise ValueError(
            f"the critic has the layers {', '.join(names)}, no plain network: {DISTIL}"
        )
    if set(names[1::2]) - {"Tanh"}:
        raise ValueError(
            f"the critic has {names[1]} layers, and affect.Value has tanh: {DISTIL}, or train "
            "with policy_kwargs=dict(activation_fn=torch.nn.Tanh)"
        )
    spec = spec_of(ObsReader(model.observation_space), ActionReader(model.action_space))
    mean, variance, scale = normalisation(model)
    sizes = tuple(layer.weight.shape[0] for layer in linear[:-1])
    settings = {"layers": sizes, "gamma": float(model.gamma), "whitened": mean is not None}
    head: Any = build(Factory(Value, settings), spec, jax.random.key(0))
    scales = [1.0] * (len(linear) - 1) + [scale]
    for target, source, unit in zip([*head.net.hidden, head.net.out], linear, scales, strict=True):
        weight, bias = (x.detach().cpu().numpy() * unit for x in (source.weight, source.bias))
        target.kernel = nnx.Param(jnp.asarray(weight.T, jnp.float32))
        target.bias = nnx.Param(jnp.asarray(bias, jnp.float32))
    if mean is not None:
        head.mean = nnx.Param(jnp.asarray(mean, jnp.float32))
        head.variance = nnx.Param(jnp.asarray(variance, jnp.float32))
    return head


def check_flattened(policy: Any) -> None:
    """Checks that a policy reads observations as flat numbers; ValueError if not."""
    extractor = getattr(policy, "vf_features_extractor", None)
    space = policy.observation_space
    image = np.dtype(space.dtype) == np.uint8 if space.dtype is not None else False
    if type(extractor).__name__ != "FlattenExtractor" or (image and len(space.shape) == 3):
        raise ValueError(
            f"the policy reads {space} by {type(extractor).__name__}: its critic is no "
            f"function of plain numbers; {DISTIL}"
        )


def normalisation(model: Any) -> tuple[np.ndarray | None, np.ndarray | None, float]:
    """Mean and variance [D] of observations, or None, and the unit of the reward.

    Raises:
        ValueError: observations are clipped at another number of deviations than `Value` does.
    """
    normalize = model.get_vec_normalize_env()
    if normalize is None:
        return None, None, 1.0
    unit = 1.0
    if normalize.norm_reward:
        unit = float(np.sqrt(normalize.ret_rms.var + normalize.epsilon))
    if not normalize.norm_obs:
        return None, None, unit
    if normalize.clip_obs != CLIP:
        raise ValueError(
            f"VecNormalize clips observations at {normalize.clip_obs}, and affect.Value at {CLIP}: "
            f"{DISTIL}"
        )
    return normalize.obs_rms.mean.ravel(), normalize.obs_rms.var.ravel(), unit
