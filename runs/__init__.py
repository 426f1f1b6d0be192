"""Studies and tools: modules with a `main` are run as `python -m runs.NAME`.

Where to add what: a study as a file here; an arm in `engine.arms`; a number per arm from its scores
in `analysis.robustness` and `report.tables`; one that says what a signal predicts in
`probes.ranking` and `probes.readouts`; a figure in `report.score_figures` and `report.html`. A
suite is scored at points (a shift at a severity), each with several drawn worlds; an arm is one way
to train.
"""

import sys
from importlib.abc import MetaPathFinder


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
