"""Care: does a reward for a partner's bodily state keep alive partners that the agent never met?

In Share two bodies forage and may give each other food. An agent is trained beside a partner that
cannot forage and lives on gifts, and then acts, frozen, with partners that it never met: peers that
feed themselves and give, one that acts at random, one that gives nothing back, two trained
policies, bodies with a greater need, and an agent of its own arm (two carers). Arms: none; care,
the drive reduction of the other's body (`Care(Homeostasis)`), by weight; care by a learned fear of
starving, applied to what the other observes, of 4, 16 and 64 units; told what the other wants (its
reward less its death); prosocial reward (the sum of both); inequity aversion (Hughes et al., 2018).
Controls: another pair's need (sham), observations of the other in a wrong order (scrambled), an
untrained fear, constants.

The world was mended first: among the suite's own partners of training, which feed themselves, no
arm gave more than .14 gifts an episode (five seeds of base 1), so nothing could be told apart.

Stated before the run. Mechanism: what the agent's own circuit says of the other holds whoever the
other is, so it gives to who needs it, and to strangers; without it an agent gives only since the
death of the other ends its own meals. Primary, paired by seed: share of episodes in which both live
to the end, as either's death ends one, mean over places with partners never met, care at weight 1
less none; Holm over the rivals. Secondary: the rate of gifts to the needy less that to the full;
what is given to one that gives nothing back, and own survival there; widths.

What would refute it: care at or below none, its sham or the scrambled one; or gifts to everybody
alike. That being told does as well is no refutation: care needs not to be told. The exact optimum
for two bodies is in FoodShare (`runs.targets`, T7). An interrupted run is resumed by the same
command.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.analysis import stats
from runs.analysis.contrasts import Contrast, contrast_cells, rival_contrasts
from runs.cli.settings import TrainingSettings, check, run_main
from runs.cli.study import Job, run_study
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import new_figure, save_figure

COMMAND = "python -m runs.care"
Settings = TrainingSettings
TESTED, CONTROL = "care_1", "none"
RIVALS = (
    *("none", "explicit", "prosocial", "inequity", "sham", "scrambled", "untrained"),
    *("constant_plus", "constant_minus"),
)
HOME, UNFAIR = "home", "nothing_back"
NOTE = (
    "Shares of episodes in which both live to the end, the agent does not starve, and the other "
    "does not (the death of one ends an episode, before the other's), mean over places with "
    "partners never met. `gifts`: an episode. `to needy`, `to full`: share of the chances to give "
    "that are taken while the other has at most half of its energy, and more. `unfair`: gifts to a "
    "partner that gives nothing back, and own survival there. p of care_1 less each rival in the "
    "survival of both, paired t test over seeds, Holm-adjusted. Means over seeds, t intervals at "
    "95 %."
)


def study(job: Job) -> Page:
    """Train and measure all arms, and report."""
    from runs.care_run import CareRun, make_design
    from runs.study_run import finite_seeds

    design = make_design(job.settings)
    with CareRun(design, job) as run:
        rows, places = finite_seeds(run.run()), run.places[1:]
    measures = arm_measures(rows, places)
    config = design.config
    sections = [
        finding(measures),
        "![Survival and gifts](care.png)",
        arm_table(measures),
        "## Survival of both by place",
        place_table(rows, (HOME, *places)),
        NOTE,
        f"{config.seeds} seeds x {config.steps:,} steps, {config.episodes} episodes a place.",
    ]
    text = page_text("Care for partners never met", sections, job.command)
    draw = partial(draw_arms, measures)
    return Page("care", text, {"": draw}, tables={"": rows.to_csv(index=False)})


# --- results ----------------------------------------------------------------------------------

Measures = Mapping[str, Mapping[str, np.ndarray]]  # arm -> measure -> [S]


def arm_measures(rows: Any, places: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Measures [S] of each arm, means over places; `unfair_` of the one that gives nothing back."""
    result = {}
    for arm, of_arm in rows.groupby("arm", sort=False):
        strangers = of_arm[of_arm["place"].isin(places)]
        names = ["own", "other", "both", "gifts", "needy", "full"]
        means = strangers.groupby("seed")[names].mean()
        unfair = of_arm[of_arm["place"] == UNFAIR].groupby("seed")[["gifts", "own"]].mean()
        result[str(arm)] = {name: means[name].to_numpy(float) for name in names} | {
            f"unfair_{name}": unfair[name].to_numpy(float) for name in ("gifts", "own")
        }
    return result


def care_contrasts(measures: Measures) -> dict[str, Contrast]:
    """Survival of both, TESTED less each rival, paired by seed."""
    return rival_contrasts({arm: x["both"] for arm, x in measures.items()}, TESTED, RIVALS)


def selectivity(measures: Mapping[str, np.ndarray]) -> stats.Estimate:
    """Rate of gifts to the needy less that to the full, over seeds that had chances of both."""
    return stats.nan_estimate(measures["needy"] - measures["full"])


def finding(measures: Measures) -> str:
    """One sentence with the declared contrast, the best rival, and selectivity."""
    contrasts = care_contrasts(measures)
    verb = contrasts[CONTROL].verdict("keeps more strangers alive than", "loses to")
    difference, p = contrast_cells(contrasts[CONTROL])
    best = max(RIVALS, key=lambda name: measures[name]["both"].mean())
    return (
        f"Care by one's own circuits {verb} no care: survival of both {difference}, "
        f"{len(measures[TESTED]['both'])} seeds, p {p}; less the best rival, {best}: "
        f"{contrasts[best].estimate}; gifts to the needy less those to the full: "
        f"{selectivity(measures[TESTED])}."
    )


def arm_table(measures: Measures) -> str:
    """Table with a row per arm."""
    contrasts, rows = care_contrasts(measures), []
    for arm, values in measures.items():
        cells = [arm, f"{stats.mean(values['both']):.3f}"]
        cells += [f"{values[name].mean():.3f}" for name in ("own", "other")]
        cells += [f"{stats.nan_mean(values[name]):.2f}" for name in ("gifts", "needy", "full")]
        cells += [f"{values['unfair_gifts'].mean():.2f}, {values['unfair_own'].mean():.2f}"]
        rows.append([*cells, *contrast_cells(contrasts.get(arm))])
    headings = ["arm", "both", "own", "other", "gifts", "to needy", "to full", "unfair"]
    return markdown_table([*headings, "care_1 less it", "p"], rows)


def place_table(rows: Any, places: Sequence[str]) -> str:
    """Table of the survival of both, a row per arm and a column per place."""
    table = rows.groupby(["arm", "place"], sort=False)["both"].mean().unstack()
    cells = [
        [str(arm), *(f"{row[place]:.2f}" for place in places)] for arm, row in table.iterrows()
    ]
    return markdown_table(["arm", *places], cells)


def draw_arms(measures: Measures, path: Path) -> None:
    """Draw the survival of both and of the agent by arm, and gifts to the needy and the full."""
    figure, axes = new_figure(1, 2, (8.5, 0.32 * len(measures) + 1.2), sharey=True)
    panels = (
        ("survival with partners never met", (("both", "#c8322b"), ("own", "#8b929c"))),
        ("share of chances to give that are taken", (("needy", "#c8322b"), ("full", "#8b929c"))),
    )
    labels = {"both": "both", "own": "the agent", "needy": "to the needy", "full": "to the full"}
    for axis, (title, columns) in zip(axes[0], panels, strict=True):
        for name, colour in columns:
            bounds = [stats.nan_estimate(values[name]) for values in measures.values()]
            middle, low, high = np.array(bounds).T
            y = np.arange(len(measures))
            axis.hlines(y, low, high, color=colour, alpha=0.4, linewidth=3)
            axis.plot(middle, y, "o", color=colour, label=labels[name], markersize=4)
        axis.set_yticks(range(len(measures)), list(measures))
        axis.set_title(title, fontsize=9)
        axis.legend(fontsize=8, frameon=False)
    axes[0, 0].invert_yaxis()
    save_figure(figure, path)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
