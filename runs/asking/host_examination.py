"""Examines all seeds in a host-stepped environment, one point after another."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from runs.asking import host_episodes
from runs.asking.examination import Examination
from runs.asking.in_turn import in_turn
from runs.asking.reliability import gathered
from runs.harness.train import over_seeds, seed_keys


def examined(
    examination: Examination,
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
    plan, suite, rows = examination.plan, examination.suite, examination.plan.rows
    batches = host_episodes.recorded(trainer, run, examination.batches, stopped)
    teach = partial(_taught, examination)
    teach = over_seeds(teach, rows, optimise=plan.optimise, together=1)
    keys = seed_keys(plan.base + 6, np.arange(rows))
    pupils = teach(run.learner, keys, jax.tree.map(jnp.asarray, batches))
    ask = over_seeds(examination.question, rows, 1, plan.optimise, together=1)
    first = jax.tree.map(lambda leaf: leaf[0], jax.device_get((run.learner, pupils)))
    signals = len(examination.signals(*first)[0])
    there = run.learner, signals, trainer.stage, suite, plan.base, stopped

    def told(points: int) -> None:
        progress.advance("examining", plan.chunks + points)

    found = in_turn(partial(ask, run.learner, pupils), *there, told)
    return gathered(found | {"memory": np.asarray(pupils.memory)})


def _taught(examination: Examination, learner: Any, key: jax.Array, batches: Any) -> Any:
    return examination.teach(learner, key, batches, None)
