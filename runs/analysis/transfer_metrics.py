"""Forward and backward transfer along a stream of worlds, from a matrix of scores.

Lopez-Paz & Ranzato (2017) visit each world once; here a world may come back, its visits are told
apart, and differences are taken from the last visit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class TransferMetrics(NamedTuple):
    """Metrics of a stream of worlds, each [S].

    Attributes:
        in_world: score in the present world at the end of each stage, averaged over stages
            (learning accuracy of Riemer et al., 2019).
        fresh, first: score in the world that comes back last, before and after its visit before.
        kept, second: score there before and after its last visit.
        backward: score at the end less that at the end of the world's last visit, averaged over
            the worlds but the last one (BWT, eq. 3); below 0 is forgetting.
        forward: score before the world's first visit less that before the stream, averaged over
            the worlds but the first one (FWT, eq. 4). Its baseline is not an untrained learner but
            the one that the stream began with.
        lost: score lost in the previous world during one stage in another world, averaged over the
            stages whose world differs from that of the stage before; below 0 is a gain.
    """

    in_world: np.ndarray
    fresh: np.ndarray
    first: np.ndarray
    kept: np.ndarray
    second: np.ndarray
    backward: np.ndarray
    forward: np.ndarray
    lost: np.ndarray


def transfer_metrics(scores: np.ndarray, stream: Sequence[int]) -> TransferMetrics:
    """Metrics of scores R [S, T + 1, W]: before the stream (row 0) and after each of its T stages.

    Args:
        scores: of S seeds in each of W worlds.
        stream: [T] the world of each stage, as a column of R.

    Raises:
        ValueError: for scores that do not fit the stream, or one that never comes back to a world.
    """
    scores, stages = np.asarray(scores, np.float64), list(enumerate(stream))
    if scores.shape[1] != len(stages) + 1 or not set(stream) <= set(range(scores.shape[2])):
        raise ValueError(f"scores {scores.shape} do not fit the stream {list(stream)}")
    before, second = last_return(stream)
    world, end = stream[second], len(stages)
    last_visit = {w: i + 1 for i, w in stages if w != stream[-1]}
    first_visit = {w: i for i, w in reversed(stages) if w != stream[0]}
    changes = [(i, stream[i - 1]) for i, w in stages[1:] if w != stream[i - 1]]

    def mean_change(rows: Sequence[tuple[int, int, int]]) -> np.ndarray:
        """Score in row `new` less that in row `old`, of some (new, old, world), averaged."""
        return np.mean([scores[:, new, w] - scores[:, old, w] for new, old, w in rows], axis=0)

    return TransferMetrics(
        in_world=np.mean([scores[:, i + 1, w] for i, w in stages], axis=0),
        fresh=scores[:, before, world],
        first=scores[:, before + 1, world],
        kept=scores[:, second, world],
        second=scores[:, second + 1, world],
        backward=mean_change([(end, i, w) for w, i in last_visit.items()]),
        forward=mean_change([(i, 0, w) for w, i in first_visit.items()]),
        lost=mean_change([(i, i + 1, w) for i, w in changes]),
    )


def last_return(stream: Sequence[int]) -> tuple[int, int]:
    """Stages (earlier visit, return) of the last world that is visited again after another.

    Consecutive stages in one world are no return.

    Raises:
        ValueError: for a stream that never comes back to a world.
    """
    for second in reversed(range(2, len(stream))):
        before = [i for i in range(second - 1) if stream[i] == stream[second]]
        if before and stream[second - 1] != stream[second]:
            return before[-1], second
    raise ValueError(f"the stream {list(stream)} never comes back to a world: repeat one")
