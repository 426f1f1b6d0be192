"""Cards taken one after another, for the tests of bandit learners."""

import jax.numpy as jnp
import numpy as np

from affect import Spec, Transition

SPEC = Spec(obs_dim=1, num_actions=4, info=("gain", "loss"))


def cards(*taken: tuple[int, float]) -> Transition:
    """A batch [T, 1] from (deck, net payoff) pairs."""
    decks, payoffs = zip(*taken, strict=True)
    column = (len(taken), 1)
    zeros = jnp.zeros((*column, 1))
    return Transition(
        obs=zeros,
        action=jnp.array(decks, jnp.int32)[:, None],
        next_obs=zeros,
        reward=jnp.array(payoffs, jnp.float32)[:, None],
        terminated=jnp.zeros(column, bool),
        truncated=jnp.zeros(column, bool),
        first=jnp.zeros(column, bool),
    )


def shares(actions) -> np.ndarray:
    """How often each of four decks was taken."""
    return np.bincount(np.asarray(actions).ravel(), minlength=4) / np.size(actions)
