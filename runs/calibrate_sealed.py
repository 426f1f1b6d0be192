"""Sealed shifts' difficulty: scores as in runs.calibrate, and learning curves of new agents.

Done once, before anything else is trained in the sealed shifts of Drive, to choose how strong they
are (`envs.worlds.drive.sealed.WORST`). Flags what `runs.calibrate` flags, and shifts in which plain
PPO, untrained before, learns too fast for anything to help it, or hardly at all. Worlds, episodes
and seeds are drawn from a base seed that no other study has.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from runs import calibrate
from runs.analysis import stats
from runs.cli.settings import StudySettings, check, run_main, shared_settings
from runs.cli.study import Job, run_study
from runs.report.page import Page, markdown_table, page_text

COMMAND = "python -m runs.calibrate_sealed"
BASE = 2101  # base seed
HEADROOM, LEARNED = 0.75, 0.3  # most area under a newborn's curve, and least success at its end
LAST = 0.2  # share of a curve that is its end
NOTE = (
    f"Area: mean success of training episodes; end: in the last {LAST:.0%} of the training. "
    f"Verdicts: there is no headroom if the area is above {HEADROOM}, and a newborn does not learn "
    f"if its end is below {LEARNED}."
)


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the calibration of sealed shifts.

    Attributes:
        seeds: training runs, at least 3, of the agent at home, and in each shift of its specialist
            and of a newborn.
    """

    seeds: int = 8


def study(job: Job) -> Page:
    """Train and score all policies and the newborns, and report."""
    from envs.worlds.drive.sealed import sealed_suite

    settings = shared_settings(calibrate.Settings, job.settings)
    suite, run_config, chunks = calibrate.design(settings, sealed_suite())
    run_config = replace(run_config, base=BASE)
    results = calibrate.calibrate(job, suite, run_config, chunks)
    levels = calibrate.level_rows(suite, results)
    sections = [
        *calibrate.level_sections(levels, results, run_config, chunks),
        newborn_table(newborn_curves(job, suite, run_config)),
        f"Newborns: plain PPO, untrained, {run_config.steps:,} steps in the shift at severity 1. "
        f"{NOTE}",
    ]
    text = page_text(f"{suite.name}: how hard its sealed shifts are", sections, job.command)
    return Page(f"calibrate-{suite.name}-sealed", text)


def newborn_curves(job: Job, suite: Any, run_config: Any) -> dict[str, np.ndarray]:
    """Training success [S, chunks] of agents, untrained before, in each shift at full severity.

    Args:
        job: of the study.
        suite: of the shifts.
        run_config: sizes of the training.

    Raises:
        Interrupted: if the user requested a stop; finished shifts are kept.
    """
    from runs.engine.phases import Phase, flat_worlds, world_pool
    from runs.engine.seeds import Stream, stream_key
    from runs.study_run import NO_HEADS, StudyRun
    from runs.tree_io import leaves_digest

    run = StudyRun(job, suite.env, run_config)
    updates = run_config.chunks * run_config.updates
    run.done = job.progress.total  # that of the calibration before
    job.progress.total += updates * len(suite.shifts)
    worlds = suite.worlds(stream_key(run_config.base, Stream.TRAINING_WORLDS), calibrate.WORLDS)
    curves = {}

    def train(name: str, pool: Any) -> dict[str, list]:
        sizes, chunks = (run_config.chunks, run_config.updates, run_config.agent), []
        run.train(name, Phase(world_pool(pool), *sizes, NO_HEADS), on_chunk=chunks.append)
        success = np.stack([chunk.metrics["success"] for chunk in chunks], 1)
        return {"success": success[: run_config.seeds].tolist()}

    for i, shift in enumerate(suite.shifts, 1):
        name, pool = f"newborn-{shift.name}", flat_worlds(worlds, [i * len(suite.severities)])
        part = run.part(name, leaves_digest(pool), updates, partial(train, name, pool))
        curves[shift.name] = np.array(part["success"])
    return curves


def newborn_table(curves: dict[str, np.ndarray]) -> str:
    """Table of area under and end of the curves [S, chunks] by shift, and its flags."""
    rows = []
    for name, curve in curves.items():
        last = curve[:, -max(round(LAST * curve.shape[1]), 1) :]
        area, end = (stats.mean(stats.nan_mean(part)) for part in (curve, last))
        flags = ["no headroom"] if area.value > HEADROOM else []
        flags += ["does not learn"] if end.value < LEARNED else []
        rows.append([name, f"{area:.2f}", f"{end:.2f}", ", ".join(flags) or "fine"])
    return markdown_table(["shift", "newborn: area", "newborn: end", "verdict"], rows)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
