"""Statistics of signals over steps: means, shares of what is paid, errors of heads."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class SignalStatistics:
    """Sums over steps of the signals of K heads, and of the task's reward.

    Args:
        names: of the heads.
    """

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self._begin()

    def _begin(self) -> None:
        self._steps, self._task = 0, 0.0
        self._sum, self._size = np.zeros(len(self.names)), np.zeros(len(self.names))

    def add(self, reward: np.ndarray, signals: np.ndarray, steps: int) -> None:
        """Adds the task's reward [B] and signals [B, K] of one step of `steps` environments."""
        self._steps, self._task = self._steps + steps, self._task + float(np.abs(reward).sum())
        self._sum += signals.sum(0)
        self._size += np.abs(signals).sum(0)

    def take(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Statistics since the last call; empty without a step.

        By head: `NAME`, its mean signal, and `NAME_share`, the size of the signal as a share of
        that of the task's reward and all signals together; then the finite ones of `metrics`, what
        heads reported when they were last trained, such as `NAME_error`.
        """
        if not self._steps:
            return {}
        total = self._task + self._size.sum()
        statistics = {}
        for k, name in enumerate(self.names):
            statistics[name] = float(self._sum[k] / self._steps)
            statistics[f"{name}_share"] = float(self._size[k] / total) if total else 0.0
        for name, value in metrics.items():
            if np.ndim(value) == 0 and np.isfinite(value):
                statistics[name.replace("/", "_")] = float(value)
        self._begin()
        return statistics
