"""Reliability curves of many points drawn together: at home, and elsewhere."""

import numpy as np


def pooled_curves(told: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same readouts [S, P], with every NAME/reliability [S, P, BINS, 3] as [S, 2, BINS, 3].

    At home, and over all shifted points, each weighted by its steps: share of the steps, mean
    prediction, frequency of the event.
    """
    steps, found = told["steps"], {}
    for name, leaf in told.items():
        if name.endswith("/reliability"):
            parts = ((leaf[:, here], steps[:, here]) for here in (slice(0, 1), slice(1, None)))
            leaf = np.stack([_pool(*part) for part in parts], 1)
        found[name] = leaf
    return found


def _pool(curves: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Curves [S, P, BINS, 3] of so many steps [S, P] as one, [S, BINS, 3]."""
    weight = np.nan_to_num(curves[..., 0] * steps[..., None])
    total = weight.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [np.nan_to_num(curves[..., k]) * weight for k in (1, 2)]
        means = [part.sum(1) / total for part in parts]
        share = total / total.sum(1, keepdims=True)
    return np.stack([share, *means], -1)
