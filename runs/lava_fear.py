"""Fear where lava moves: why does it rank harm below chance there, though it sees the new lava?

`runs.validity --env Lava` found an AUROC of .43 where the rivers of lava are rotated. Two causes
are told apart. Place: the walls tell where in the room the agent is, and fear learned which places
were dangerous. Then a fear that sees the walls alone (`place`) is as bad, and one that sees only
lava, relative to itself, or only its neighbourhood (`lava`, `near`, `adjacent`), is above chance.
Company: where the agent is stuck beside lava until time is up, calm steps are those close to lava,
and a fear that sees it rightly ranks them above the steps before a harm. Then even the distance to
the nearest lava (`nearness`, nothing learned) is below chance over all steps, and all are above
chance within the episodes that end in harm. Fears learn beside one agent, without effect on it.

Declared: in lava_moves, near less fear over all steps (place), and fear within harmed episodes less
.5 (company); paired by seed, Holm over the two. What would refute both: near no better than fear,
and fear at or below chance within harmed episodes. An interrupted run is resumed by the same
command.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from runs.analysis import stats
from runs.cli.settings import (
    StudySettings,
    check_not_negative,
    check_recordable,
    check_seeds,
    run_main,
)
from runs.cli.study import Job, run_study
from runs.report.page import Page, markdown_table, page_text

COMMAND = "python -m runs.lava_fear"
MOVED = "lava_moves"
NOTE = (
    "AUROC of harm within ten steps, at every step that did not end its episode: over all steps, "
    "and over those of episodes that end in harm. `idle`: mean signal over calm steps of episodes "
    "that run out of time less that before a harm, in standard deviations. Means over seeds, t "
    "intervals at 95 %."
)


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the study.

    Attributes:
        seeds: training runs, at least 3.
        steps: environment steps a seed; 0 for 300,000, those of the recorded validity.
        base: seed of all seeds: claims use 0, pilots another.
    """

    seeds: int = 20
    steps: int = 0
    base: int = 0


def main(argv: list[str]) -> int:
    """Run the study -> exit code."""
    return run_study(argv, COMMAND, __doc__, Settings, check, study)


def check(settings: Settings) -> None:
    """Check the settings as far as that needs no jax.

    Raises:
        UserError: for a number out of range, or `record` of a smoke run.
    """
    check_seeds(settings)
    check_not_negative(settings, "steps")
    check_recordable(settings)


def study(job: Job) -> Page:
    """Train, measure and report."""
    from runs.lava_fear_run import SHIFTS, LavaRun, make_design
    from runs.study_run import finite_seeds

    design = make_design(job.settings)
    with LavaRun(design, job) as run:
        rows = finite_seeds(run.run())
    names = [*design.blend.names, "nearness"]
    tables = [f"## {shift}\n\n{rank_table(of_shift(rows, shift), names)}" for shift in SHIFTS]
    sections = [
        finding(of_shift(rows, MOVED)),
        *tables,
        NOTE,
        f"{design.config.seeds} seeds x {design.config.steps:,} steps, {design.config.episodes} "
        "episodes a point.",
    ]
    text = page_text("Lava: what a fear sees", sections, job.command)
    return Page("lava_fear", text, tables={"": rows.to_csv(index=False)})


# --- results ----------------------------------------------------------------------------------


def of_shift(rows: Any, shift: str) -> dict[str, np.ndarray]:
    """Measures [S] of one shift by name."""
    table = rows[rows["shift"] == shift].drop(columns=["shift", "seed", "alive"])
    return {name: table[name].to_numpy(float) for name in table}


def finding(measures: dict[str, np.ndarray]) -> str:
    """One sentence with the two declared contrasts."""
    pairs = {
        "place": measures["near"] - measures["fear"],
        "company": measures["fear/harmed"] - 0.5,
    }
    finite = {name: x[np.isfinite(x)] for name, x in pairs.items()}
    if min(map(len, finite.values())) < stats.FEWEST:
        return (
            "Too few seeds have both calm and dangerous steps, over all and within the episodes "
            "that end in harm, to tell why fear is below chance where lava moves."
        )
    p = stats.holm({name: stats.p_paired(x, 0 * x) for name, x in finite.items()})
    place, company = (f"{stats.mean(x)} (p {p[name]:.2g})" for name, x in finite.items())
    return (
        f"Where lava moves, a fear that sees only its neighbourhood is better than one that sees "
        f"the room by {place}, and fear is above chance within the episodes that end in harm by "
        f"{company}; {stats.nan_mean(measures['late']):.0%} of the calm steps are of episodes that "
        "run out of time."
    )


def rank_table(measures: dict[str, np.ndarray], names: list[str]) -> str:
    """Table with a row per signal."""
    rows = [
        [name, *(f"{stats.nan_estimate(measures[name + end]):.3f}" for end in ("", "/harmed"))]
        + [f"{stats.nan_mean(measures[name + '/idle']):+.2f}"]
        for name in names
    ]
    return markdown_table(["signal", "all steps", "episodes that end in harm", "idle"], rows)


if __name__ == "__main__":
    run_main(main)
