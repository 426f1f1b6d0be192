"""Pool reliability curves over evaluation points: unshifted world and all shifts."""

import numpy as np


def pooled_curves(readouts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pool every NAME/reliability [S, P, BINS, 3] of some readouts to [S, 2, BINS, 3].

    One curve for home (the first point), one for all shifted points, each weighted by its steps:
    share of the steps, mean prediction, frequency of the event. Other readouts are unchanged.
    """
    steps, pooled = readouts["steps"], {}
    for name, leaf in readouts.items():
        if name.endswith("/reliability"):
            curves = ((leaf[:, span], steps[:, span]) for span in (slice(0, 1), slice(1, None)))
            leaf = np.stack([_pool(*part) for part in curves], 1)
        pooled[name] = leaf
    return pooled


def _pool(curves: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Average curves [S, P, BINS, 3], weighted by steps [S, P], into one, [S, BINS, 3]."""
    weight = np.nan_to_num(curves[..., 0] * steps[..., None])
    total = weight.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [np.nan_to_num(curves[..., k]) * weight for k in (1, 2)]
        means = [part.sum(1) / total for part in parts]
        share = total / total.sum(1, keepdims=True)
    return np.stack([share, *means], -1)
