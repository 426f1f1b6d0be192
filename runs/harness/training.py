"""One training to its end, whatever interrupts it, for studies that ask questions of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runs.harness.checkpoint import Checkpoints
from runs.harness.study import keep
from runs.harness.watch import Interrupted

CHECKPOINT_SECONDS = 30.0  # between two checkpoints


def trained(
    trainer: Any, out: Path, progress: Any, stopped: Callable[[], bool]
) -> tuple[Any, np.ndarray]:
    """A training, or the rest of it -> (run, alive [S] bool).

    Raises:
        Interrupted: after a checkpoint, if it was asked to stop.
    """
    checkpoints, plan = Checkpoints(out / "checkpoints", warn=progress.say), trainer.plan
    run, alive, done = trainer.start(), np.ones(trainer.plan.rows, bool), 0
    saved = checkpoints.restore((run, alive))
    if saved is not None:
        done, (run, alive) = saved
        alive = np.asarray(alive)
        trainer.resume(run)
    progress.advance("training", done, False)
    due = time.monotonic() + CHECKPOINT_SECONDS
    try:
        while done < plan.chunks:
            if stopped():
                raise Interrupted
            new, _, sound = trainer.chunk(run, stopped)
            alive = alive & np.asarray(sound).all((1, 2))
            run, done = keep(alive, new, run), done + 1
            progress.advance("training", done)
            if time.monotonic() > due or done == plan.chunks:
                checkpoints.save(done, (run, alive))
                due = time.monotonic() + CHECKPOINT_SECONDS
    except Interrupted:
        checkpoints.save(done, (run, alive))
        raise
    return run, alive
