"""Actor and critic networks of the agents."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Spec
from agents.dense_vjp import dense_dot

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
    """Policy network: logits of a categorical, or mean and deviation of a diagonal Gaussian."""

    def __init__(self, spec: Spec, width: int, *, rngs: nnx.Rngs):
        self.discrete = spec.num_actions > 0
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        outputs = spec.num_actions or spec.action_dim
        self.out = dense(self.trunk.features, outputs, 1e-4, rngs)
        self.log_std = nnx.Param(jnp.zeros((0 if self.discrete else spec.action_dim,)))

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Logits or means [..., A] of the policy at obs [..., D]."""
        return self.out(self.trunk(obs))

    def sample(self, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Samples an action [...] or [..., A] at obs [..., D]; the mode if `key` is None."""
        out = self(obs)
        if self.discrete:
            return out.argmax(-1) if key is None else jax.random.categorical(key, out)
        noise = 0.0 if key is None else jax.random.normal(key, out.shape)
        return out + jnp.broadcast_to(jnp.exp(self.log_std[...]), out.shape) * noise

    def log_prob(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Log-probability [...] of `action` and entropy [...] of the policy at obs [..., D]."""
        out = self(obs)
        if self.discrete:
            log_probs = jax.nn.log_softmax(out)
            chosen = (log_probs * jax.nn.one_hot(action, out.shape[-1])).sum(-1)
            return chosen, -(jnp.exp(log_probs) * log_probs).sum(-1)
        log_std = jnp.broadcast_to(self.log_std[...], out.shape)
        z = (action - out) * jnp.exp(-log_std)
        log_prob = -0.5 * jnp.square(z) - log_std - 0.5 * jnp.log(2 * jnp.pi)
        entropy = log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
        return log_prob.sum(-1), entropy.sum(-1)

    def policy(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits or means [..., A] at obs [..., D], and log deviations [..., A] (0 of logits)."""
        out = self(obs)
        log_std = 0.0 if self.discrete else self.log_std[...]
        return out, jnp.broadcast_to(log_std, out.shape)

    def cross_entropy(self, obs: jax.Array, target: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Cross-entropy [...] of a target `policy` with this one at obs [..., D]."""
        (out, log_std), (target_out, target_log_std) = self.policy(obs), target
        if self.discrete:
            return -(jax.nn.softmax(target_out) * jax.nn.log_softmax(out)).sum(-1)
        spread = jnp.square(target_out - out) + jnp.exp(2 * target_log_std)
        terms = 0.5 * spread * jnp.exp(-2 * log_std) + log_std + 0.5 * jnp.log(2 * jnp.pi)
        return terms.sum(-1)


class Critic(nnx.Module):
    """Values of C = 1 + K channels over one trunk: the task reward and each of K signals.

    The number of outputs is padded to a multiple of 8, so that an agent with a few signals is the
    same program as one with none, to the order of every sum. All channels but the task's begin at
    exactly 0; an unused one, or one whose signal is always 0, stays at 0.
    """

    def __init__(self, spec: Spec, width: int, num_signals: int, *, rngs: nnx.Rngs):
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        self.out = nnx.Linear(
            self.trunk.features,
            padded_channels(1 + num_signals),
            kernel_init=_task_column,
            dot_general=dense_dot,
            rngs=rngs,
        )

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Values [..., padded_channels(C)] at obs [..., D], the task's first."""
        return self.out(self.trunk(obs))


def padded_channels(channels: int) -> int:
    """Number of outputs of a critic with this many channels: the next multiple of 8."""
    return -(-channels // 8) * 8


def _task_column(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Initial weights [features, outputs], 0 in all columns but the first, the task's."""
    task = SCALE(1.0, "fan_in", "truncated_normal")(key, (shape[0], 1), dtype)
    return jnp.pad(task, ((0, 0), (0, shape[1] - 1)))


class ActorCritic(nnx.Module):
    """Actor and critic networks with separate trunks."""

    def __init__(self, spec: Spec, width: int, num_signals: int, *, rngs: nnx.Rngs):
        self.actor = Actor(spec, width, rngs=rngs)
        self.critic = Critic(spec, width, num_signals, rngs=rngs)
