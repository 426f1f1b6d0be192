"""Validity probe of all seeds in a host-stepped environment, one evaluation point after another."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from runs.engine.train import seed_keys, vmap_seeds
from runs.probes import host_recording
from runs.probes.host_probe import probe_host_points
from runs.probes.reliability import pooled_curves
from runs.probes.validity_probe import ValidityProbe


def probe_host_seeds(
    probe: ValidityProbe,
    trainer: Any,
    run: Any,
    out: Path,
    progress: Any,
    stopped: Callable[[], bool],
) -> dict[str, np.ndarray]:
    """Compute the readouts of every seed, each [S, ...]; nothing is saved before the last point.

    Raises:
        Interrupted: if `stopped` returned True.
    """
    del out
    run_config, suite, rows = probe.run_config, probe.suite, probe.run_config.rows
    batches = host_recording.record_host_batches(trainer, run, probe.batches, stopped)
    train = partial(_train_offline, probe)
    train = vmap_seeds(train, rows, optimise=run_config.optimise, together=1)
    keys = seed_keys(run_config.base + 6, np.arange(rows))
    heads = train(run.learner, keys, jax.tree.map(jnp.asarray, batches))
    probe_point = vmap_seeds(probe.probe_point, rows, 1, run_config.optimise, together=1)
    first = jax.tree.map(lambda leaf: leaf[0], jax.device_get((run.learner, heads)))
    signals = len(probe.signals(*first)[0])
    inputs = run.learner, signals, trainer.evaluator, suite, run_config.base, stopped

    def on_point(points: int) -> None:
        progress.advance("probing", run_config.chunks + points)

    readouts = probe_host_points(partial(probe_point, run.learner, heads), *inputs, on_point)
    return pooled_curves(readouts | {"memory": np.asarray(heads.memory)})


def _train_offline(probe: ValidityProbe, learner: Any, key: jax.Array, batches: Any) -> Any:
    return probe.train_heads(learner, key, batches, None)
