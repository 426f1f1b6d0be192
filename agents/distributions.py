"""Distributions of actions: one choice, several choices at once, or numbers of a Gaussian."""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from affect import Spec

FORBIDDEN = -1e9
"""Logit of an action that is not allowed: its probability, p log p and gradient are exactly 0."""


class Distribution(Protocol):
    """Family of distributions over actions, by the outputs of a network.

    Attributes:
        outputs: numbers that it needs of a network: logits, or means.
        deviations: numbers of parameters beside them: log standard deviations.
    """

    @property
    def outputs(self) -> int:
        """Numbers that it needs of a network: logits, or means."""

    @property
    def deviations(self) -> int:
        """Numbers of parameters beside them: log standard deviations."""

    def sample(self, key: jax.Array | None, out: jax.Array, log_std: jax.Array) -> jax.Array:
        """Samples actions [...] or [..., A] at outputs [..., outputs]; the mode if key is None."""

    def log_prob(
        self, out: jax.Array, log_std: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Log-probability [...] of actions, and entropy [...] of the distribution."""

    def cross_entropy(
        self, policy: tuple[jax.Array, jax.Array], target: tuple[jax.Array, jax.Array]
    ) -> jax.Array:
        """Cross-entropy [...] of a target (outputs, log deviations) with a policy."""


@dataclass(frozen=True)
class Categorical:
    """One of `size` actions, by its logits."""

    size: int
    deviations = 0

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.size

    def sample(self, key: jax.Array | None, out: jax.Array, log_std: jax.Array) -> jax.Array:
        """Samples actions [...] at logits [..., n]; the likeliest if `key` is None."""
        del log_std
        return out.argmax(-1) if key is None else jax.random.categorical(key, out)

    def log_prob(
        self, out: jax.Array, log_std: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Log-probability [...] of actions [...], and entropy [...]."""
        del log_std
        log_probs = jax.nn.log_softmax(out)
        chosen = (log_probs * jax.nn.one_hot(action, out.shape[-1])).sum(-1)
        return chosen, -(jnp.exp(log_probs) * log_probs).sum(-1)

    def cross_entropy(
        self, policy: tuple[jax.Array, jax.Array], target: tuple[jax.Array, jax.Array]
    ) -> jax.Array:
        """Cross-entropy [...] of target logits with those of a policy."""
        return -(jax.nn.softmax(target[0]) * jax.nn.log_softmax(policy[0])).sum(-1)


@dataclass(frozen=True)
class Factored:
    """Several choices at once, independent given the observation; logits one after another.

    Log-probability and entropy are the sums of those of the choices. Their logits are padded to the
    largest choice, so that all are one categorical of another axis.
    """

    sizes: tuple[int, ...]
    deviations = 0

    @property
    def outputs(self) -> int:
        """Number of logits of all choices."""
        return sum(self.sizes)

    def sample(self, key: jax.Array | None, out: jax.Array, log_std: jax.Array) -> jax.Array:
        """Samples actions [..., n] at logits [..., outputs]; the likeliest if `key` is None."""
        del log_std
        if key is not None:
            out = out + jax.random.gumbel(key, out.shape)
        return self._padded(out).argmax(-1)

    def log_prob(
        self, out: jax.Array, log_std: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Log-probability [...] of actions [..., n], and entropy [...]."""
        log_prob, entropy = self._one().log_prob(self._padded(out), log_std, action)
        return log_prob.sum(-1), entropy.sum(-1)

    def cross_entropy(
        self, policy: tuple[jax.Array, jax.Array], target: tuple[jax.Array, jax.Array]
    ) -> jax.Array:
        """Cross-entropy [...] of target logits with those of a policy."""
        padded = ((self._padded(out), log_std) for out, log_std in (policy, target))
        return self._one().cross_entropy(*padded).sum(-1)

    def _one(self) -> Categorical:
        """The distribution of each of the choices, their logits padded."""
        return Categorical(max(self.sizes))

    def _padded(self, out: jax.Array) -> jax.Array:
        """Logits [..., outputs] as [..., n, the largest size], FORBIDDEN where there is none."""
        most, starts = max(self.sizes), np.cumsum([0, *self.sizes[:-1]])
        index = starts[:, None] + np.minimum(np.arange(most), np.array(self.sizes)[:, None] - 1)
        real = np.arange(most) < np.array(self.sizes)[:, None]
        padded = out[..., index]
        if real.all():
            return padded
        return jnp.where(np.broadcast_to(real, padded.shape), padded, FORBIDDEN)


@dataclass(frozen=True)
class Gaussian:
    """Numbers [A] of a Gaussian with a diagonal covariance, by their means."""

    size: int

    @property
    def outputs(self) -> int:
        """Number of means."""
        return self.size

    @property
    def deviations(self) -> int:
        """Number of log standard deviations, which do not depend on the observation."""
        return self.size

    def sample(self, key: jax.Array | None, out: jax.Array, log_std: jax.Array) -> jax.Array:
        """Samples actions [..., A] at means [..., A]; the means if `key` is None."""
        noise = 0.0 if key is None else jax.random.normal(key, out.shape)
        return out + jnp.broadcast_to(jnp.exp(log_std), out.shape) * noise

    def log_prob(
        self, out: jax.Array, log_std: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Log-density [...] of actions [..., A], and entropy [...]."""
        log_std = jnp.broadcast_to(log_std, out.shape)
        z = (action - out) * jnp.exp(-log_std)
        log_prob = -0.5 * jnp.square(z) - log_std - 0.5 * jnp.log(2 * jnp.pi)
        entropy = log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
        return log_prob.sum(-1), entropy.sum(-1)

    def cross_entropy(
        self, policy: tuple[jax.Array, jax.Array], target: tuple[jax.Array, jax.Array]
    ) -> jax.Array:
        """Cross-entropy [...] of a target's means and log deviations with those of a policy."""
        (out, log_std), (target_out, target_log_std) = policy, target
        spread = jnp.square(target_out - out) + jnp.exp(2 * target_log_std)
        terms = 0.5 * spread * jnp.exp(-2 * log_std) + log_std + 0.5 * jnp.log(2 * jnp.pi)
        return terms.sum(-1)


def distribution(spec: Spec) -> Distribution:
    """The family of distributions over the actions of a world of shapes `spec`."""
    if spec.num_actions:
        return Categorical(spec.num_actions)
    return Factored(spec.action_sizes) if spec.action_sizes else Gaussian(spec.action_dim)
