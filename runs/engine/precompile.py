"""The next trainers are compiled while this one trains: neither fills the cores by itself."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

AHEAD = 2  # trainers that are prepared while one is in use


def precompiled(
    make: Callable[[Any], Any], arms: Sequence[Any], early: Callable[[Any], bool]
) -> Iterator[Any]:
    """What `make` makes of each arm, in order.

    Args:
        make: an arm -> its trainer; called in this thread, or in another one.
        arms: in their order.
        early: whether an arm's trainer is to be prepared while one before it is in use.
    """
    with ThreadPoolExecutor(AHEAD) as pool:
        coming: dict[int, Future] = {}
        for i, arm in enumerate(arms):
            for k in range(i + 1, min(i + 1 + AHEAD, len(arms))):
                if k not in coming and early(arms[k]):
                    coming[k] = pool.submit(lambda arm: make(arm).prepare(), arms[k])
            yield coming.pop(i).result() if i in coming else make(arm)
