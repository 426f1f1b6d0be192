"""Experiments: roll out, train, score (engine), probe (probes), compare (analysis), draw (report).

Rolled out   `engine.train.collect` in jitted worlds, `engine.host_step` in others, for all seeds
             at once by `engine.jax_backend`, `engine.host_backend`, `engine.foreign_backend`
Learned from `engine.train.update`
Scored       `engine.evaluate`, `engine.host_evaluate`
Probed       `probes.readouts`
Compared     `analysis.contrasts`
Drawn        `report.figures`, placed on the page by `report.html`

What is new goes to
a head       a file in `affect`, a class of `affect.head.Head`; its name for arms: `engine.arms`
a control    `engine.arms`, and its head `engine.control_heads`
a world      a file in `envs/worlds`, with its shifts and their suite; its id: `envs.SUITES`
a shift      the file of its world, made of the parts in `envs.shift`
a phase      an `engine.phases.Phase`: in `experiment` one an arm, in a study its own
a metric     of an episode: `names.SCORES`, counted by `engine.evaluate` and `host_evaluate`; of a
             signal: `probes.readouts`; of an arm: `analysis.robustness`, column `report.tables`
a statistic  `analysis.stats`
a figure     `report.figures`; of a study alone, the file of its page

All of it is run by `Experiment`, or by a study: a file here, run as `python -m runs.NAME`. Modules
import only downwards: studies, theory and bench; experiment; report and cli; probes and prereg;
analysis; engine; and describe, errors, lock, names and tree_io at the bottom
(`tests/test_house.py`).
"""

import os
import signal
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


def _end(number: int, frame: object) -> None:
    """End a command in one line on a signal; a study that has begun its work saves it instead."""
    os.write(2, b"\nstopped; give the same command again to go on\n")
    os._exit(128 + number)


if sys.argv[:1] == ["-m"] and sys.orig_argv[sys.orig_argv.index("-m") + 1].startswith("runs"):
    for _number in (signal.SIGINT, signal.SIGTERM):  # `python -m runs.NAME` is being imported
        signal.signal(_number, _end)


def __getattr__(name: str) -> Any:
    """Import `Experiment` on first use, and let jax use one device per core before that."""
    if name != "Experiment":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from runs.engine.devices import prepare_devices

    prepare_devices()
    from runs.experiment import Experiment

    return Experiment
