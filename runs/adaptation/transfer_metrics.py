"""Forward and backward transfer along a stream of worlds, from a matrix of scores.

All metrics read scores R [..., T + 1, W]: in each of W worlds, before the stream (row 0) and after
each of its T stages. `stream` [T] is the world of each stage, as a column of R. Lopez-Paz & Ranzato
(2017) visit each world once; here a world may come back, its visits are told apart, and differences
are taken from the last visit.
"""

from collections.abc import Sequence

import numpy as np


def score_on_leaving(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """Score in the current world at the end of each stage, averaged over stages: [...].

    Learning accuracy (Riemer et al., 2019): the mean of R[i, world of i].
    """
    scores, stream = _checked(scores, stream)
    return np.stack([scores[..., i + 1, w] for i, w in enumerate(stream)]).mean(0)


def backward_transfer(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """Score at the end of the stream less that at the end of the world's last visit: [...].

    BWT (eq. 3), averaged over the worlds but the last one. Below 0 is forgetting.

    Raises:
        ValueError: for a stream of one world.
    """
    scores, stream = _checked(scores, stream)
    last_row = {w: i + 1 for i, w in enumerate(stream) if w != stream[-1]}
    if not last_row:
        raise ValueError("a stream of one world has nothing to forget: add a second world")
    return np.stack([scores[..., -1, w] - scores[..., i, w] for w, i in last_row.items()]).mean(0)


def forward_transfer(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """Score before the world's first visit less that before the stream: [...].

    FWT (eq. 4), averaged over the worlds but the first one. Its baseline is not an untrained
    learner but the one that the stream began with, which was trained at home.

    Raises:
        ValueError: for a stream of one world.
    """
    scores, stream = _checked(scores, stream)
    first_row = {w: i for i, w in reversed(list(enumerate(stream))) if w != stream[0]}
    if not first_row:
        raise ValueError("a stream of one world has nothing to transfer: add a second world")
    return np.stack([scores[..., i, w] - scores[..., 0, w] for w, i in first_row.items()]).mean(0)


def loss_in_previous(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """Score lost in the previous world during one stage in another world: [...].

    Averaged over the stages whose world differs from that of the stage before. Below 0 is a gain.

    Raises:
        ValueError: for a stream of one world.
    """
    scores, stream = _checked(scores, stream)
    changes = [i for i in range(1, len(stream)) if stream[i] != stream[i - 1]]
    if not changes:
        raise ValueError("a stream of one world has no previous world: add a second world")
    losses = [scores[..., i, stream[i - 1]] - scores[..., i + 1, stream[i - 1]] for i in changes]
    return np.stack(losses).mean(0)


def revisit_scores(scores: np.ndarray, stream: Sequence[int]) -> dict[str, np.ndarray]:
    """Scores in the last world that is visited again, before and after its last two visits.

    Returns:
        Each [...]: `fresh` before the first of the two visits, `first` after it, `kept` before the
        second, `second` after it.

    Raises:
        ValueError: for a stream that never comes back to a world.
    """
    scores, stream = _checked(scores, stream)
    first, second = last_return(stream)
    rows = {"fresh": first, "first": first + 1, "kept": second, "second": second + 1}
    return {name: scores[..., i, stream[second]] for name, i in rows.items()}


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


def _checked(scores: np.ndarray, stream: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Scores as float64 and the stream as a list, after checking their shapes."""
    scores, stream = np.asarray(scores, np.float64), [int(w) for w in stream]
    if scores.ndim < 2 or scores.shape[-2] != len(stream) + 1:
        raise ValueError(
            f"scores {scores.shape} do not fit a stream of {len(stream)} stages: "
            f"give [..., {len(stream) + 1}, worlds]"
        )
    if not stream or not 0 <= min(stream) <= max(stream) < scores.shape[-1]:
        raise ValueError(f"the stream {stream} names worlds outside 0 .. {scores.shape[-1] - 1}")
    return scores, stream
