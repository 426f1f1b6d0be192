"""Advantage actor-critic (Mnih et al., 2016), in step: a critic channel for each feeling."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import optax
from flax import nnx

from affect import Spec, Trained, Transition, descend, trainable
from affect.moments import Moments, no_moments, running_moments, whiten
from agents.nets import ActorCritic
from agents.samples import Samples, samples


class A2CState(NamedTuple):
    """What changes: networks with their optimiser, and the moments of what was observed."""

    trained: Trained
    moments: Moments | None


@dataclass(frozen=True)
class A2C:
    """The agent is its own configuration. One gradient step a batch, by RMSProp.

    The original's learners send gradients when they are ready, and its optimiser keeps its
    averages over all of them; here all environments are stepped, and learned from, together.

    Attributes:
        width: units in each of two hidden layers.
        gamma: discount of the task reward.
        signal_gamma: discount of each feeling's channel; None for `gamma`, as a potential needs.
        lam: trace of the advantage estimate; 1 is the original's n-step return.
        lr: RMSProp's step size at the start.
        anneal: updates over which it falls to 0 linearly; 0 keeps it.
        decay: of RMSProp's average of squared gradients.
        entropy: weight of the entropy bonus.
        critic: weight of the critic's loss.
        max_norm: global norm at which a gradient is clipped.
        normalise: whiten observations by their running moments.
    """

    width: int = 64
    gamma: float = 0.99
    signal_gamma: float | None = None
    lam: float = 1.0
    lr: float = 7e-4
    anneal: int = 0
    decay: float = 0.99
    entropy: float = 0.01
    critic: float = 0.5
    max_norm: float = 0.5
    normalise: bool = False

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> A2CState:
        """An untrained agent for a world of shapes `spec` and K = `num_signals` feelings."""
        net = ActorCritic(spec, self.width, num_signals, rngs=nnx.Rngs(key))
        moments = no_moments((spec.obs_dim,)) if self.normalise else None
        return A2CState(trainable(net, self._tx()), moments)

    def act(self, state: A2CState, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Actions [...] at obs [..., D]: sampled, or the mode if there is no key."""
        return state.trained.net.actor.sample(key, self._see(state, obs))

    def value(self, state: A2CState, obs: jax.Array) -> jax.Array:
        """Values [..., room for 1 + K channels] at obs [..., D], the task's first."""
        return state.trained.net.critic(self._see(state, obs))

    def update(
        self, state: A2CState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[A2CState, dict[str, jax.Array]]:
        """Learns from a batch [T, B] and the signals [T, B, K] -> (state, metrics)."""
        del key  # nothing is drawn
        net, settings = state.trained.net, (self.gamma, self.signal_gamma, self.lam)
        obs, next_obs = self._see(state, batch.obs), self._see(state, batch.next_obs)
        part = samples(net, batch._replace(obs=obs, next_obs=next_obs), signals, *settings)
        trained, metrics = descend(state.trained, self._tx(), self._loss, part)
        moments = state.moments
        if self.normalise:
            moments = running_moments(moments, batch.obs)[1]
        return A2CState(trained, moments), metrics

    def _loss(self, net: ActorCritic, part: Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
        log_prob, entropy = net.actor.log_prob(part.obs, part.action)
        policy = -(log_prob * part.advantage).mean()
        critic = 0.5 * ((net.critic(part.obs) - part.target) ** 2).sum(-1).mean()
        loss = policy + self.critic * critic - self.entropy * entropy.mean()
        return loss, {"loss": loss, "critic": critic, "entropy": entropy.mean()}

    def _see(self, state: A2CState, obs: jax.Array) -> jax.Array:
        return whiten(state.moments, obs, 10.0) if self.normalise else obs

    def _tx(self) -> optax.GradientTransformation:
        lr = optax.linear_schedule(self.lr, 0.0, self.anneal) if self.anneal else self.lr
        return optax.chain(
            optax.clip_by_global_norm(self.max_norm),
            optax.rmsprop(lr, decay=self.decay, eps=1e-5),
        )
