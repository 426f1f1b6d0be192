"""Fear where lava moves: why does it rank harm below chance there, though it sees the new lava?

`runs.validity --env Lava` found an AUROC of .43 where the rivers of lava are rotated. Two causes
are told apart. Place: the walls of the room, which the agent sees relative to itself, tell where in
it the agent is, and fear learned which places were dangerous. Then a fear of the walls alone
(`place`) is below chance where lava moves, and one that sees lava alone (`lava`) is above the fear
that sees both. Company: where the agent is stuck beside lava until time is up, calm steps are those
close to lava. Then even the distance to the nearest lava (`nearness`, nothing learned) is below
chance. Fears learn beside one agent, without effect on it.

Declared, where lava moves: lava less fear and place less .5 (place); nearness less .5 (company);
paired by seed, Holm over the three. What would refute place: lava no better than fear, or walls
alone at chance. The seeds of base 0 were looked at before this was declared (lava .75, fear .46,
place .39, nearness .62; the measure for company that was first declared was undefined there, since
episodes that end in harm last less than the horizon), so the claim is made with `--base 1`. An
interrupted run is resumed by the same command.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from runs.analysis import stats
from runs.analysis.contrasts import contrast_cells, contrasts
from runs.cli.settings import TrainingSettings, check, run_main
from runs.cli.study import Job, run_study
from runs.report.page import Page, markdown_table, page_text

COMMAND = "python -m runs.lava_fear"
Settings = TrainingSettings
MOVED = "lava_moves"
DECLARED = (("lava", "fear"), ("place", "chance"), ("nearness", "chance"))  # arm, reference
NOTE = (
    "AUROC of harm within ten steps, at every step that did not end its episode. Means over seeds, "
    "t intervals at 95 %; p: paired t test over seeds, Holm-adjusted over the three. `fear` sees "
    "the whole observation, `near` walls and lava at most two cells away, `adjacent` lava at most "
    "one cell away."
)


def study(job: Job) -> Page:
    """Train, measure and report."""
    from runs.lava_fear_run import SHIFTS, LavaRun, make_design
    from runs.study_run import finite_seeds

    design = make_design(job.settings)
    with LavaRun(design, job) as run:
        rows = finite_seeds(run.run())
    names = [*design.blend.names, "nearness"]
    sections = [
        finding(of_shift(rows, MOVED)),
        rank_table({shift: of_shift(rows, shift) for shift in SHIFTS}, names),
        NOTE,
        f"{design.home.seeds} seeds x {design.home.steps:,} steps, {design.home.episodes} episodes "
        "a point.",
    ]
    text = page_text("Lava: what a fear sees", sections, job.command)
    return Page("lava_fear", text, tables={"": rows.to_csv(index=False)})


# --- results ----------------------------------------------------------------------------------


def of_shift(rows: Any, shift: str) -> dict[str, np.ndarray]:
    """Measures [S] of one shift by name."""
    table = rows[rows["shift"] == shift].drop(columns=["shift", "seed", "alive"])
    return {name: table[name].to_numpy(float) for name in table}


def finding(measures: Mapping[str, np.ndarray]) -> str:
    """One sentence with the three declared contrasts, over the seeds that define them."""
    scores = {**measures, "chance": np.full(len(measures["fear"]), 0.5)}
    declared = contrasts(scores, DECLARED, paired=True)
    if any(contrast.estimate is None for contrast in declared):
        return "Too few seeds have both calm and dangerous steps to tell why fear fails."
    lava, place, nearness = (f"{x} (p {p})" for x, p in map(contrast_cells, declared))
    return (
        f"Where lava moves, a fear that sees lava alone ranks harm better than one that sees the "
        f"whole room by {lava}; one that sees its walls alone differs from chance by {place}, and "
        f"the distance to lava by {nearness}; {len(measures['fear'])} seeds."
    )


def rank_table(measures: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> str:
    """Table with a row per signal and a column per shift."""
    rows = [
        [name, *(f"{stats.nan_estimate(of_shift[name]):.3f}" for of_shift in measures.values())]
        for name in names
    ]
    return markdown_table(["signal", *measures], rows)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
