"""The laboratory: `Experiment`, and studies and tools that are run as `python -m runs.NAME`.

A batch is rolled out in `engine.jax_backend` or `engine.host_backend`, learned from in
`engine.train.update`, scored in `engine.evaluate`; signals are measured in `probes.readouts`, arms
compared in `analysis.contrasts`, and results drawn in `report`. Where to add what: a study as a
file here; an arm in `engine.arms`; a stretch of training as an `engine.phases.Phase`; a number per
arm from its scores in `analysis.robustness` and `report.tables`; one that says what a signal
predicts in `probes.readouts`; a figure in `report.figures`.

Modules import only downwards: studies, theory and bench; experiment; report, prereg and cli, which
do not import each other; probes; analysis; engine; and errors, lock, names and tree_io at the
bottom (`tests/test_house.py`).
"""

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _RenamedStudies(MetaPathFinder):
    """Import finder that fails for a study of version 0.1 and names the one that replaced it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise an ImportError for a renamed study; None for all other modules."""
        package, _, study = name.rpartition(".")
        if package != __name__:
            return
        from affect.renamed import STUDIES  # imports jax, so only where a module is missing

        if study in STUDIES:
            raise ImportError(f"{name} was renamed: use {package}.{STUDIES[study]}")


sys.meta_path.append(_RenamedStudies())


def __getattr__(name: str) -> Any:
    """Import `Experiment` on first use, and let jax use one device per core before that."""
    if name != "Experiment":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from runs.engine.devices import prepare_devices

    prepare_devices()
    from runs.experiment import Experiment

    return Experiment
