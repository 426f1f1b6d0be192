"""What wrappers around environments share: heads, files, checks, the successors of last steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from affect.blend import Blend
from affect.bridges.host import HostSignals
from affect.bridges.spaces import ObsReader
from affect.head import Head


class SignalsWrapper:
    """Base of wrappers that pay the signals of a `HostSignals`.

    Attributes:
        signals: of the wrapped environments.
    """

    signals: HostSignals

    def head(self, name: str) -> Head:
        """The head of this name as it is now; `head(name).save(path)` writes it."""
        return self.signals.head(name)

    def save(self, path: str | Path) -> None:
        """Saves the state of heads and statistics, to be continued by `load`."""
        self.signals.save(path)

    @classmethod
    def load(cls, path: str | Path, env: Any, blend: Blend, **options: Any) -> Self:
        """A wrapper that continues from a saved state, around environments in the same state.

        Args:
            path: of the file.
            env: to wrap.
            blend: the heads that were saved.
            **options: those of the wrapper that was saved.

        Raises:
            ValueError: a file of another blend, environment or other options, or a damaged one.
        """
        make: Any = cls
        wrapper = make(env, blend, **options)
        wrapper.signals.load(path)
        return wrapper


def check_not_nested(inside: Any, kind: type) -> None:
    """Checks that there is no wrapper of a kind inside; ValueError if there is."""
    if inside is not None:
        raise ValueError(
            f"{kind.__name__} around {kind.__name__}: the outer one would take what the inner "
            "pays for the task's reward, so put all heads into one Blend"
        )


def successors(
    read: ObsReader, after: np.ndarray, ended: np.ndarray, last: Sequence[Any] | None, key: str
) -> np.ndarray:
    """Successors [B, D]: the last observations of episodes that ended, else those `after`.

    Args:
        read: of observations.
        after: [B, D] observations to act on next.
        ended: [B].
        last: the last observations, None where there is none.
        key: by which the library reports them.

    Raises:
        ValueError: there is none, or it is of another shape than observations.
    """
    if not ended.any():
        return after
    successor = after.copy()
    for b in np.flatnonzero(ended).tolist():
        if last is None or last[b] is None:
            raise ValueError(
                f'an episode ended, and there is no "{key}" of it: '
                "put the wrapper inside of the one that drops it"
            )
        try:
            successor[b] = read.one(last[b])[0]
        except ValueError as error:
            raise ValueError(
                f'"{key}": {error}; put the wrapper inside of the one that changes observations '
                "but not these"
            ) from None
    return successor
