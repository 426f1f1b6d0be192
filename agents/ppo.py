"""Proximal policy optimisation (Schulman et al., 2017) with a critic channel for each feeling."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from affect import Spec, Trained, Transition, descend, trainable
from affect.moments import Moments, no_moments, running_moments, whiten
from agents.nets import ActorCritic
from agents.samples import Samples, samples


class PPOState(NamedTuple):
    """What changes: networks with their optimiser, and the moments of what was observed."""

    trained: Trained
    moments: Moments | None


@dataclass(frozen=True)
class PPO:
    """The agent is its own configuration.

    Attributes:
        width: units in each of two hidden layers.
        gamma: discount of the task reward.
        signal_gamma: discount of each feeling's channel; None for `gamma`, as a potential needs.
        lam: trace of the advantage estimate.
        epochs: passes over a batch.
        minibatches: parts of a batch, one gradient step each.
        lr: Adam's step size at the start.
        anneal: updates over which it falls to 0 linearly; 0 keeps it.
        clip: of the probability ratio.
        entropy: weight of the entropy bonus.
        critic: weight of the critic's loss.
        max_norm: global norm at which a gradient is clipped.
        normalise: whiten observations by their running moments.
    """

    width: int = 64
    gamma: float = 0.99
    signal_gamma: float | None = None
    lam: float = 0.95
    epochs: int = 4
    minibatches: int = 4
    lr: float = 2.5e-4
    anneal: int = 0
    clip: float = 0.2
    entropy: float = 0.01
    critic: float = 0.5
    max_norm: float = 0.5
    normalise: bool = False

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> PPOState:
        """An untrained agent for a world of shapes `spec` and K = `num_signals` feelings."""
        net = ActorCritic(spec, self.width, num_signals, rngs=nnx.Rngs(key))
        moments = no_moments((spec.obs_dim,)) if self.normalise else None
        return PPOState(trainable(net, self._tx()), moments)

    def act(self, state: PPOState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Actions [...] at obs [..., D]: sampled, or the mode if there is no key."""
        return state.trained.net.actor.sample(key, self._see(state, obs))

    def value(self, state: PPOState, obs: jax.Array) -> jax.Array:
        """Values [..., room for 1 + K channels] at obs [..., D], the task's first."""
        return state.trained.net.critic(self._see(state, obs))

    def update(
        self, state: PPOState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[PPOState, dict[str, jax.Array]]:
        """Learns from a batch [T, B] and the signals [T, B, K] -> (state, metrics)."""
        obs, next_obs = self._see(state, batch.obs), self._see(state, batch.next_obs)
        seen = batch._replace(obs=obs, next_obs=next_obs)
        settings = self.gamma, self.signal_gamma, self.lam
        found = samples(state.trained.net, seen, signals, *settings)
        if self.normalise:
            state = state._replace(moments=running_moments(state.moments, batch.obs)[1])
        size = found.advantage.shape[0]
        if size % self.minibatches:
            raise ValueError(f"{size} samples do not divide into {self.minibatches} minibatches")

        def epoch(trained, key):
            order = shuffled(key, size).reshape(self.minibatches, -1)
            return jax.lax.scan(minibatch, trained, order)

        def minibatch(trained, chosen):
            part = jax.tree.map(lambda leaf: leaf[chosen], found)
            return descend(trained, self._tx(), self._loss, part)

        keys = jax.random.split(key, self.epochs)
        trained, metrics = jax.lax.scan(epoch, state.trained, keys)
        return state._replace(trained=trained), jax.tree.map(jnp.mean, metrics)

    def _loss(self, net: ActorCritic, part: Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
        log_prob, entropy = net.actor.log_prob(part.obs, part.action)
        advantage = (part.advantage - part.advantage.mean()) / (part.advantage.std() + 1e-8)
        ratio = jnp.exp(log_prob - part.log_prob)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        policy = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
        critic = 0.5 * jnp.square(net.critic(part.obs) - part.target).sum(-1).mean()
        loss = policy + self.critic * critic - self.entropy * entropy.mean()
        return loss, {"loss": loss, "critic": critic, "entropy": entropy.mean()}

    def _see(self, state: PPOState, obs: jax.Array) -> jax.Array:
        return whiten(state.moments, obs, 10.0) if self.normalise else obs

    def _tx(self) -> optax.GradientTransformation:
        steps = self.anneal * self.epochs * self.minibatches
        lr = optax.linear_schedule(self.lr, 0.0, steps) if steps else self.lr
        return optax.chain(optax.clip_by_global_norm(self.max_norm), optax.adam(lr, eps=1e-5))


def shuffled(key: jax.Array, size: int) -> jax.Array:
    """A random order [size] of 0 .. size - 1, for size up to 2^24.

    Sorts single words, random bits above and the index below: on a CPU seven times as fast as
    `jax.random.permutation`, whose key-value sorts took a quarter of an update. At least 8 random
    bits remain; where they tie, the lower index comes first.
    """
    width = max(size - 1, 1).bit_length()
    words = jax.random.bits(key, (size,)) >> width << width | jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(words) & ((1 << width) - 1)).astype(jnp.int32)
