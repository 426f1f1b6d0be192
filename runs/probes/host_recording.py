"""Record batches of transitions of frozen policies in a host-stepped environment."""

from collections.abc import Callable

import jax
import numpy as np

from affect import Transition
from envs.shift import with_channel
from runs.engine.host_backend import HostBackend, HostRunnerState


def record_host_batches(
    trainer: HostBackend, run: HostRunnerState, number: int, stopped: Callable[[], bool]
) -> Transition:
    """Record batches [S, N, T, B] of each seed's policy in the unshifted world, without training.

    Raises:
        Interrupted: if `stopped` returned True.
    """
    channel = with_channel(trainer.suite.world).channel
    host_obs, keys, batches = run.host_obs, _fresh_keys(run.key), []
    for _ in range(number):
        inputs = trainer.pool, run.learner, host_obs, keys, channel
        host_obs, batch = trainer.stepper.rollout(*inputs, trainer.run_config.num_steps, stopped)
        batches.append(batch)
        keys = _fresh_keys(keys)
    return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *batches)


def _fresh_keys(keys: jax.Array) -> jax.Array:
    """Derive keys [S] that training steps do not use."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 2**30))(keys)
