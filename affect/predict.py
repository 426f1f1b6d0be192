"""General value functions (GVF) by TD learning, trained on last observations of episodes too.

An ordinary value network masks the terminal successor and is never trained on the terminal
observation. Here an end is an absorbing state of fixed value `anchor`: the prediction before it
bootstraps from the anchor, and the prediction at the terminal observation is fitted to it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from affect.transition import Spec, Transition, is_number, is_whole

TRACE = 0.9  # lambda of the TD(lambda) targets
END_WEIGHT = 5.0  # of the error at the ends, relative to the TD error


class GVFTargets(NamedTuple):
    """Definition of a general value function on a batch (Sutton et al., 2011), each [T, B].

    Attributes:
        cumulant: collected at each step, in units of the prediction.
        end: bool, the predicted quantity is known at `next_obs`.
        anchor: the value at `next_obs` where `end`.
        cut: bool, the return stops after this step (any end of an episode, or `end`).
    """

    cumulant: jax.Array
    end: jax.Array
    anchor: jax.Array
    cut: jax.Array


def check_sizes(horizon: float, width: int) -> None:
    """Checks a horizon in steps and a number of hidden units.

    Raises:
        ValueError: a horizon below 1 step or without end, or no hidden unit.
    """
    if not is_number(horizon) or not 1 <= horizon < math.inf:
        raise ValueError(f"a horizon is at least 1 step, not {horizon}")
    check_width(width)


def check_width(width: int) -> None:
    """Checks a number of hidden units.

    Raises:
        ValueError: it is no whole number, or below 1.
    """
    if not is_whole(width) or width < 1:
        raise ValueError(f"a head has at least 1 hidden unit, not {width}")


class Predictor(nnx.Module):
    """A small network from an observation [..., D] to a prediction [...] in (`low`, 1)."""

    def __init__(self, spec: Spec, horizon: float, width: int, low: float, *, rngs: nnx.Rngs):
        check_sizes(horizon, width)
        self.gamma = 1 - 1 / horizon
        self.low = low
        self.hidden = nnx.Linear(spec.obs_dim, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def logit(self, obs: jax.Array) -> jax.Array:
        """Logit [...] of the prediction at obs [..., D]."""
        return self.out(jnp.tanh(self.hidden(obs)))[..., 0]

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Prediction [...] in (low, 1) at obs [..., D]."""
        return self.low + (1 - self.low) * jax.nn.sigmoid(self.logit(obs))

    def error(self, obs: jax.Array, target: jax.Array) -> jax.Array:
        """Cross-entropy [...] of the prediction at obs [..., D] against target [...]."""
        share = jnp.clip((target - self.low) / (1 - self.low), 0.0, 1.0)
        logit = self.logit(obs)
        return jax.nn.softplus(logit) - share * logit

    def loss(self, batch: Transition, gvf: GVFTargets) -> tuple[jax.Array, jax.Array]:
        """TD(lambda) error over the batch plus error at the ends -> (scalar, TD error []).

        Ends with harm and ends without weigh the same, however rare one kind has become: an agent
        that has learned its task hardly ever fails, and a mean over all ends would let the head
        forget what failure looks like.
        """
        bootstrap = jnp.where(gvf.end, gvf.anchor, self(batch.next_obs))
        target = jax.lax.stop_gradient(lambda_returns(gvf, bootstrap, self.gamma))
        error = self.error(batch.obs, target).mean()
        at_end, harmed = self.error(batch.next_obs, gvf.anchor), harm(batch)
        ends = _mean_where(gvf.end & harmed, at_end) + _mean_where(gvf.end & ~harmed, at_end)
        return error + END_WEIGHT * ends, error


def _mean_where(mask: jax.Array, x: jax.Array) -> jax.Array:
    """Mean of x [T, B] where mask, []; 0 if it is nowhere true."""
    return jnp.where(mask, x, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def lambda_returns(
    gvf: GVFTargets, bootstrap: jax.Array, gamma: float, trace: float = TRACE
) -> jax.Array:
    """TD(lambda) targets [T, B] from the values `bootstrap` [T, B] at `next_obs` (Sutton, 1988)."""

    def back(target: jax.Array, step: tuple) -> tuple[jax.Array, jax.Array]:
        cumulant, bootstrap, cut = step
        beyond = jnp.where(cut, bootstrap, (1 - trace) * bootstrap + trace * target)
        target = cumulant + gamma * beyond
        return target, target

    steps = (gvf.cumulant, bootstrap, gvf.cut)
    return jax.lax.scan(back, bootstrap[-1], steps, reverse=True)[1]


def harm(batch: Transition) -> jax.Array:
    """Harm, bool [T, B]: `info["harm"] > 0` if reported, else a terminal step with reward <= 0."""
    if "harm" in batch.info:
        return batch.info["harm"] > 0
    return batch.terminated & (batch.reward <= 0)
