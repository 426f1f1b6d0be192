"""Hope: expected future reward."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Head, State
from affect.predict import GVFTargets, Predictor, check_sizes, harm
from affect.transition import Spec, Transition


class Hope(Head):
    """Expected average of r = clip(reward, -1, 1) over the next `horizon` steps.

    hope(s) = (1 - gamma_h) E[sum_k gamma_h^k r_k], gamma_h = 1 - 1 / horizon (a general value
    function, Sutton et al., 2011). The reward of a terminal step counts as repeated for ever, or 0
    if it was harmful: so hope is 1 at an end that paid 1, 1 where the next step reaches it, and
    gamma_h^k at k steps before that. Reward is clipped as in Mnih et al. (2015), so that the
    signal is bounded by +-1 in every world.

    Args:
        spec: shapes of the world.
        horizon: in steps, at least 1.
        width: hidden units.
        rngs: for the initial weights.
    """

    depends = ("obs",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks horizon and width."""
        check_sizes(settings.get("horizon", 1), settings.get("width", 1))
        return settings

    def __init__(self, spec: Spec, horizon: float = 50, width: int = 16, *, rngs: nnx.Rngs):
        self.predictor = Predictor(spec, horizon, width, low=-1.0, rngs=rngs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Hope [T, B] at `next_obs`, in (-1, 1)."""
        return jax.lax.stop_gradient(self.predictor(batch.next_obs)), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """TD(lambda) loss of the discounted clipped reward, anchored at terminal observations."""
        reward = jnp.clip(batch.reward, -1.0, 1.0)
        targets = GVFTargets(
            cumulant=(1 - self.predictor.gamma) * reward,
            end=batch.terminated,
            anchor=jnp.where(harm(batch), 0.0, reward),
            cut=batch.terminated | batch.truncated,
        )
        loss, error = self.predictor.loss(batch, targets)
        return loss, {"error": error}
