"""Sweeps: settings x arms x seeds as independent cells, and executors that run them.

`sweep(experiment, grid)` runs in this process; `python -m runs.sweep` in several, or on a cluster.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `sweep` on first use, as it imports jax."""
    if name == "sweep":
        from runs.scale.command import sweep

        return sweep
    raise AttributeError(f"module {__name__} has no attribute {name}")
