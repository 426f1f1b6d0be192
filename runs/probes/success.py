"""How well a frozen head tells success from failure, and ranks steps by what they lead to.

At each evaluation point, over the steps of whole episodes that did not end them: the AUROC of the
head's signal for success of the episode, and its rank correlation with the discounted return of the
task from there on.
"""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from affect import Head, Transition
from runs.probes.labels import outcome_labels
from runs.probes.probe import HORIZON
from runs.probes.ranking import discrimination, rank_correlation
from runs.probes.signals import read_signal

Success = Callable[[jax.Array, jax.Array], jax.Array]  # (return [B], length [B]) -> [B]


def success_measures(
    head: Head, recordings: Iterable[tuple[Transition, jax.Array]], success: Success, gamma: float
) -> dict[str, float]:
    """Validity of a head at home and under shift.

    Args:
        head: frozen; what it carries across steps begins anew, as in a file.
        recordings: (transitions, alive), each [T, B] of whole episodes, of the points, home first.
        success: of episodes, `Env.success`.
        gamma: discount of the return.

    Returns:
        auroc_home, rank_home, and auroc_shift, rank_shift, means over the shifted points where they
        are defined; without those that are defined nowhere. An AUROC is undefined where all
        episodes succeed or all fail.
    """
    measure = jax.jit(partial(point_measures, success=success, gamma=gamma))
    points = np.array([measure(head, batch, alive) for batch, alive in recordings], float)
    parts = {"home": points[:1], "shift": points[1:]}
    return {
        f"{name}_{part}": round(float(np.nanmean(values[:, k])), 3)
        for k, name in enumerate(("auroc", "rank"))
        for part, values in parts.items()
        if np.isfinite(values[:, k]).any()
    }


def point_measures(
    head: Head, batch: Transition, alive: jax.Array, success: Success, gamma: float
) -> jax.Array:
    """AUROC for success and rank correlation with the return, [2], of whole episodes [T, B]."""
    signal = read_signal(head, head.initial_state(alive.shape[1]), batch)
    labels = outcome_labels(batch, alive, HORIZON, gamma)
    succeeded = jnp.broadcast_to(episode_success(batch, alive, success), alive.shape)
    auroc, _ = discrimination(signal, succeeded, labels.counted)
    return jnp.stack([auroc, rank_correlation(signal, labels.return_to_go, labels.counted)])


def episode_success(batch: Transition, alive: jax.Array, success: Success) -> jax.Array:
    """Whether whole episodes [T, B] succeeded, bool [B]; none where success is not defined.

    Where the world reports `info["success"]`, the last step must report one too.
    """
    total, length = jnp.where(alive, batch.reward, 0.0).sum(0), alive.sum(0)
    succeeded = success(total, length) == 1  # it is NaN where it is not defined
    if "success" not in batch.info:
        return succeeded
    passed = jnp.take_along_axis(batch.info["success"], length[None] - 1, 0)[0]
    return succeeded & (passed > 0)
