"""What the end of a comparison costs: statistics and report, and the seal on them."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from runs.bench.job import Job, Measure, time_work

ARMS = ("none", "random", "constant_plus", "constant_minus", "fear", "fear_sham", "fear_constant")
SHIFTS = 10  # at four severities each


def time_report(job: Job) -> Measure:
    """Tables, figure, TensorBoard's aggregates and page of 7 arms x seeds x 40 points."""
    from runs.report.comparison import report_comparison

    what, folder = _study(job), _folder()
    _sealed(what, folder)

    def write() -> None:
        report_comparison(folder, what["rows"], what["plan"], what["declared"], "benchmark", False)

    time_work(write, len(what["rows"]))
    return lambda: time_work(write, len(what["rows"]))


def time_sealing(job: Job) -> Measure:
    """Plan, freeze, look and audit of 7 trained arms, in a folder that has never been entered."""
    what, folder = _study(job), _folder()
    _sealed(what, folder)

    def seal() -> None:
        for name in ("ledger.jsonl", "ledger.head", "plan.toml"):
            (folder / name).unlink()
        _sealed(what, folder)

    time_work(seal, len(what["rows"]))
    return lambda: time_work(seal, len(what["rows"]))


def _folder() -> Path:
    """A folder that lasts as long as this process."""
    import atexit

    kept = tempfile.TemporaryDirectory()
    atexit.register(kept.cleanup)
    return Path(kept.name)


def _study(job: Job) -> dict[str, Any]:
    """A plan, what was declared, and made-up score rows of every arm, seed and point of it."""
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


def _sealed(what: dict[str, Any], folder: Path) -> None:
    """Everything that sealing adds to a study; checkpoints and scores are made if they are not."""
    from runs.analysis.scores import replace_file, rows_as_csv
    from runs.prereg import audit, seal

    if not (folder / "scores.csv").exists():
        _train(what, folder)
        replace_file(folder / "scores.csv", rows_as_csv(what["rows"], header=True))
    for arm in (folder / "checkpoints").glob("*"):
        arm.rename(folder / f"aside-{arm.name}")
    seal.register(folder, what["declared"])
    for arm in folder.glob("aside-*"):
        arm.rename(folder / "checkpoints" / arm.name.removeprefix("aside-"))
    seal.freeze_agents(folder)
    seal.enter_scores(folder)
    wrong = audit.watermark(folder)
    if wrong:
        raise RuntimeError(wrong)


def _train(what: dict[str, Any], folder: Path) -> None:
    """A checkpoint of every arm, of an untrained agent."""
    import jax

    from runs.compare import Settings, design
    from runs.engine.checkpoint import Checkpoints

    designed = design(Settings(heads=("fear",)))
    run = designed.trainer(designed.suite, designed.arms[0], what["plan"]).start()
    for arm in ARMS:
        Checkpoints(folder / "checkpoints" / arm).save(1, jax.tree.map(lambda leaf: leaf, run))
