"""What agents live through in a host-stepped environment, as batches like those of our worlds."""

from collections.abc import Callable

import jax
import numpy as np

from affect import Transition
from envs.shift import sensible
from runs.harness.hosted import Hosted, HostRun


def recorded(trainer: Hosted, run: HostRun, number: int, stopped: Callable[[], bool]) -> Transition:
    """What each seed's policy lives through at home from here on, [S, N, T, B], not learning.

    Raises:
        Interrupted: if it was asked to stop.
    """
    channel = sensible(trainer.suite.world).channel
    ears, keys, batches = run.ears, _renewed(run.key), []
    for _ in range(number):
        there = trainer.pool, run.learner, ears, keys, channel
        ears, batch = trainer.turn.batch(*there, trainer.plan.num_steps, stopped)
        batches.append(batch)
        keys = _renewed(keys)
    return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *batches)


def _renewed(keys: jax.Array) -> jax.Array:
    """Other keys [S], far from those that steps use."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 2**30))(keys)
