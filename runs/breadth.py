"""Breadth: for as many steps, is an agent trained in many worlds more robust than in one world?

Four ways to train for the same number of steps: narrow (home alone), noisy (home with sensor noise,
a data augmentation), broad (a box of worlds, `Suite.randomised`), curriculum (the box, ever further
from home). Each without a feeling, and with one paid as a potential: own (hope that learns in the
same life), inherited (a trained head of `affect.zoo`, 4 bits a weight in Drive, whose parents' own
experience is extra), and constant, the control of both. All are scored at home, where narrow
trained, and under every shift by severity. Then all go on in shifts that none has met, cross
traffic and ice, and the area under success there says who learns a new world faster.

Stated before the run. Mechanism: a policy of one world may rest on what holds there alone; many
worlds leave what holds in all. So broad should be better under shift and no better at home, and
learn a new shift faster; noise should help under sensor shifts alone. Primary, paired by seed, Holm
over the family: noisy, broad and curriculum less narrow, none of them with a feeling, in mean
success over shifts, and in area on the new shifts; and inherited less constant in both, narrow.

What would refute it: broad at or below narrow under shift, or an area no larger once the level at
the start is taken off. An interrupted run is resumed by the same command.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.analysis import stats
from runs.analysis.contrasts import Contrast, contrast_cells, contrasts
from runs.cli.settings import TrainingSettings, run_main
from runs.cli.settings import check_jitted as check
from runs.cli.study import Job, run_study
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_means, new_panels, save_with_legend

COMMAND = "python -m runs.breadth"
NARROW = ("narrow", "none")
COLOURS = {"narrow": "#3c4450", "noisy": "#8b929c", "broad": "#c8322b", "curriculum": "#1f5fa8"}
MEASURES = ("at home", "shifted", "worst", "area", "gain")
NOTE = (
    "`at home`: success in the world that narrow trained in. `shifted`: mean over shifts and "
    "severities; `worst`: of the worst shift at full severity. `area`: mean success in the new "
    "shifts over the training there, by the trapezoidal rule; `gain`: the same less success at its "
    "start, which is how much was learned there. Means over seeds, t intervals at 95 %; contrasts "
    "are paired by seed, p Holm-adjusted over the declared family."
)

Arm = tuple[str, str]  # diet, heads


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Settings of the study.

    Attributes:
        env: a jitted suite with a box of worlds.
        new: shifts in which all go on learning; by default cross and ice, elsewhere the first two.
        episodes: at each point; 0 for a quarter of those of runs.compare.
    """

    env: str = "Drive"
    new: tuple[str, ...] = ()
    episodes: int = 0


def study(job: Job) -> Page:
    """Train, score and continue all arms, and report."""
    from runs.breadth_run import BreadthRun, make_design
    from runs.study_run import finite_seeds, page_name

    design = make_design(job.settings)
    with BreadthRun(design, job) as run:
        scores, curves = run.run()
    scores = finite_seeds(scores)
    curves = curves[curves["seed"].isin(scores["seed"])]
    measures = arm_measures(scores, curves)
    name = page_name("breadth", design.suite.name)
    sections = [
        finding(measures, design.suite.name),
        f"![Success by severity, and in new shifts]({name}.png)",
        contrast_table(measures),
        arm_table(measures),
        NOTE,
        f"{design.suite.name}: {design.home.seeds} seeds x {design.home.steps:,} steps, "
        f"{design.further.steps:,} in each new shift, {design.home.episodes} episodes a point.",
    ]
    text = page_text(f"{design.suite.name}: narrow or broad experience", sections, job.command)
    tables = {"": scores.to_csv(index=False), "-curves": curves.to_csv(index=False)}
    draw = partial(draw_diets, design.suite.name, scores, curves)
    return Page(name, text, {"": draw}, tables=tables)


# --- results ----------------------------------------------------------------------------------


def area_over_time(success: np.ndarray) -> np.ndarray:
    """Mean of success [..., T] over evenly spaced times, by the trapezoidal rule, [...]."""
    if success.shape[-1] == 1:
        return success[..., 0]
    return np.trapezoid(success, axis=-1) / (success.shape[-1] - 1)


def arm_measures(scores: Any, curves: Any) -> dict[Arm, dict[str, np.ndarray]]:
    """MEASURES [S] of each arm."""
    measures = {}
    for arm, rows in scores.groupby(["diet", "heads"], sort=False):
        home, shifted = rows[rows["shift"] == "none"], rows[rows["shift"] != "none"]
        last = shifted[shifted["severity"] == shifted["severity"].max()]
        worst = last.groupby("shift")["success"].mean().idxmin()
        of_arm = curves[(curves["diet"] == arm[0]) & (curves["heads"] == arm[1])]
        paths = of_arm.pivot(index=["seed", "shift"], columns="time", values="success")
        paths = paths.assign(area=area_over_time(paths.to_numpy(float)), start=paths[0])
        area, start = (paths.groupby("seed")[name].mean().to_numpy() for name in ("area", "start"))
        values = (
            home.groupby("seed")["success"].mean(),
            shifted.groupby("seed")["success"].mean(),
            last[last["shift"] == worst].groupby("seed")["success"].mean(),
            area,
            area - start,
        )
        arrays = [np.asarray(x, float) for x in values]
        measures[arm] = dict(zip(MEASURES, arrays, strict=True))
    return measures


def breadth_contrasts(measures: Mapping[Arm, Mapping[str, np.ndarray]]) -> dict[str, Contrast]:
    """The declared family by label, paired by seed."""
    pairs: list[tuple[Arm, Arm]] = [
        ((diet, "none"), NARROW) for diet in ("broad", "curriculum", "noisy")
    ]
    if ("narrow", "inherited") in measures:
        pairs.append((("narrow", "inherited"), ("narrow", "constant")))
    scores = {(name, arm): x for arm, values in measures.items() for name, x in values.items()}
    family = [((name, arm), (name, other)) for name in ("shifted", "area") for arm, other in pairs]
    return {
        f"{row.arm[0]}: {', '.join(row.arm[1])} less {', '.join(row.reference[1])}": row
        for row in contrasts(scores, family, paired=True)
    }


def finding(measures: Mapping[Arm, Mapping[str, np.ndarray]], env: str) -> str:
    """One sentence: broad less narrow under shift, at home, and on new shifts."""
    family, broad = breadth_contrasts(measures), ("broad", "none")
    parts = []
    for measure, place in (("shifted", "under shift"), ("area", "while it learns new shifts")):
        estimate, p = contrast_cells(family[f"{measure}: broad, none less narrow, none"])
        parts.append(f"{place} {estimate} (p {p})")
    home = stats.paired(measures[broad]["at home"], measures[NARROW]["at home"])
    gain = stats.paired(measures[broad]["gain"], measures[NARROW]["gain"])
    return (
        f"In {env} broad experience less as much narrow experience has a success of "
        f"{', '.join(parts)}, of which learning there is {gain}, and {home} in the exam that "
        f"narrow trained for; {len(measures[broad]['area'])} seeds."
    )


def contrast_table(measures: Mapping[Arm, Mapping[str, np.ndarray]]) -> str:
    """Table of the declared contrasts."""
    rows = [[label, *contrast_cells(row)] for label, row in breadth_contrasts(measures).items()]
    return markdown_table(["declared contrast", "difference", "p"], rows)


def arm_table(measures: Mapping[Arm, Mapping[str, np.ndarray]]) -> str:
    """Table with a row per arm and a column per measure."""
    rows = [
        [*arm, *(f"{stats.mean(values[name]):.3f}" for name in MEASURES)]
        for arm, values in measures.items()
    ]
    return markdown_table(["diet", "feeling", *MEASURES], rows)


def draw_diets(env: str, scores: Any, curves: Any, path: Path) -> None:
    """Draw success by severity, and in each new shift by time, a line per diet without feeling."""
    shifts = list(dict.fromkeys(curves["shift"]))
    figure, panels = new_panels(1 + len(shifts), 3, (3.2, 2.8))
    plain = scores[scores["heads"] == "none"]
    for diet, colour in COLOURS.items():
        rows = plain[plain["diet"] == diet]
        by = rows.groupby(["seed", "severity"])["success"].mean().unstack()
        _draw(panels[0], by, diet, colour)
        for panel, shift in zip(panels[1:], shifts, strict=True):
            of_diet = curves[(curves["diet"] == diet) & (curves["heads"] == "none")]
            by = of_diet[of_diet["shift"] == shift].pivot(
                index="seed", columns="time", values="success"
            )
            _draw(panel, by, diet, colour)
            panel.set_title(f"then in {shift}", fontsize=10)
            panel.set_xlabel("evaluations", fontsize=9)
    panels[0].set_title("all shifts", fontsize=10)
    panels[0].set_xlabel("severity", fontsize=9)
    save_with_legend(figure, path, y=f"success in {env}", fontsize=9)


def _draw(panel: Any, table: Any, label: str, colour: str) -> None:
    """Draw means over seeds with their intervals from a table [seeds, x]."""
    draw_means(panel, list(table.columns), table.to_numpy(float), label, colour, lw=1.6)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
