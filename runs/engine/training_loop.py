"""One training to its end, whatever interrupts it, for studies that ask questions of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runs.cli.interrupt import Interrupted
from runs.engine.arm_runner import select_seeds
from runs.engine.checkpoint import Checkpoints

CHECKPOINT_SECONDS = 30.0  # between two checkpoints


def train_to_end(
    trainer: Any, out: Path, progress: Any, stopped: Callable[[], bool]
) -> tuple[Any, np.ndarray]:
    """A training, or the rest of it -> (run, alive [S] bool).

    Raises:
        Interrupted: after a checkpoint, if it was asked to stop.
    """
    checkpoints, run_config = (
        Checkpoints(out / "checkpoints", warn=progress.say),
        trainer.run_config,
    )
    run, alive, done = trainer.start(), np.ones(trainer.run_config.rows, bool), 0
    saved = checkpoints.restore((run, alive))
    if saved is not None:
        done, (run, alive) = saved
        alive = np.asarray(alive)
        trainer.resume(run)
    progress.advance("training", done, False)
    due = time.monotonic() + CHECKPOINT_SECONDS
    try:
        while done < run_config.chunks:
            if stopped():
                raise Interrupted
            new, _, finite = trainer.chunk(run, stopped)
            alive = alive & np.asarray(finite).all((1, 2))
            run, done = select_seeds(alive, new, run), done + 1
            progress.advance("training", done)
            if time.monotonic() > due or done == run_config.chunks:
                checkpoints.save(done, (run, alive))
                due = time.monotonic() + CHECKPOINT_SECONDS
    except Interrupted:
        checkpoints.save(done, (run, alive))
        raise
    return run, alive
