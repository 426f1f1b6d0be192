"""Train learners through a phase, chunk by chunk; checkpoints let it resume exactly."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from envs.host.fault import HostFailure
from runs.engine.backend import Backend
from runs.engine.checkpoint import Checkpoints
from runs.engine.phases import Phase
from runs.engine.train import SOURCES
from runs.errors import Interrupted

CHECKPOINT_SECONDS = 10.0  # between two checkpoints


class Chunk(NamedTuple):
    """A chunk of training that has just ended.

    Attributes:
        index: from 0.
        before: state of all seeds before it.
        metrics: [S] by name.
        alive: [S] bool, the seeds that never had a non-finite value.
        failing: {seed: (source, update)} of seeds whose first non-finite value was in this chunk;
            one of SOURCES, and the index of the update within the chunk.
        seconds: that it took.
    """

    index: int
    before: Any
    metrics: dict[str, np.ndarray]
    alive: np.ndarray
    failing: dict[int, tuple[str, int]]
    seconds: float


class Trained(NamedTuple):
    """Result of a phase: state of all seeds, and those without a non-finite value, bool [S]."""

    state: Any
    alive: np.ndarray


def run_phase(
    backend: Backend,
    phase: Phase,
    start: Callable[[], Any],
    stopped: Callable[[], bool],
    checkpoints: Checkpoints | None = None,
    on_resume: Callable[[int], None] = lambda done: None,
    on_chunk: Callable[[Chunk], None] = lambda chunk: None,
    on_seed: Callable[[Any], None] = lambda state: None,
) -> Trained:
    """Train all chunks of a phase, resuming from the newest checkpoint.

    A seed with a non-finite value is no longer alive: it keeps its state from before that chunk,
    and the others go on.

    Args:
        backend: of the worlds.
        phase: to train.
        start: returns the state at the beginning of the phase.
        stopped: returns whether the user requested a stop.
        checkpoints: where to save; None saves nothing.
        on_resume: receives the number of chunks that a checkpoint holds, before the first chunk.
        on_chunk: receives each chunk before its checkpoint is saved.
        on_seed: receives the state each time that a backend which trains seeds one after another
            has trained one of them to its end, all before the first chunk.

    Raises:
        Interrupted: after saving a checkpoint, if the user requested a stop.
        HostFailure: after saving a checkpoint, if a host environment fails for good.
        UserError: if the checkpoint is of another configuration.
    """
    done, trained = restore_phase(backend, start, checkpoints)
    on_resume(done)
    next_save = time.monotonic()  # the first chunk is saved at once
    try:
        while done < phase.chunks:
            if stopped():
                raise Interrupted
            trained, ended = _train_chunk(backend, phase, trained, done, stopped, on_chunk)
            done += ended
            if not ended:
                on_seed(trained.state)
            if time.monotonic() > next_save or done == phase.chunks:
                _save(checkpoints, done, trained)
                next_save = time.monotonic() + CHECKPOINT_SECONDS
    except (Interrupted, HostFailure):
        _save(checkpoints, done, trained)
        raise
    return trained


def restore_phase(
    backend: Backend, start: Callable[[], Any], checkpoints: Checkpoints | None
) -> tuple[int, Trained]:
    """Chunks done and the state after them, from the newest checkpoint; (0, the start) if none."""
    trained = Trained(start(), np.ones(backend.run_config.rows, bool))
    saved = None if checkpoints is None else checkpoints.restore(tuple(trained), backend.free)
    if saved is None:
        return 0, trained
    done, (state, alive) = saved
    return done, Trained(state, np.asarray(alive))


def _train_chunk(
    backend: Backend,
    phase: Phase,
    trained: Trained,
    index: int,
    stopped: Callable[[], bool],
    on_chunk: Callable[[Chunk], None],
) -> tuple[Trained, bool]:
    """Train one chunk -> (state, whether the chunk has ended, or is to be trained on).

    Seeds with non-finite values keep the state from before it.
    """
    started, before = time.monotonic(), trained.state
    state, metrics, finite = backend.train(before, phase, index * phase.updates, stopped)
    if finite is None:
        return Trained(state, trained.alive), False
    finite = np.asarray(finite)  # [S, U, sources]
    failing = np.flatnonzero(trained.alive & ~finite.all((1, 2)))
    alive = trained.alive & finite.all((1, 2))
    if not alive.all():
        state = state.where(alive, before)
    causes = {int(seed): _first_cause(finite[seed]) for seed in failing}
    values = {name: np.asarray(value) for name, value in metrics.items()}
    seconds = time.monotonic() - started
    on_chunk(Chunk(index, before, values, alive, causes, seconds))
    return Trained(state, alive), True


def _first_cause(finite: np.ndarray) -> tuple[str, int]:
    """Source of the first non-finite value in finite [U, sources], and its update."""
    update = int((~finite).any(1).argmax())
    return SOURCES[int((~finite[update]).argmax())], update


def _save(checkpoints: Checkpoints | None, done: int, trained: Trained) -> None:
    """Save a checkpoint, if there is a store."""
    if checkpoints is not None:
        checkpoints.save(done, tuple(trained))
