"""Compile the training programs of the next phases in background threads, ahead of time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from runs.engine.backend import Backend
from runs.engine.phases import Phase

AHEAD = 2  # phases compiled in advance


def compile_ahead(backend: Backend, phases: Sequence[Phase | None]) -> Iterator[None]:
    """Yield once before each phase, when it is compiled and the next AHEAD are being compiled.

    Args:
        backend: that trains them.
        phases: in the order of their training; None for one that is not trained, or not from its
            start.
    """
    with ThreadPoolExecutor(AHEAD) as pool:
        futures = {}
        for i in range(len(phases)):
            for k in range(i + 1, min(i + 1 + AHEAD, len(phases))):
                if k not in futures and phases[k] is not None:
                    futures[k] = pool.submit(backend.prepare, phases[k])
            if i in futures:
                futures.pop(i).result()
            yield
