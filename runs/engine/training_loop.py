"""Train one arm to its end without scoring it, with checkpoints, for studies that probe agents."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runs.engine.arm_runner import select_seeds
from runs.engine.checkpoint import Checkpoints
from runs.errors import Interrupted

CHECKPOINT_SECONDS = 30.0  # between two checkpoints


def train_to_end(
    trainer: Any, out: Path, progress: Any, stopped: Callable[[], bool]
) -> tuple[Any, np.ndarray]:
    """Train all chunks, resuming from the newest checkpoint -> (state, alive [S] bool).

    A seed is not alive after a non-finite value; it keeps its state from before that chunk.

    Raises:
        Interrupted: after saving a checkpoint, if `stopped()` is true.
    """
    checkpoints, run_config = (
        Checkpoints(out / "checkpoints", warn=progress.say),
        trainer.run_config,
    )
    state, alive, done = trainer.start(), np.ones(trainer.run_config.rows, bool), 0
    saved = checkpoints.restore((state, alive))
    if saved is not None:
        done, (state, alive) = saved
        alive = np.asarray(alive)
        trainer.resume(state)
    progress.advance("training", done, False)
    next_save = time.monotonic() + CHECKPOINT_SECONDS
    try:
        while done < run_config.chunks:
            if stopped():
                raise Interrupted
            new_state, _, finite = trainer.chunk(state, stopped)
            alive = alive & np.asarray(finite).all((1, 2))
            state, done = select_seeds(alive, new_state, state), done + 1
            progress.advance("training", done)
            if time.monotonic() > next_save or done == run_config.chunks:
                checkpoints.save(done, (state, alive))
                next_save = time.monotonic() + CHECKPOINT_SECONDS
    except Interrupted:
        checkpoints.save(done, (state, alive))
        raise
    return state, alive
