"""ICM: prediction error of a forward model on features of what the agent controls."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from affect import Head, Spec, Transition
from affect.head import State
from affect.observation import action_numbers


class ICM(Head):
    """Intrinsic curiosity module (Pathak et al., 2017): |g(f(s), a) - f(s')|^2 / 2.

    The features f are trained by an inverse model that predicts the action from f(s) and f(s'),
    so with training they come to represent what the agent controls. Noise fades from them slowly:
    `tests/affect/test_examples.py` sees it gone after 1,500 gradient steps, not after 400. Theirs
    trains f on the error of the forward model g as well; here f is trained by the inverse model
    alone, which saves the weight between the two losses.

    Args:
        spec: shapes of the world.
        width: number of features.
        rngs: for the initial weights.
    """

    sign = 1

    def __init__(self, spec: Spec, width: int = 16, *, rngs: nnx.Rngs):
        self.spec = spec
        actions = sum(spec.choices) or spec.action_dim
        self.features = nnx.Linear(spec.obs_dim, width, rngs=rngs)
        self.inverse = nnx.Linear(2 * width, actions, rngs=rngs)
        self.forward = nnx.Linear(width + actions, width, rngs=rngs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Error of the forward model [T, B], at least 0."""
        return jax.lax.stop_gradient(self._forward_error(batch)), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Errors of the inverse model, which trains f, and of the forward model, which trains g."""
        features = jnp.concatenate([self._encode(batch.obs), self._encode(batch.next_obs)], -1)
        prediction, action = self.inverse(features), action_numbers(self.spec, batch.action)
        if sizes := self.spec.choices:
            ends = np.cumsum(sizes)[:-1].tolist()
            parts = zip(jnp.split(prediction, ends, -1), jnp.split(action, ends, -1), strict=True)
            inverse = sum(optax.softmax_cross_entropy(*pair).mean() for pair in parts)
        else:
            inverse = optax.squared_error(prediction, action).mean()
        forward = self._forward_error(batch).mean()
        return inverse + forward, {"inverse": inverse, "error": forward}

    def _forward_error(self, batch: Transition) -> jax.Array:
        features, next_features = jax.lax.stop_gradient(
            (self._encode(batch.obs), self._encode(batch.next_obs))
        )
        action = action_numbers(self.spec, batch.action)
        prediction = self.forward(jnp.concatenate([features, action], -1))
        return jnp.square(prediction - next_features).sum(-1) / 2

    def _encode(self, obs: jax.Array) -> jax.Array:
        return jnp.tanh(self.features(obs))
