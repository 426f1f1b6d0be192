"""What agents live through in a host-stepped environment, as batches like those of our worlds."""

from collections.abc import Callable

import jax
import numpy as np

from affect import Transition
from envs.shift import with_channel
from runs.engine.host_backend import HostBackend, HostRunnerState


def record_host_batches(
    trainer: HostBackend, run: HostRunnerState, number: int, stopped: Callable[[], bool]
) -> Transition:
    """What each seed's policy lives through at home from here on, [S, N, T, B], not learning.

    Raises:
        Interrupted: if it was asked to stop.
    """
    channel = with_channel(trainer.suite.world).channel
    host_obs, keys, batches = run.host_obs, _fresh_keys(run.key), []
    for _ in range(number):
        there = trainer.pool, run.learner, host_obs, keys, channel
        host_obs, batch = trainer.turn.batch(*there, trainer.run_config.num_steps, stopped)
        batches.append(batch)
        keys = _fresh_keys(keys)
    return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *batches)


def _fresh_keys(keys: jax.Array) -> jax.Array:
    """Other keys [S], far from those that steps use."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 2**30))(keys)
