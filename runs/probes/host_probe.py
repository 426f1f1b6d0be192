"""Probe signals in a host-stepped environment, one evaluation point after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.suite import Suite
from runs.engine.host_evaluate import HostEvaluator
from runs.probes.readouts import empty_statistics


def probe_host_points(
    probe: Callable,
    learner: Any,
    signals: int,
    evaluator: HostEvaluator,
    suite: Suite,
    base: int,
    stopped: Callable[[], bool],
    on_point: Callable[[int], None] = lambda points: None,
) -> dict[str, np.ndarray]:
    """Compute the readouts of all seeds at all points of a suite, each [S, P, ...].

    Args:
        probe: (batch [S, T, B], alive [S, T, B], home statistics of each seed, at_home []) -> (home
            statistics, readouts at that point [S, ...]); `point_readouts` mapped over seeds.
        learner: of all seeds, which acts.
        signals: K, of each seed.
        evaluator: runs the episodes.
        suite: of worlds.
        base: seed of worlds and episodes.
        stopped: returns whether to stop.
        on_point: called with the number of finished points after each of them.

    Raises:
        Interrupted: if `stopped` returned True.
    """
    statistics = empty_statistics(signals, suite.env.spec.obs_dim)
    statistics = jax.tree.map(lambda leaf: jnp.stack([leaf] * evaluator.rows), statistics)
    worlds, readouts = suite.worlds(jax.random.key(base + 1), 1), []
    for i in range(len(suite.points())):
        world = jax.tree.map(lambda leaf, i=i: leaf[i, 0], worlds)
        batch, alive = evaluator.episodes(learner, world, base, stopped)
        statistics, point = probe(batch, alive, statistics, jnp.array(i == 0))
        readouts.append(jax.tree.map(np.asarray, point))
        on_point(i + 1)
    return {name: np.stack([point[name] for point in readouts], 1) for name in readouts[0]}
