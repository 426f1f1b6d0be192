"""Page of the continual study: declared contrasts, a table of arms for each schedule, a figure."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.analysis.contrasts import contrasts
from runs.analysis.transfer_metrics import TransferMetrics, last_return, transfer_metrics
from runs.cli.study import Job
from runs.continual_stream import HOME, ContinualDesign
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_means, new_figure, save_with_legend
from runs.signal_arms import SIGNAL_CONTROLS, TESTED
from runs.study_run import finite_seeds, page_name

CONTROLS = ("frozen", "plain", "old_critic", *SIGNAL_CONTROLS)
"""Arms that hope - fear must beat, the best of them after the second visit."""
SCHEDULE_TEXTS = {
    "always": "with the task reward always on",
    "rare": "with it on in one environment of eight",
    "never": "with it off",
}
COLOURS = {
    "frozen": "#b9bec7",
    "plain": "#3c4450",
    "constant_plus": "#c9a227",
    "sham": "#a05195",
    "reward_model": "#2f7d4f",
    "classifier": "#8a6d3b",
    "fear": "#1f5fa8",
    TESTED: "#c8322b",
}
OTHERS = "#d9dde3"  # all other arms
LEGEND = (
    "Stream: {stream}, at full severity, one stage each. The first table was declared: {metric} at "
    "the end of the second visit to {world}; the control is the best of its table afterwards, "
    "which favours it (at the first visit the best then, without a p-value). "
    "`in world`: in the world of each stage, at its end, averaged. `fresh`, `first`, `kept`, "
    "`second`: in {world} before and after the first visit, and before and after the second. "
    "`harm`: share of episodes there with harm, at the very end; `late`: without harm or success. "
    "BWT, FWT: backward and forward transfer (Lopez-Paz & Ranzato, 2017), from the last visit and "
    "from the end of training at home; `lost in last`: the score that one stage lost in the world "
    "before it. Per-seed means first; t intervals at 95 %, paired where it is a difference. "
    "`hope_fear less this`: the second visit again, paired, exploratory but for the best control. "
    "frozen does not learn; plain learns from the task reward alone, with a new critic, old_critic "
    "with the one from home; constant_plus and constant_minus get +-(1 - gamma) a step; sham gets "
    "the signals of the neighbouring environment, untrained those of random frozen heads; critic "
    "gets the change in value of the critic from home; reward_model gets the task reward as a "
    "network predicts it that learned it at home, classifier the same at ends alone; unanchored "
    "are hope and fear that never learned from a terminal observation."
)

Scores = Mapping[str, Mapping[str, np.ndarray]]  # schedule -> arm -> [S, times, W]


def continual_page(design: ContinualDesign, results: pd.DataFrame, job: Job) -> Page:
    """Page of the study from the results of `StreamRun.run`.

    Raises:
        UserError: if fewer than 3 seeds are finite in every arm.
    """
    runs = results.groupby(["schedule", "arm", "seed"])["alive"].all()
    results = finite_seeds(results)
    metric = "success" if np.isfinite(results["success"]).all() else "return"
    scores = score_arrays(results, metric, design)
    evals, stages = design.further.chunks, design.stages
    metrics = {
        schedule: {arm: transfer_metrics(x[:, ::evals], stages) for arm, x in arms.items()}
        for schedule, arms in scores.items()
    }
    world = design.names[stages[last_return(stages)[1]]]
    rows = schedule_contrasts(metrics)
    sections = [finding(rows, world, results["seed"].nunique()), contrast_table(rows)]
    for schedule, arms in scores.items():
        outcomes = results[(results["schedule"] == schedule) & (results["world"] == world)]
        table = arm_table(arms, metrics[schedule], outcomes)
        sections += [f"## Task reward: {schedule}", table]
    stream = ", ".join(design.names[w] for w in stages)
    sections += [
        LEGEND.format(stream=stream, world=world, metric=metric),
        f"Runs with non-finite numbers: {int((~runs).sum())}.",
        f"{design.suite.name}: {design.home.seeds} seeds, {design.home.steps:,} steps at home, "
        f"{design.further.steps:,} in each stage, {design.home.episodes} episodes an evaluation.",
    ]
    text = page_text("Continual learning in changing worlds", sections, job.command)
    draw = partial(draw_stream, design, scores, metric)
    return Page(page_name("continual", design.suite.name), text, {"": draw})


# --- scores -----------------------------------------------------------------------------------


def score_arrays(results: pd.DataFrame, metric: str, design: ContinualDesign) -> Scores:
    """Scores of each arm under each schedule from results in the order of `StreamRun.run`."""
    shape = results["seed"].nunique(), -1, len(design.names)
    return {
        schedule: {
            arm: rows[metric].to_numpy(float).reshape(shape)
            for arm, rows in at_schedule.groupby("arm", sort=False)
        }
        for schedule, at_schedule in results.groupby("schedule", sort=False)
    }


def schedule_contrasts(metrics: Mapping[str, Mapping[str, TransferMetrics]]) -> pd.DataFrame:
    """The declared contrasts: hope - fear less the best control, a row a schedule.

    Columns: `schedule` of the task reward; `control`, the best of CONTROLS after the second visit,
    chosen on these seeds; `second`, the contrast there, paired by seed and Holm-adjusted over the
    schedules; `first_control` and `first`, the same at the end of the first visit, exploratory.

    Args:
        metrics: by schedule and arm.
    """
    second, rows = {}, []
    for schedule, arms in metrics.items():
        second |= {(schedule, arm): metric.second for arm, metric in arms.items()}
        control, first_control = best_control(arms, "second"), best_control(arms, "first")
        first = stats.paired(arms[TESTED].first, arms[first_control].first)
        rows.append((schedule, control, first_control, first))
    pairs = [((schedule, TESTED), (schedule, control)) for schedule, control, *_ in rows]
    table = pd.DataFrame(rows, columns=["schedule", "control", "first_control", "first"])
    return table.assign(second=contrasts(second, pairs, paired=True))


def best_control(arms: Mapping[str, TransferMetrics], visit: str) -> str:
    """The control with the highest mean score after a visit, "first" or "second"."""
    controls = [arm for arm in CONTROLS if arm in arms]
    return max(controls, key=lambda arm: getattr(arms[arm], visit).mean())


# --- text -------------------------------------------------------------------------------------


def finding(rows: pd.DataFrame, world: str, seeds: int) -> str:
    """One sentence with the contrast of each schedule and its verdict."""
    clauses = [
        f"{SCHEDULE_TEXTS[row.schedule]} it {row.second.verdict('gains over', 'loses to')} "
        f"{row.control} ({row.second.estimate}; first visit: {row.first} over {row.first_control})"
        for row in rows.itertuples()
    ]
    return (
        f"After the second visit to {world}, hope - fear against the best of {len(CONTROLS)} "
        f"controls: {'; '.join(clauses)}; {seeds} seeds, paired."
    )


def contrast_table(rows: pd.DataFrame) -> str:
    """Table with a row a schedule."""
    cells = [
        (r.schedule, f"{r.second.estimate}", r.control, f"{r.second.p_holm:.3f}")
        + (f"{r.first}", r.first_control)
        for r in rows.itertuples()
    ]
    headings = ("task reward", "hope - fear less the best control", "control", "p (Holm)")
    headings += ("at the first visit, exploratory", "the best control then")
    return markdown_table(headings, cells)


def arm_table(
    arms: Mapping[str, np.ndarray], metrics: Mapping[str, TransferMetrics], outcomes: pd.DataFrame
) -> str:
    """Table with a row an arm.

    Args:
        arms: scores [S, times, W] of each arm, home first.
        metrics: of each arm.
        outcomes: `harm` and `success` of each arm in the world that comes back.
    """
    headings = ("arm", "in world", "home at the end", "fresh", "first", "kept", "second")
    headings += ("second less first", "hope_fear less this", "harm", "late", "BWT", "FWT")
    at_end = outcomes[outcomes["time"] == outcomes["time"].max()]
    shares = at_end.groupby("arm")[["harm", "success"]].mean()
    rows = []
    for arm, scores in arms.items():
        metric, harm = metrics[arm], shares.loc[arm, "harm"]
        levels = metric.in_world, scores[:, -1, 0], *metric[1:5]
        gain = stats.paired(metrics[TESTED].second, metric.second)
        late = 1 - harm - shares.loc[arm, "success"]
        changes = metric.backward, metric.forward, metric.lost
        row = [arm, *map(_mean_and_half, levels)]
        row += [_mean_and_half(metric.second - metric.first, "+.3f")]
        row += ["-" if arm == TESTED else f"{gain}"]
        row += [f"{x:.2f}" if np.isfinite(x) else "-" for x in (harm, late)]
        rows.append(row + [_mean_and_half(change, "+.3f") for change in changes])
    return markdown_table((*headings, "lost in last"), rows)


def _mean_and_half(values: np.ndarray, spec: str = ".3f") -> str:
    """Mean and half the width of its t interval, from per-seed values [S]."""
    return stats.mean(values).with_half(spec)


# --- figure -----------------------------------------------------------------------------------


def draw_stream(design: ContinualDesign, scores: Scores, metric: str, path: Path) -> None:
    """Draw scores along the stream: a row a schedule, a column a world, a line an arm.

    Arms of COLOURS have a colour each, all others are grey and behind them.
    """
    size = (2.9 * len(design.names) + 0.4, 2.1 * len(scores) + 1.1)
    figure, axes = new_figure(len(scores), len(design.names), size, sharex=True, sharey=True)
    order = ["", *COLOURS]  # from back to front
    for row, (schedule, arms) in zip(axes, scores.items(), strict=True):
        for w, axis in enumerate(row):
            shade_stages(axis, design, w)
            for arm in sorted(arms, key=lambda arm: order.index(arm) if arm in order else 0):
                in_world = arms[arm][:, :, w]
                x = design.further.chunk_steps * np.arange(in_world.shape[1])
                colour, label = COLOURS.get(arm, OTHERS), arm if arm in COLOURS else "other arms"
                band, width = arm in (TESTED, "plain"), 2.2 if arm == TESTED else 1.1
                draw_means(axis, x, in_world, label, colour, band=band, lw=width)
            if metric == "success":
                axis.set_ylim(-0.03, 1.03)
        row[0].set_ylabel(f"{metric}, task reward {schedule}")
    for axis, name in zip(axes[0], design.names, strict=True):
        axis.set_title(name if name == HOME else f"in {name}", fontsize=10)
    x = "environment steps after home training; shaded: trained in this world"
    save_with_legend(figure, path, x)


def shade_stages(axis: Any, design: ContinualDesign, world: int) -> None:
    """Mark the beginnings of all stages, and shade those that train in a world."""
    steps = design.further.steps
    for i, trained_in in enumerate(design.stages):
        axis.axvline(i * steps, color="#d5d9df", lw=0.6, zorder=0)
        if trained_in == world:
            axis.axvspan(i * steps, (i + 1) * steps, color="#f2e3c6", zorder=0, linewidth=0)
