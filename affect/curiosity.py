"""Curiosity: novelty of an observation by random network distillation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Head
from affect.moments import Moments, empty_moments, running_moments, whiten
from affect.predict import check_width
from affect.transition import Spec, Transition


class Curiosity(Head):
    """Error of predicting the output of a frozen random network at the next observation.

    Random network distillation (Burda et al., 2018): |f(s') - g(s')|^2 / N, where g never moves
    and f is trained on the agent's observations. These are whitened by their running moments
    so far and clipped at 5 deviations, as there.

    Args:
        spec: shapes of the world.
        width: hidden units, and N, the number of predicted features.
        rngs: for the initial weights.
    """

    sign = 1

    depends = ("obs",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks width."""
        check_width(settings.get("width", 1))
        return settings

    def __init__(self, spec: Spec, width: int = 16, *, rngs: nnx.Rngs):
        self.obs_dim = spec.obs_dim
        self.random = Features(spec.obs_dim, width, rngs=rngs)
        self.predictor = Features(spec.obs_dim, width, rngs=rngs)

    def initial_state(self, num_envs: int) -> Moments:
        """Moments of no observations."""
        del num_envs
        return empty_moments((self.obs_dim,))

    def __call__(self, state: Moments, batch: Transition) -> tuple[jax.Array, Moments]:
        """Prediction error [T, B], at least 0."""
        history, state = running_moments(state, batch.obs)
        whitened = jax.vmap(lambda moments, obs: whiten(moments, obs, 5.0))(history, batch.next_obs)
        return jax.lax.stop_gradient(self._error(whitened)), state

    def loss(self, state: Moments, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean prediction error over the batch; only the predictor gets a gradient."""
        _, state = running_moments(state, batch.obs)
        error = self._error(whiten(state, batch.next_obs, 5.0)).mean()
        return error, {"error": error}

    def _error(self, whitened: jax.Array) -> jax.Array:
        target = jax.lax.stop_gradient(self.random(whitened))
        return jnp.square(self.predictor(whitened) - target).mean(-1)


class Features(nnx.Module):
    """A small network from an observation [..., D] to features [..., width]."""

    def __init__(self, obs_dim: int, width: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(obs_dim, width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """Features [..., width] of obs [..., D]."""
        return self.out(jnp.tanh(self.hidden(obs)))
