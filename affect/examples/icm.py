"""ICM: surprise at what one's own action did."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from affect import Head, Spec, Transition
from affect.head import State


class ICM(Head):
    """Intrinsic curiosity module (Pathak et al., 2017): |g(f(s), a) - f(s')|^2 / 2.

    The features f are learned by an inverse model that tells the action from f(s) and f(s'), so
    they hold what the agent can control and leave out noise that it cannot. Theirs lets the error
    of the forward model g move f too; here f answers to the inverse model alone, which saves the
    weight between the two.

    Args:
        spec: of the world.
        width: number of features.
        rngs: for the initial weights.
    """

    sign = 1

    def __init__(self, spec: Spec, width: int = 16, *, rngs: nnx.Rngs):
        self.discrete = spec.num_actions > 0
        actions = spec.num_actions or spec.action_dim
        self.features = nnx.Linear(spec.obs_dim, width, rngs=rngs)
        self.inverse = nnx.Linear(2 * width, actions, rngs=rngs)
        self.forward = nnx.Linear(width + actions, width, rngs=rngs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """The error of the forward model [T, B], at least 0."""
        return jax.lax.stop_gradient(self._surprise(batch)), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The error of the inverse model, for f, and of the forward model, for g."""
        both = jnp.concatenate([self._see(batch.obs), self._see(batch.next_obs)], -1)
        guess, action = self.inverse(both), self._action(batch)
        wrong = optax.softmax_cross_entropy if self.discrete else optax.squared_error
        inverse, forward = wrong(guess, action).mean(), self._surprise(batch).mean()
        return inverse + forward, {"inverse": inverse, "error": forward}

    def _surprise(self, batch: Transition) -> jax.Array:
        here, there = jax.lax.stop_gradient((self._see(batch.obs), self._see(batch.next_obs)))
        ahead = self.forward(jnp.concatenate([here, self._action(batch)], -1))
        return jnp.square(ahead - there).sum(-1) / 2

    def _see(self, obs: jax.Array) -> jax.Array:
        return jnp.tanh(self.features(obs))

    def _action(self, batch: Transition) -> jax.Array:
        actions = self.inverse.out_features
        return jax.nn.one_hot(batch.action, actions) if self.discrete else batch.action
