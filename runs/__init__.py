"""Studies: each module answers one question and is run as `python -m runs.NAME`."""

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
