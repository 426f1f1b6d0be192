"""What one world does for another: forgetting and transfer along a stream of worlds.

All of it is read from scores R [..., T + 1, W]: in each of W worlds, before the stream (row 0) and
after each of its T stages. `stream` [T] names the world of each stage, by its column. Lopez-Paz &
Ranzato (2017) visit each world once; where one comes back, its visits are told apart, and a
difference is taken from the last time that one was there.
"""

from collections.abc import Sequence

import numpy as np


def score_on_leaving(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """The score in the world one is in, at the end of each stage, averaged: [...].

    Learning accuracy (Riemer et al., 2019): the mean of R[i, world of i].
    """
    scores, stream = _checked(scores, stream)
    return np.stack([scores[..., i + 1, w] for i, w in enumerate(stream)]).mean(0)


def final_average(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """The score at the end of the stream, averaged over the worlds that were in it: [...].

    ACC (Lopez-Paz & Ranzato, 2017, eq. 2).
    """
    scores, stream = _checked(scores, stream)
    return scores[..., -1, sorted(set(stream))].mean(-1)


def backward_transfer(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """What came after each world did to it: its score at the end less that when it was last left.

    BWT (eq. 3), averaged over the worlds but the last one: [...]. Below 0 is forgetting.

    Raises:
        ValueError: for a stream of one world.
    """
    scores, stream = _checked(scores, stream)
    left = {w: i + 1 for i, w in enumerate(stream) if w != stream[-1]}
    if not left:
        raise ValueError("a stream of one world has nothing to forget: name a second")
    return np.stack([scores[..., -1, w] - scores[..., i, w] for w, i in left.items()]).mean(0)


def forward_transfer(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """What came before a world did for it: its score when first entered less that at the start.

    FWT (eq. 4), averaged over the worlds but the first one: [...]. Its baseline is not an untrained
    learner but the one that the stream began with, who had been to school.

    Raises:
        ValueError: for a stream of one world.
    """
    scores, stream = _checked(scores, stream)
    entered = {w: i for i, w in reversed(list(enumerate(stream))) if w != stream[0]}
    if not entered:
        raise ValueError("a stream of one world has nothing to carry over: name a second")
    return np.stack([scores[..., i, w] - scores[..., 0, w] for w, i in entered.items()]).mean(0)


def forgetting(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """The best that a world was ever mastered, less what is left of it at the end: [...].

    Chaudhry et al. (2018), eq. 3, averaged over the worlds but the last one. The best is taken from
    before the stream on; of noisy scores it is flattered, so compare arms by it and not with 0.

    Raises:
        ValueError: for a stream of one world.
    """
    scores, stream = _checked(scores, stream)
    others = sorted(set(stream) - {stream[-1]})
    if not others:
        raise ValueError("a stream of one world has nothing to forget: name a second")
    return (scores[..., :-1, others].max(-2) - scores[..., -1, others]).mean(-1)


def loss_in_previous(scores: np.ndarray, stream: Sequence[int]) -> np.ndarray:
    """What mending this world broke of the last one: the score lost there in one stage: [...].

    Averaged over the stages whose world is another than the one before. Below 0 it mended that too.

    Raises:
        ValueError: for a stream of one world.
    """
    scores, stream = _checked(scores, stream)
    changes = [i for i in range(1, len(stream)) if stream[i] != stream[i - 1]]
    if not changes:
        raise ValueError("a stream of one world breaks no other: name a second")
    lost = [scores[..., i, stream[i - 1]] - scores[..., i + 1, stream[i - 1]] for i in changes]
    return np.stack(lost).mean(0)


def revisit_scores(scores: np.ndarray, stream: Sequence[int]) -> dict[str, np.ndarray]:
    """The score in the last world to which the stream comes back, around its two last visits.

    Returns:
        Each [...]: `fresh` before the first of the two, `first` after it, `kept` before the second,
        `second` after it.

    Raises:
        ValueError: for a stream that never comes back.
    """
    scores, stream = _checked(scores, stream)
    first, second = last_return(stream)
    at = {"fresh": first, "first": first + 1, "kept": second, "second": second + 1}
    return {name: scores[..., i, stream[second]] for name, i in at.items()}


def last_return(stream: Sequence[int]) -> tuple[int, int]:
    """The stages of the last return: of the visit before, and of the visit itself.

    Stages that follow each other in one world are no return.

    Raises:
        ValueError: for a stream that never comes back.
    """
    for second in reversed(range(2, len(stream))):
        before = [i for i in range(second - 1) if stream[i] == stream[second]]
        if before and stream[second - 1] != stream[second]:
            return before[-1], second
    raise ValueError(f"the stream {list(stream)} never comes back to a world: let it")


def _checked(scores: np.ndarray, stream: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    scores, stream = np.asarray(scores, np.float64), [int(w) for w in stream]
    if scores.ndim < 2 or scores.shape[-2] != len(stream) + 1:
        raise ValueError(
            f"scores {scores.shape} do not fit a stream of {len(stream)} stages: "
            f"give [..., {len(stream) + 1}, worlds]"
        )
    if not stream or not 0 <= min(stream) <= max(stream) < scores.shape[-1]:
        raise ValueError(f"the stream {stream} names worlds outside 0 .. {scores.shape[-1] - 1}")
    return scores, stream
