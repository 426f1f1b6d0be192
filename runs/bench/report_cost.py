"""Time the end of a comparison, on made-up scores and checkpoints: report, and sealing."""

import atexit
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from affect import Blend
from envs import load_suite
from runs.analysis.scores import rows_as_csv
from runs.bench.timing import Measure, Workload, timer
from runs.engine.checkpoint import Checkpoints
from runs.experiment import Experiment
from runs.lock import replace_file
from runs.names import SCORES
from runs.prereg import audit, seal
from runs.result import Result

ARMS = ("none", "random", "constant_plus", "constant_minus", "fear", "fear_sham", "fear_constant")
LEAVES, NUMBERS = 74, 650  # of a checkpoint in Drive, and float32 numbers per leaf and seed


def time_report(load: Workload) -> Measure:
    """Time tables, figure, TensorBoard aggregates and page of the arms."""
    result = _made_up_result(load)
    _seal_study(result)
    return timer(result.report, len(result.rows("dev")))


def time_sealing(load: Workload) -> Measure:
    """Time plan, freeze, ledger entry and audit of the arms, in a folder without a ledger."""
    result = _made_up_result(load)

    def seal_again() -> None:
        for name in ("ledger.jsonl", "ledger.head", "plan.toml"):
            (result.out / name).unlink(missing_ok=True)
        _seal_study(result)

    return timer(seal_again, len(result.rows("dev")))


def _made_up_result(load: Workload) -> Result:
    """Result of an experiment in Drive whose scores and checkpoints are random numbers.

    Its temporary folder is removed at the end of this process.
    """
    temporary = tempfile.TemporaryDirectory()
    atexit.register(temporary.cleanup)
    folder, suite, seeds = Path(temporary.name), load_suite("Drive"), max(load.seeds, 3)
    suite = replace(suite, shifts=suite.shifts[: load.shifts])
    experiment = Experiment(suite, {name: Blend() for name in ARMS}, seeds=seeds)
    episodes, rng, rows = experiment.run_config.episodes, np.random.default_rng(0), []
    for arm in ARMS:
        leaves = rng.standard_normal((LEAVES, seeds, NUMBERS), np.float32)
        Checkpoints(folder / "checkpoints" / arm).save(1, list(leaves))
        for seed in range(seeds):
            for point in suite.points():
                row = {"env": "Drive", "arm": arm, "seed": seed, "episodes": episodes}
                scores = dict.fromkeys(("score", *SCORES), float(rng.uniform(0.2, 0.9)))
                rows.append(row | point._asdict() | scores)
    replace_file(folder / "scores.csv", rows_as_csv(rows, header=True))
    return Result(experiment, folder)


def _seal_study(result: Result) -> None:
    """Register the plan while there are no checkpoints; freeze, enter and audit them."""
    folder = result.out
    checkpoints = (folder / "checkpoints").rename(folder / "aside")
    seal.register(folder, result.experiment.plan)
    checkpoints.rename(folder / "checkpoints")
    seal.freeze_agents(folder)
    seal.enter_scores(folder)
    if failure := audit.watermark(folder):
        raise RuntimeError(failure)
