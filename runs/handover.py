"""Hand-over: which signal tells best when an agent should be replaced by a specialist, under shift?

An agent learns at home, a fear head and the rivals beside it, without effect on it. In each shift a
specialist is trained from it. Then the agent acts there, and the specialist wherever a signal is
above its threshold. Signals: fear, minus the critic's value, the policy's entropy, one minus its
highest probability, disagreement of five fears, novelty (random network distillation), fear and
novelty in units of their deviation at home, the innate alarm, a hash of the observation (random),
an untrained fear.

Stated before the run. Mechanism: harm that is foreseen within ten steps is where the two policies
differ in outcome, so handing over there buys more success a step than handing over at random.
Primary: area under success against the share of steps handed over, thresholds by share, fear less
random, mean over shifts, paired by seed; Holm over fear less each other signal. Secondary:
thresholds from home alone, conformal quantiles of the highest signal of successful episodes
(`affect.Monitor`), so that the share of steps under shift is a result. Controls: random and
untrained; the area of no knowledge is that of a line from the agent to the specialist.

What would refute it: fear at or below random, or below entropy. A pilot had fear as the best
learned alarm in three of four shifts, and random good in one. An interrupted run is resumed by the
same command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.analysis import stats
from runs.analysis.contrasts import Contrast, contrast_cells, rival_contrasts
from runs.cli.settings import TrainingSettings, run_main
from runs.cli.settings import check_jitted as check
from runs.cli.study import Job, run_study
from runs.names import safe_name
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_means, new_panels, save_with_legend

COMMAND = "python -m runs.handover"
SHOWN = 0.9  # the quantile of the second table, of successful episodes at home
TESTED, RIVAL = "fear", "random"
COLOURS = {
    "fear": "#c8322b",
    "critic": "#3c4450",
    "entropy": "#1f5fa8",
    "uncertainty": "#7fa7d6",
    "disagreement": "#a05195",
    "novelty": "#2f7d4f",
    "fear_novelty": "#d98324",
    "innate": "#c9a227",
    "random": "#8b929c",
    "untrained": "#d3d7dd",
}
NOTE = (
    "Area: mean success over all shares of steps handed over, from 0 (the agent alone) to 1 (the "
    "specialist alone), by the trapezoidal rule between the points of the figure; thresholds are "
    "quantiles of the signal at other, unassisted episodes of the same world. `line`: the mean of "
    "agent and specialist, what a signal without knowledge gets if it costs nothing to switch. "
    "Means over seeds, t intervals at 95 %, paired where it is a difference. p: paired t test over "
    "seeds of the mean over shifts, Holm-adjusted over all rivals."
)


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Settings of the study.

    Attributes:
        env: a jitted suite with discrete actions, such as Drive or Lava.
        shifts: names of the shifts; by default four of Drive's, elsewhere all.
        episodes: at each point; 0 for 64.
    """

    narrowed_by = ("shifts",)
    env: str = "Drive"
    shifts: tuple[str, ...] = ()
    episodes: int = 0


def study(job: Job) -> Page:
    """Train, hand over and report."""
    from runs.handover_run import HandOverRun, make_design
    from runs.study_run import finite_seeds, page_name

    design = make_design(job.settings)
    with HandOverRun(design, job) as run:
        rows = run.run()
        names = run.dangers.names
    rows = finite_seeds(rows)
    shifts = [shift.name for shift in design.suite.shifts]
    curves = {shift: curve_arrays(rows[rows["shift"] == shift], names) for shift in shifts}
    areas = {name: np.stack([curves[shift][name][2] for shift in shifts], 1) for name in names}
    sections = [
        finding(areas, design.suite.name),
        f"![Success by share of steps]({page_name('handover', design.suite.name)}.png)",
        area_table(areas, curves, shifts),
        f"## Thresholds from home alone: quantile {SHOWN:g} of successful episodes",
        conformal_table(rows[(rows["kind"] == "conformal") & (rows["level"] == SHOWN)], shifts),
        NOTE,
        f"{design.suite.name}: {design.home.seeds} seeds x {design.home.steps:,} steps at home, "
        f"{design.further.steps:,} of each specialist, {design.home.episodes} episodes a point.",
    ]
    text = page_text(f"{design.suite.name}: hand-over to a specialist", sections, job.command)
    name = safe_name(page_name("handover", design.suite.name))
    draw = partial(draw_curves, design.suite.name, curves)
    return Page(name, text, {"": draw}, tables={"": rows.to_csv(index=False)})


# --- results ----------------------------------------------------------------------------------


def area_over_share(share: np.ndarray, score: np.ndarray) -> float:
    """Area under scores [N] over shares [N] in [0, 1], by the trapezoidal rule, in any order.

    The first and the last score are continued to 0 and 1; scores of one share are averaged.
    """
    order = np.argsort(share, kind="stable")
    x, first = np.unique(np.asarray(share, float)[order], return_index=True)
    counts = np.diff(np.append(first, len(order)))
    y = np.add.reduceat(np.asarray(score, float)[order], first) / counts
    x, y = np.concatenate([[0.0], x, [1.0]]), np.concatenate([y[:1], y, y[-1:]])
    return float(np.trapezoid(y, x))


def curve_arrays(rows: Any, names: Sequence[str]) -> dict[str, tuple[np.ndarray, ...]]:
    """Curves of one shift: signal -> (shares [S, N], success [S, N], area [S]), ends included."""
    ends = {kind: _by_seed(rows[rows["kind"] == kind]) for kind in ("agent", "specialist")}
    curves = {}
    for name in names:
        inner = _by_seed(rows[(rows["signal"] == name) & (rows["kind"] == "share")])
        parts = [ends["agent"], inner, ends["specialist"]]
        share, success = (np.concatenate([part[i] for part in parts], 1) for i in range(2))
        area = np.array(list(map(area_over_share, share, success)))
        curves[name] = share, success, area
    return curves


def _by_seed(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Shares and success [S, N] of rows, by seed and level."""
    tables = (rows.pivot(index="seed", columns="level", values=x) for x in ("share", "success"))
    return tuple(table.to_numpy(float) for table in tables)


def fear_contrasts(areas: Mapping[str, np.ndarray]) -> dict[str, Contrast]:
    """Area of fear less that of each other signal, mean over shifts, paired by seed."""
    means = {name: area.mean(1) for name, area in areas.items()}
    return rival_contrasts(means, TESTED, [name for name in means if name != TESTED])


def finding(areas: Mapping[str, np.ndarray], env: str) -> str:
    """One sentence with the declared contrast."""
    contrast = fear_contrasts(areas)[RIVAL]
    best = max(areas, key=lambda name: areas[name].mean())
    return (
        f"In {env} handing over by fear {contrast.verdict('buys more than', 'buys less than')} "
        f"handing over as many steps at random: success {contrast.estimate}, mean over shares and "
        f"{areas[TESTED].shape[1]} shifts, {len(areas[TESTED])} seeds, p {contrast.p_holm:.3g}; "
        f"the best signal is {best}."
    )


def area_table(
    areas: Mapping[str, np.ndarray], curves: Mapping[str, Mapping[str, Any]], shifts: Sequence[str]
) -> str:
    """Table with a row per signal: areas, and fear less it."""
    contrasts, rows = fear_contrasts(areas), []
    for name in sorted(areas, key=lambda name: -areas[name].mean()):
        cells = [name, f"{stats.mean(areas[name].mean(1)):.3f}"]
        cells += [f"{area:.3f}" for area in areas[name].mean(0)]
        rows.append([*cells, *contrast_cells(contrasts.get(name))])
    ends = [curves[shift][TESTED][1] for shift in shifts]
    lines = [(success[:, 0].mean(), success[:, -1].mean()) for success in ends]
    rows.append(["line", "", *(f"{(a + b) / 2:.3f}" for a, b in lines), "", ""])
    rows.append(["agent, specialist", "", *(f"{a:.2f}, {b:.2f}" for a, b in lines), "", ""])
    return markdown_table(["signal", "area", *shifts, "fear less it", "p"], rows)


def conformal_table(rows: Any, shifts: Sequence[str]) -> str:
    """Table of one quantile: alarms at home, and share, success and harm in each shift."""
    means = rows.groupby(["signal", "shift"], sort=False)[["share", "success", "harm", "alarmed"]]
    means, table = means.mean(), []
    for name in dict.fromkeys(rows["signal"]):
        cells = [name, f"{means.loc[(name, 'none'), 'alarmed']:.2f}"]
        cells += [f"{means.loc[(name, 'none'), 'share']:.3f}"]
        for shift in shifts:
            cell = means.loc[(name, shift)]
            cells.append(f"{cell['share']:.2f}: {cell['success']:.2f}, {cell['harm']:.2f}")
        table.append(cells)
    headings = ["signal", "successes at home with an alarm", "steps at home"]
    return markdown_table([*headings, *(f"{s}: steps, success, harm" for s in shifts)], table)


def draw_curves(env: str, curves: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw success against the share of steps handed over, a panel per shift."""
    figure, panels = new_panels(len(curves), 4, (2.9, 2.6), sharey=False)
    for panel, (shift, signals) in zip(panels, curves.items(), strict=True):
        for name, (share, success, _) in signals.items():
            options = {"lw": 2.0 if name in (TESTED, RIVAL) else 1.0, "band": name == TESTED}
            draw_means(panel, share.mean(0), success, name, COLOURS[name], **options)
        panel.set_title(shift, fontsize=10)
        panel.set_xlim(0, 1)
    save_with_legend(figure, path, "share of steps handed over", f"success in {env}")


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
