"""The networks that agents share."""

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
    """A linear layer whose weights have variance gain / inputs."""
    init = SCALE(gain, "fan_in", "truncated_normal")
    return nnx.Linear(inputs, outputs, kernel_init=init, dot_general=dense_dot, rngs=rngs)


class Trunk(nnx.Module):
    """Two hidden layers of tanh."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.first = dense(inputs, width, 2.0, rngs)
        self.second = dense(width, width, 2.0, rngs)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> [..., width]."""
        return jnp.tanh(self.second(jnp.tanh(self.first(obs))))


class Actor(nnx.Module):
    """A policy: logits of a categorical, or mean and deviation of a diagonal Gaussian."""

    def __init__(self, spec: Spec, width: int, *, rngs: nnx.Rngs):
        self.discrete = spec.num_actions > 0
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        self.out = dense(width, spec.num_actions or spec.action_dim, 1e-4, rngs)
        self.log_std = nnx.Param(jnp.zeros((0 if self.discrete else spec.action_dim,)))

    def __call__(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> logits or means [..., A]."""
        return self.out(self.trunk(obs))

    def sample(self, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """An action [...] or [..., A] at obs [..., D]; the mode if there is no key."""
        out = self(obs)
        if self.discrete:
            return out.argmax(-1) if key is None else jax.random.categorical(key, out)
        noise = 0.0 if key is None else jax.random.normal(key, out.shape)
        return out + jnp.broadcast_to(jnp.exp(self.log_std[...]), out.shape) * noise

    def log_prob(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(log-probability [...] of action, entropy [...]) at obs [..., D]."""
        out = self(obs)
        if self.discrete:
            logs = jax.nn.log_softmax(out)
            chosen = (logs * jax.nn.one_hot(action, out.shape[-1])).sum(-1)
            return chosen, -(jnp.exp(logs) * logs).sum(-1)
        log_std = jnp.broadcast_to(self.log_std[...], out.shape)
        z = (action - out) * jnp.exp(-log_std)
        log_prob = -0.5 * jnp.square(z) - log_std - 0.5 * jnp.log(2 * jnp.pi)
        entropy = log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
        return log_prob.sum(-1), entropy.sum(-1)


class Critic(nnx.Module):
    """Values of C = 1 + K channels over one trunk: the task reward and each of K signals.

    There is room for a multiple of 8 channels, used or not, so that an agent with a few feelings
    is the same program as one with none, to the order of every sum. All channels but the task's
    begin at exactly 0, and one whose signal is always 0, or that is not used, stays there.
    """

    def __init__(self, spec: Spec, width: int, num_signals: int, *, rngs: nnx.Rngs):
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        self.out = nnx.Linear(
            width,
            padded_channels(1 + num_signals),
            kernel_init=_task_column,
            dot_general=dense_dot,
            rngs=rngs,
        )

    def __call__(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> values [..., room(C)], the task's first."""
        return self.out(self.trunk(obs))


def padded_channels(channels: int) -> int:
    """The channels that a critic of so many has room for: the next multiple of 8."""
    return -(-channels // 8) * 8


def _task_column(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Weights [width, room] of which only the first column is not 0."""
    task = SCALE(1.0, "fan_in", "truncated_normal")(key, (shape[0], 1), dtype)
    return jnp.pad(task, ((0, 0), (0, shape[1] - 1)))


class ActorCritic(nnx.Module):
    """A policy and its critic, with separate trunks."""

    def __init__(self, spec: Spec, width: int, num_signals: int, *, rngs: nnx.Rngs):
        self.actor = Actor(spec, width, rngs=rngs)
        self.critic = Critic(spec, width, num_signals, rngs=rngs)
