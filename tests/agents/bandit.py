"""Batches of deck choices, for the tests of bandit agents."""

import jax.numpy as jnp
import numpy as np

from affect import Spec, Transition

SPEC = Spec(obs_dim=1, num_actions=4, info=("gain", "loss"))


def bandit_batch(*choices: tuple[int, float]) -> Transition:
    """Batch [T, 1] of (deck, net payoff) pairs."""
    decks, payoffs = zip(*choices, strict=True)
    shape = (len(choices), 1)
    zeros = jnp.zeros((*shape, 1))
    return Transition(
        obs=zeros,
        action=jnp.array(decks, jnp.int32)[:, None],
        next_obs=zeros,
        reward=jnp.array(payoffs, jnp.float32)[:, None],
        terminated=jnp.zeros(shape, bool),
        truncated=jnp.zeros(shape, bool),
        first=jnp.zeros(shape, bool),
    )


def choice_shares(actions) -> np.ndarray:
    """Share of choices [4] of each deck."""
    return np.bincount(np.asarray(actions).ravel(), minlength=4) / np.size(actions)
