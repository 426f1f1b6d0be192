"""The primitive *predict*: a general value function of an episode that ends in something.

An ordinary value head masks the terminal successor and is never trained on the one observation
where it matters. Here an end is an absorbing state that is worth its `anchor` for ever: the
prediction before it looks ahead to the anchor, and the terminal observation itself is fitted to it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from affect.transition import Spec, Transition

TRACE = 0.9  # lambda of the TD(lambda) targets


class GVFTargets(NamedTuple):
    """What is predicted (Sutton et al., 2011), each [T, B].

    Attributes:
        cumulant: collected at each step, in units of the prediction.
        end: bool, the predicted quantity is settled in `next_obs`.
        anchor: what it is then worth, for ever.
        cut: bool, nothing after this step belongs to it (any end of an episode, or `end`).
    """

    cumulant: jax.Array
    end: jax.Array
    anchor: jax.Array
    cut: jax.Array


class Predictor(nnx.Module):
    """A small network from an observation to a prediction in (`low`, 1)."""

    def __init__(self, spec: Spec, horizon: float, width: int, low: float, *, rngs: nnx.Rngs):
        if horizon < 1:
            raise ValueError(f"a horizon is at least 1 step, not {horizon}")
        if width < 1:
            raise ValueError(f"a head has at least 1 hidden unit, not {width}")
        self.gamma = 1 - 1 / horizon
        self.low = low
        self.hidden = nnx.Linear(spec.obs_dim, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def logit(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> [...]."""
        return self.out(jnp.tanh(self.hidden(obs)))[..., 0]

    def __call__(self, obs: jax.Array) -> jax.Array:
        """[..., D] -> [...] in (low, 1)."""
        return self.low + (1 - self.low) * jax.nn.sigmoid(self.logit(obs))

    def error(self, obs: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] of the prediction at obs [..., D] against target [...]."""
        share = jnp.clip((target - self.low) / (1 - self.low), 0.0, 1.0)
        logit = self.logit(obs)
        return jax.nn.softplus(logit) - share * logit

    def loss(self, batch: Transition, question: GVFTargets) -> tuple[jax.Array, jax.Array]:
        """TD(lambda) error over the batch plus the error on the ends -> (scalar, error [])."""
        ahead = jnp.where(question.end, question.anchor, self(batch.next_obs))
        target = jax.lax.stop_gradient(lambda_returns(question, ahead, self.gamma))
        error = self.error(batch.obs, target).mean()
        at_end = self.error(batch.next_obs, question.anchor)
        ends = jnp.maximum(question.end.sum(), 1)
        return error + jnp.where(question.end, at_end, 0.0).sum() / ends, error


def lambda_returns(
    question: GVFTargets, ahead: jax.Array, gamma: float, trace: float = TRACE
) -> jax.Array:
    """TD(lambda) targets [T, B] from the worth of what lies ahead [T, B] (Sutton, 1988)."""

    def back(target: jax.Array, step: tuple) -> tuple[jax.Array, jax.Array]:
        cumulant, ahead, cut = step
        beyond = jnp.where(cut, ahead, (1 - trace) * ahead + trace * target)
        target = cumulant + gamma * beyond
        return target, target

    steps = (question.cumulant, ahead, question.cut)
    return jax.lax.scan(back, ahead[-1], steps, reverse=True)[1]


def harm(batch: Transition) -> jax.Array:
    """Bool [T, B]: `info["harm"]` where the world reports it, else an end that pays nothing."""
    if "harm" in batch.info:
        return batch.info["harm"] > 0
    return batch.terminated & (batch.reward <= 0)
