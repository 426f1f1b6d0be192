"""E3B: novelty of an observation within the episode, by an elliptical bonus."""

import jax
import jax.numpy as jnp
from flax import nnx

from affect import Head, Spec, Transition

RIDGE = 0.1


class E3B(Head):
    """Elliptical episodic bonus (Henaff et al., 2022): b = f(s')^T C^-1 f(s').

    C = RIDGE I + the sum of f f^T over earlier steps of the episode; its inverse is carried and
    updated by Sherman & Morrison (1950): C^-1 -= u u^T / (1 + b), u = C^-1 f. Theirs learns f by
    an inverse model (see `icm`); here f is a frozen random layer, as in their ablation. The
    inverse is float32: after some 1e5 steps in one episode the bonus no longer falls.

    Args:
        spec: shapes of the world.
        width: N, number of features.
        rngs: for the random features.
    """

    sign = 1
    depends = ("obs",)

    def __init__(self, spec: Spec, width: int = 16, *, rngs: nnx.Rngs):
        self.width = width
        self.random = nnx.Linear(spec.obs_dim, width, rngs=rngs)

    def initial_state(self, num_envs: int) -> jax.Array:
        """Inverse C^-1 [B, N, N] at the start of an episode."""
        return jnp.broadcast_to(jnp.eye(self.width) / RIDGE, (num_envs, self.width, self.width))

    def __call__(self, state: jax.Array, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Elliptical bonus [T, B], at least 0."""
        empty = self.initial_state(batch.reward.shape[1])

        def step(inverse: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
            feature, first = inputs
            inverse = jnp.where(first[:, None, None], empty, inverse)
            u = jnp.einsum("bij,bj->bi", inverse, feature)
            bonus = (u * feature).sum(-1)
            shrink = jnp.sqrt(1 + bonus)[:, None]
            return inverse - jnp.einsum("bi,bj->bij", u / shrink, u / shrink), bonus

        features = jax.lax.stop_gradient(jnp.tanh(self.random(batch.next_obs)))
        state, bonus = jax.lax.scan(step, state, (features, batch.first))
        return bonus, state
