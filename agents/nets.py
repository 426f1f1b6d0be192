"""The networks that agents share."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Spec

# Orthogonal initialisation batches a QR decomposition under `vmap`, which deadlocks XLA's thread
# pool on two cores; variance scaling has the same second moments.
SCALE = nnx.initializers.variance_scaling


class Linear(nnx.Linear):
    """A linear layer whose bias, too, is a product, of a feature that is always 1.

    The gradient of a bias that is added is a sum over the samples. XLA fuses that sum with what
    comes before it, and then adds in another order where the critic has more channels: a last bit
    that makes an agent with a feeling of weight 0 differ from one without.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., inputs] -> [..., outputs]."""
        one = jnp.ones((*x.shape[:-1], 1))
        return x @ self.kernel[...] + one @ self.bias[...][None]


def layer(inputs: int, outputs: int, gain: float, rngs: nnx.Rngs) -> Linear:
    """A linear layer whose weights have variance gain / inputs."""
    init = SCALE(gain, "fan_in", "truncated_normal") if gain else nnx.initializers.zeros
    return Linear(inputs, outputs, kernel_init=init, rngs=rngs)


class Trunk(nnx.Module):
    """Two hidden layers of tanh."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.first = layer(inputs, width, 2.0, rngs)
        self.second = layer(width, width, 2.0, rngs)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> [..., width]."""
        return jnp.tanh(self.second(jnp.tanh(self.first(obs))))


class Actor(nnx.Module):
    """A policy: logits of a categorical, or mean and deviation of a diagonal Gaussian."""

    def __init__(self, spec: Spec, width: int, *, rngs: nnx.Rngs):
        self.discrete = spec.num_actions > 0
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        self.out = layer(width, spec.num_actions or spec.action_dim, 1e-4, rngs)
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

    A signal's channel begins at exactly 0, so a signal that is always 0 never moves anything.
    """

    def __init__(self, spec: Spec, width: int, num_signals: int, *, rngs: nnx.Rngs):
        self.trunk = Trunk(spec.obs_dim, width, rngs=rngs)
        self.task = layer(width, 1, 1.0, rngs)
        self.signals = nnx.List([layer(width, 1, 0.0, rngs) for _ in range(num_signals)])

    def __call__(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> values [..., C], the task's first."""
        hidden = self.trunk(obs)
        return jnp.concatenate([out(hidden) for out in (self.task, *self.signals)], -1)


class ActorCritic(nnx.Module):
    """A policy and its critic, with separate trunks."""

    def __init__(self, spec: Spec, width: int, num_signals: int, *, rngs: nnx.Rngs):
        self.actor = Actor(spec, width, rngs=rngs)
        self.critic = Critic(spec, width, num_signals, rngs=rngs)
