"""Curiosity: how new this is."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect.head import Head
from affect.moments import Moments, empty_moments, running_moments, whiten
from affect.transition import Spec, Transition


class Curiosity(Head):
    """The error of predicting what a frozen random network makes of the next observation.

    Random network distillation (Burda et al., 2018): |f(s') - g(s')|^2 / N, where g never moves
    and f is trained on what was seen. Observations are whitened by the running moments of what
    was seen so far and clipped at 5 deviations, as there.

    Args:
        spec: of the world.
        width: hidden units, and N, the number of predicted features.
        rngs: for the initial weights.
    """

    sign = 1

    def __init__(self, spec: Spec, width: int = 16, *, rngs: nnx.Rngs):
        self.obs_dim = spec.obs_dim
        self.random = _features(spec.obs_dim, width, rngs)
        self.predictor = _features(spec.obs_dim, width, rngs)

    def initial_state(self, num_envs: int) -> Moments:
        """The moments of no observation."""
        del num_envs
        return empty_moments((self.obs_dim,))

    def __call__(self, state: Moments, batch: Transition) -> tuple[jax.Array, Moments]:
        """Prediction error [T, B], at least 0."""
        each, state = running_moments(state, batch.obs)
        seen = jax.vmap(lambda moments, obs: whiten(moments, obs, 5.0))(each, batch.next_obs)
        return jax.lax.stop_gradient(self._error(seen)), state

    def loss(self, state: Moments, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The mean of that error, for the predictor alone."""
        _, state = running_moments(state, batch.obs)
        error = self._error(whiten(state, batch.next_obs, 5.0)).mean()
        return error, {"error": error}

    def _error(self, seen: jax.Array) -> jax.Array:
        target = jax.lax.stop_gradient(self.random(seen))
        return jnp.square(self.predictor(seen) - target).mean(-1)


def _features(obs_dim: int, width: int, rngs: nnx.Rngs) -> nnx.Sequential:
    hidden = nnx.Linear(obs_dim, width, rngs=rngs)
    return nnx.Sequential(hidden, jnp.tanh, nnx.Linear(width, width, rngs=rngs))
