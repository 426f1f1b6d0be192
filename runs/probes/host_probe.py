"""Asks in a host-stepped environment, whose worlds can only be visited one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.suite import Suite
from runs.engine.host_evaluate import HostEvaluator
from runs.probes.readouts import empty_statistics


def probe_host_points(
    ask: Callable,
    learner: Any,
    signals: int,
    stage: HostEvaluator,
    suite: Suite,
    base: int,
    stopped: Callable[[], bool],
    told: Callable[[int], None] = lambda points: None,
) -> dict[str, np.ndarray]:
    """What all seeds are told at all points of a suite, each [S, P, ...].

    Args:
        ask: (batch [S, T, B], alive [S, T, B], ground of each seed, at_home []) -> (ground, the
            answers at that point [S, ...]), `runs.probes.readouts.point_readouts` over seeds.
        learner: of all seeds, that plays.
        signals: K, of each seed.
        stage: where it plays.
        suite: of worlds.
        base: seed of worlds and episodes.
        stopped: whether to stop.
        told: how many points are done, after each.

    Raises:
        Interrupted: if it was asked to stop.
    """
    ground = empty_statistics(signals, suite.env.spec.obs_dim)
    ground = jax.tree.map(lambda leaf: jnp.stack([leaf] * stage.rows), ground)
    worlds, answers = suite.worlds(jax.random.key(base + 1), 1), []
    for i in range(len(suite.points())):
        world = jax.tree.map(lambda leaf, i=i: leaf[i, 0], worlds)
        batch, alive = stage.episodes(learner, world, base, stopped)
        ground, answer = ask(batch, alive, ground, jnp.array(i == 0))
        answers.append(jax.tree.map(np.asarray, answer))
        told(i + 1)
    return {name: np.stack([some[name] for some in answers], 1) for name in answers[0]}
