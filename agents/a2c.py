"""Synchronous advantage actor-critic (Mnih et al., 2016) with a critic channel per signal."""

from dataclasses import dataclass

import jax
import optax

from affect import Transition, gradient_step
from agents.actor_critic import ActorCriticAgent, AgentState, Guide, Samples
from agents.nets import ActorCritic


@dataclass(frozen=True)
class A2C(ActorCriticAgent):
    """Advantage actor-critic: one RMSProp step per batch.

    The original's workers send gradients asynchronously to one RMSProp with shared averages; here
    all environments are stepped and trained on together. A `lam` of 1 is the original's n-step
    return.

    Attributes:
        decay: of RMSProp's average of squared gradients.
    """

    lam: float = 1.0
    lr: float = 7e-4
    decay: float = 0.99

    def update(
        self,
        state: AgentState,
        key: jax.Array,
        batch: Transition,
        signals: jax.Array,
        guide: Guide | None = None,
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        """Trains on a batch [T, B] with signals [T, B, K] -> (state, metrics)."""
        del key  # nothing is random
        state, samples = self.samples(state, batch, signals, guide)
        train_state, metrics = gradient_step(state.train_state, self.tx(), self._loss, samples)
        return self.update_moments(state, batch)._replace(train_state=train_state), metrics

    def tx(self) -> optax.GradientTransformation:
        """RMSProp optimiser on clipped gradients."""
        lr = optax.linear_schedule(self.lr, 0.0, self.anneal) if self.anneal else self.lr
        return optax.chain(
            optax.clip_by_global_norm(self.max_norm),
            optax.rmsprop(lr, decay=self.decay, eps=1e-5),
        )

    def _loss(self, net: ActorCritic, samples: Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Policy gradient with entropy bonus plus squared critic error (section 4)."""
        samples = samples._replace(obs=net.encode(samples.obs))
        log_prob, entropy = net.actor.log_prob(samples.obs, samples.action)
        return self.total_loss(net, samples, -(log_prob * samples.advantage).mean(), entropy)
