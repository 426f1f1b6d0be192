"""Fear: minus the probability of harm within the next steps."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Head, State
from affect.predict import GVFTargets, Predictor, check_sizes, harm
from affect.transition import Spec, Transition


class Fear(Head):
    """Minus the probability of harm within the next `horizon` steps.

    p(s) = E[gamma_h^k], k the number of steps to the first harm, gamma_h = 1 - 1 / horizon: the
    chance that harm comes before an independent event of probability 1 / horizon a step (a
    general value function, Sutton et al., 2011; it replaces the classifier of Lipton et al.,
    2016). p is 1 at the harm itself and 0 at an end without harm. Harm is `info["harm"] > 0`
    where the world reports it, else an end whose reward is not positive.

    Args:
        spec: shapes of the world.
        horizon: in steps, at least 1.
        width: hidden units.
        rngs: for the initial weights.
    """

    sign = -1

    depends = ("obs",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks horizon and width."""
        check_sizes(settings.get("horizon", 1), settings.get("width", 1))
        return settings

    def __init__(self, spec: Spec, horizon: float = 10, width: int = 16, *, rngs: nnx.Rngs):
        self.predictor = Predictor(spec, horizon, width, low=0.0, rngs=rngs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Minus the probability of harm [T, B] at `next_obs`, in (-1, 0)."""
        return -jax.lax.stop_gradient(self.predictor(batch.next_obs)), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """TD(lambda) loss of the harm probability: 1 at harm, 0 at ends without harm."""
        harmed = harm(batch)
        targets = GVFTargets(
            cumulant=jnp.zeros_like(batch.reward),
            end=batch.terminated | harmed,
            anchor=harmed.astype(batch.reward.dtype),
            cut=batch.terminated | batch.truncated | harmed,
        )
        loss, error = self.predictor.loss(batch, targets)
        return loss, {"error": error}
