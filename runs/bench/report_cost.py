"""Time the end of a comparison: statistics and report, and sealing."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from runs.bench.job import Job, Measure, time_work

ARMS = ("none", "random", "constant_plus", "constant_minus", "fear", "fear_sham", "fear_constant")
SHIFTS = 10  # at four severities each


def time_report(job: Job) -> Measure:
    """Time tables, figure, TensorBoard aggregates and page of 7 arms x seeds x 40 points."""
    from runs.report.comparison import report_comparison

    study, folder = _made_up_study(job), _temporary_folder()
    _seal_study(study, folder)

    def write() -> None:
        report_comparison(
            folder, study["rows"], study["plan"], study["declared"], "benchmark", False
        )

    time_work(write, len(study["rows"]))
    return lambda: time_work(write, len(study["rows"]))


def time_sealing(job: Job) -> Measure:
    """Time plan, freeze, ledger entry and audit of 7 trained arms, in a folder without a ledger."""
    study, folder = _made_up_study(job), _temporary_folder()
    _seal_study(study, folder)

    def seal() -> None:
        for name in ("ledger.jsonl", "ledger.head", "plan.toml"):
            (folder / name).unlink()
        _seal_study(study, folder)

    time_work(seal, len(study["rows"]))
    return lambda: time_work(seal, len(study["rows"]))


def _temporary_folder() -> Path:
    """A temporary folder, removed when this process ends."""
    import atexit

    temporary = tempfile.TemporaryDirectory()
    atexit.register(temporary.cleanup)
    return Path(temporary.name)


def _made_up_study(job: Job) -> dict[str, Any]:
    """A run_config, its plan, and made-up score rows of every arm, seed and point."""
    import numpy as np

    from envs import load_suite
    from runs.compare import Settings, design
    from runs.engine.evaluate import SCORES
    from runs.prereg import plan_file

    suite = load_suite("Drive")
    suite = replace(suite, shifts=suite.shifts[:SHIFTS])
    run_config = replace(design(Settings()).run_config, seeds=max(job.seeds, 3))
    rng, rows = np.random.default_rng(0), []
    for arm in ARMS:
        for seed in range(run_config.seeds):
            for point in suite.points():
                score = float(rng.uniform(0.2, 0.9))
                row = {"env": "Drive", "arm": arm, "seed": seed, "episodes": run_config.episodes}
                scores = dict.fromkeys(SCORES, score)
                rows.append(row | point._asdict() | {"score": score} | scores)
    return {
        "plan": run_config,
        "declared": plan_file.make_plan(suite, run_config, ARMS),
        "rows": rows,
    }


def _seal_study(study: dict[str, Any], folder: Path) -> None:
    """Register, freeze, enter and audit a study; checkpoints and scores are made if missing."""
    from runs.analysis.scores import replace_file, rows_as_csv
    from runs.prereg import audit, seal

    if not (folder / "scores.csv").exists():
        _save_checkpoints(study, folder)
        replace_file(folder / "scores.csv", rows_as_csv(study["rows"], header=True))
    for arm in (folder / "checkpoints").glob("*"):
        arm.rename(folder / f"aside-{arm.name}")
    seal.register(folder, study["declared"])
    for arm in folder.glob("aside-*"):
        arm.rename(folder / "checkpoints" / arm.name.removeprefix("aside-"))
    seal.freeze_agents(folder)
    seal.enter_scores(folder)
    failure = audit.watermark(folder)
    if failure:
        raise RuntimeError(failure)


def _save_checkpoints(study: dict[str, Any], folder: Path) -> None:
    """Save a checkpoint of an untrained agent for every arm."""
    import jax

    from runs.compare import Settings, design
    from runs.engine.checkpoint import Checkpoints

    comparison = design(Settings(heads=("fear",)))
    run = comparison.trainer(comparison.suite, comparison.arms[0], study["plan"]).start()
    for arm in ARMS:
        Checkpoints(folder / "checkpoints" / arm).save(1, jax.tree.map(lambda leaf: leaf, run))
