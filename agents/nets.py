"""Actor and critic networks of the agents."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Spec
from agents.dense_vjp import dense_dot
from agents.distributions import FORBIDDEN, distribution

# Orthogonal initialisation batches a QR decomposition under `vmap`, which deadlocks XLA's thread
# pool on two cores; variance scaling has the same second moments.
SCALE = nnx.initializers.variance_scaling


def dense(inputs: int, outputs: int, gain: float, rngs: nnx.Rngs) -> nnx.Linear:
    """Linear layer whose initial weights have variance gain / inputs."""
    init = SCALE(gain, "fan_in", "truncated_normal")
    return nnx.Linear(inputs, outputs, kernel_init=init, dot_general=dense_dot, rngs=rngs)


class Trunk(nnx.Module):
    """Two hidden layers of `width` tanh units; none, and features that are `obs`, if it is 0."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.depth, self.features = (2, width) if width else (0, inputs)
        if self.depth:
            self.first = dense(inputs, width, 2.0, rngs)
            self.second = dense(width, width, 2.0, rngs)

    @property
    def hidden(self) -> list[nnx.Linear]:
        """The hidden layers, from the first on."""
        return [self.first, self.second] if self.depth else []

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Features [..., width], or [..., D], of obs [..., D]."""
        for layer in self.hidden:
            obs = jnp.tanh(layer(obs))
        return obs


class Actor(nnx.Module):
    """Policy network: outputs of a distribution of actions, of which a mask forbids some."""

    def __init__(self, spec: Spec, width: int, *, rngs: nnx.Rngs):
        self.actions, self.mask_dim = distribution(spec), spec.mask_dim
        self.discrete = bool(spec.choices)
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        self.out = dense(self.trunk.features, self.actions.outputs, 1e-4, rngs)
        self.log_std = nnx.Param(jnp.zeros((self.actions.deviations,)))

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Logits or means [..., A] of the policy at obs [..., D]."""
        if not self.mask_dim:
            return self.out(self.trunk(obs))
        numbers, mask = obs[..., : -self.mask_dim], obs[..., -self.mask_dim :]
        return jnp.where(mask > 0, self.out(self.trunk(numbers)), FORBIDDEN)

    def sample(self, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Samples an action [...] or [..., A] at obs [..., D]; the mode if `key` is None."""
        return self.actions.sample(key, self(obs), self.log_std[...])

    def log_prob(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Log-probability [...] of `action` and entropy [...] of the policy at obs [..., D]."""
        return self.actions.log_prob(self(obs), self.log_std[...], action)

    def policy(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits or means [..., A] at obs [..., D], and log deviations [..., A] (0 of logits)."""
        out = self(obs)
        log_std = 0.0 if self.discrete else self.log_std[...]
        return out, jnp.broadcast_to(log_std, out.shape)

    def cross_entropy(self, obs: jax.Array, target: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Cross-entropy [...] of a target `policy` with this one at obs [..., D]."""
        return self.actions.cross_entropy(self.policy(obs), target)


class Critic(nnx.Module):
    """Values of C = 1 + K channels over one trunk: the task reward and each of K signals.

    The number of outputs is padded to a multiple of 8, so that an agent with a few signals is the
    same program as one with none, to the order of every sum. All channels but the task's begin at
    exactly 0; an unused one, or one whose signal is always 0, stays at 0.
    """

    def __init__(self, spec: Spec, width: int, num_signals: int, *, rngs: nnx.Rngs):
        self.mask_dim = spec.mask_dim
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        self.out = nnx.Linear(
            self.trunk.features,
            padded_channels(1 + num_signals),
            kernel_init=_task_column,
            dot_general=dense_dot,
            rngs=rngs,
        )

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Values [..., padded_channels(C)] at obs [..., D], the task's first; of no mask."""
        return self.out(self.trunk(obs[..., : -self.mask_dim] if self.mask_dim else obs))


def padded_channels(channels: int) -> int:
    """Number of outputs of a critic with this many channels: the next multiple of 8."""
    return -(-channels // 8) * 8


def _task_column(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Initial weights [features, outputs], 0 in all columns but the first, the task's."""
    task = SCALE(1.0, "fan_in", "truncated_normal")(key, (shape[0], 1), dtype)
    return jnp.pad(task, ((0, 0), (0, shape[1] - 1)))


class ActorCritic(nnx.Module):
    """Actor and critic networks with separate trunks, perhaps over features of an image."""

    def __init__(
        self, spec: Spec, width: int, num_signals: int, encoder: Any = None, *, rngs: nnx.Rngs
    ):
        spec = spec if encoder is None else encoder.encoded
        self.actor = Actor(spec, width, rngs=rngs)
        self.critic = Critic(spec, width, num_signals, rngs=rngs)
        self.encoder = encoder

    def encode(self, obs: jax.Array) -> jax.Array:
        """What actor and critic get of obs [..., D]: the same, but for features of an image."""
        return obs if self.encoder is None else self.encoder(obs)
