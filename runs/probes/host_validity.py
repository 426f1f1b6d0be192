"""Examines all seeds in a host-stepped environment, one point after another."""

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
    examination: ValidityProbe,
    trainer: Any,
    run: Any,
    out: Path,
    progress: Any,
    stopped: Callable[[], bool],
) -> dict[str, np.ndarray]:
    """What every seed was told, each [S, ...]; interrupted, it begins again after the training.

    Raises:
        Interrupted: if it was asked to stop.
    """
    del out
    run_config, suite, rows = examination.run_config, examination.suite, examination.run_config.rows
    batches = host_recording.record_host_batches(trainer, run, examination.batches, stopped)
    teach = partial(_offline_heads, examination)
    teach = vmap_seeds(teach, rows, optimise=run_config.optimise, together=1)
    keys = seed_keys(run_config.base + 6, np.arange(rows))
    pupils = teach(run.learner, keys, jax.tree.map(jnp.asarray, batches))
    ask = vmap_seeds(examination.question, rows, 1, run_config.optimise, together=1)
    first = jax.tree.map(lambda leaf: leaf[0], jax.device_get((run.learner, pupils)))
    signals = len(examination.signals(*first)[0])
    there = run.learner, signals, trainer.stage, suite, run_config.base, stopped

    def told(points: int) -> None:
        progress.advance("examining", run_config.chunks + points)

    found = probe_host_points(partial(ask, run.learner, pupils), *there, told)
    return pooled_curves(found | {"memory": np.asarray(pupils.memory)})


def _offline_heads(examination: ValidityProbe, learner: Any, key: jax.Array, batches: Any) -> Any:
    return examination.teach(learner, key, batches, None)
