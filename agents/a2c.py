"""Advantage actor-critic (Mnih et al., 2016), in step: a critic channel for each feeling."""

from dataclasses import dataclass

import jax
import optax

from affect import Transition, gradient_step
from agents.actor_critic import ActorCriticAgent, AgentState, Samples
from agents.nets import ActorCritic


@dataclass(frozen=True)
class A2C(ActorCriticAgent):
    """One gradient step a batch, by RMSProp.

    The original's learners send gradients when they are ready, and its optimiser keeps its
    averages over all of them; here all environments are stepped, and learned from, together. A
    `lam` of 1 is the original's n-step return.

    Attributes:
        decay: of RMSProp's average of squared gradients.
    """

    lam: float = 1.0
    lr: float = 7e-4
    decay: float = 0.99

    def update(
        self, state: AgentState, key: jax.Array, batch: Transition, signals: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        """Learns from a batch [T, B] and the signals [T, B, K] -> (state, metrics)."""
        del key  # nothing is drawn
        samples = self.samples(state, batch, signals)
        trained, metrics = gradient_step(state.trained, self.tx(), self._loss, samples)
        return self.observe(state, batch)._replace(trained=trained), metrics

    def tx(self) -> optax.GradientTransformation:
        """RMSProp, on clipped gradients."""
        lr = optax.linear_schedule(self.lr, 0.0, self.anneal) if self.anneal else self.lr
        return optax.chain(
            optax.clip_by_global_norm(self.max_norm),
            optax.rmsprop(lr, decay=self.decay, eps=1e-5),
        )

    def _loss(self, net: ActorCritic, part: Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Section 4: the policy gradient, with entropy, and the critic's squared error."""
        log_prob, entropy = net.actor.log_prob(part.obs, part.action)
        return self.total(net, part, -(log_prob * part.advantage).mean(), entropy)
