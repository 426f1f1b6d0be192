"""Compile the next arms' trainers in threads while the current arm trains."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

AHEAD = 2  # trainers compiled in advance


def precompiled(
    make: Callable[[Any], Any], arms: Sequence[Any], early: Callable[[Any], bool]
) -> Iterator[Any]:
    """Yield the trainer of each arm in order, the next AHEAD of them compiled in the background.

    Args:
        make: arm -> its trainer; called in this thread or in a worker thread.
        arms: in their order.
        early: arm -> whether to compile its trainer in the background (`prepare`).
    """
    with ThreadPoolExecutor(AHEAD) as pool:
        futures: dict[int, Future] = {}
        for i, arm in enumerate(arms):
            for k in range(i + 1, min(i + 1 + AHEAD, len(arms))):
                if k not in futures and early(arms[k]):
                    futures[k] = pool.submit(lambda arm: make(arm).prepare(), arms[k])
            yield futures.pop(i).result() if i in futures else make(arm)
