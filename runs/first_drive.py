"""Learning to drive: which heads speed up learning, and which raise success under shift?

Every arm of `runs.compare` learns to drive in light traffic, in `Drive`, where most agents learn to
arrive, and in `Timid`, where agents learn to brake and never arrive unless they explore. It is then
scored under shift: cones, ice, fog, aggressive drivers and more. Learning time is counted in hours
driven (5 steps per second); failures are split into crashes and episodes that never arrive. A
head's effect is that of the head beside a constant +(1 - gamma), less that of the constant alone.
The same command resumes an interrupted run; both worlds are studies of `runs.compare`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs.analysis import stats
from runs.analysis.contrasts import (
    compared_heads,
    contrast_sentence,
    head_contrasts,
    potential_sentence,
)
from runs.analysis.scores import seed_means
from runs.cli.settings import StudySettings, run_main, shared_settings
from runs.cli.settings import check as check_shared
from runs.cli.study import Job, claimed_folder, run_study
from runs.compare import COMMAND as COMPARE
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import make_experiment
from runs.names import CONSTANT_POTENTIAL
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_means, new_figure, save_figure, save_with_legend

if TYPE_CHECKING:
    from pandas import DataFrame

    from runs.result import Result

COMMAND = "python -m runs.first_drive"
WORLDS = ("Drive", "Timid")
STEPS_AN_HOUR = 5 * 3600
LEARNED = 0.5  # share of a chunk's episodes that arrive
CONTROLS = ("_sham", "_untrained", "_constant", "lesion")  # not drawn as curves, nor potentials
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")
OUTCOMES = {"arrives": "#4c9f70", "never arrives": "#b9bec7", "crashes": "#c8553d"}


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the study.

    Attributes:
        heads: names of the heads to study; their controls are added.
        seeds: training runs per arm, at least 3.
    """

    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 20


def check(settings: Settings) -> None:
    """Reject invalid settings, as `runs.compare` does, without importing jax."""
    check_shared(settings)
    check_comparison(shared_settings(Comparison, settings, env=WORLDS[0]))


def study(job: Job) -> Page:
    """Run the comparison in both worlds and contrast the heads -> page."""
    from runs.result import Result

    parts = {
        world: shared_settings(Comparison, job.settings, env=world, out=None) for world in WORLDS
    }
    experiments = {world: make_experiment(part) for world, part in parts.items()}
    job.progress.total = sum(experiment.units for experiment in experiments.values())
    results, units = {}, 0
    for world, experiment in experiments.items():
        with claimed_folder(parts[world], COMPARE) as out:
            experiment.run_arms(out, job.progress, job.stopped, units)
        results[world] = Result(experiment, out)
        units += experiment.units
    return page(results, job.command)


# --- results --------------------------------------------------------------------------------------


def outcomes(scores: "DataFrame") -> "DataFrame":
    """Score rows with a column per outcome, shares of episodes that sum to 1."""
    late = (1 - scores["success"] - scores["harm"]).clip(lower=0)
    columns = {"arrives": scores["success"], "never arrives": late, "crashes": scores["harm"]}
    return scores.assign(**columns)


def hours_until(curve: "DataFrame") -> float:
    """Hours until arrivals [hours, seeds] reach LEARNED, median; infinite if half never do."""
    return stats.median_time(curve.to_numpy().T, LEARNED, curve.index.to_numpy())


def arrival_curves(curves: "DataFrame") -> dict[str, "DataFrame"]:
    """Share of arrivals [hours, seeds] of each arm."""
    curves = curves.assign(hours=curves["step"] / STEPS_AN_HOUR)
    by_arm = curves.groupby("arm", sort=False)
    columns = {"index": "hours", "columns": "seed", "values": "success"}
    return {arm: rows.pivot(**columns) for arm, rows in by_arm}


def page(results: Mapping[str, "Result"], command: str) -> Page:
    """Contrasts of the heads, a table and figures for each world."""
    success = {world: seed_means(result.rows("dev")) for world, result in results.items()}
    contrasts = head_contrasts(success, compared_heads(success[WORLDS[0]]))
    headings = ("world", "head", "constant + head less constant", "p (Holm)")
    headings += ("head less its sham", "head less its untrained control")
    shaped = [row for row in contrasts if row.over_potential is not None]
    headings += ("constant + head less constant + best constant potential",) if shaped else ()
    rows = [
        [row.env, row.head, f"{row.on_constant:+.3f}", f"{row.p_value:.3f}"]
        + [f"{row.over_sham:+.3f}", f"{row.over_untrained:+.3f}"]
        + [f"{row.over_potential:+.3f} ({row.potential})" for _ in (1,) if row in shaped]
        for row in contrasts
    ]
    sentences = f"{contrast_sentence(contrasts)} {potential_sentence(contrasts)}".strip()
    sections = [sentences, markdown_table(headings, rows)]
    sections += [world_section(world, result) for world, result in results.items()]
    figures: dict[str, Any] = {"": partial(draw_curves, results)}
    for world, result in results.items():
        figures[f"-{world}"] = partial(draw_outcomes, world, result.scores)
    text = page_text("Learning to drive", [*sections, LEGEND], command)
    return Page("first_drive", text, figures)


LEGEND = (
    "Success is arriving. Per-seed means first; t and Welch intervals at 95 %. The first table's "
    "contrasts were declared, and its p-values are Holm-adjusted over all its rows; the others are "
    "not adjusted. An untrained head has random frozen weights: a gain that it has as well is not "
    "due to what the head learned. A lesioned head trains and pays nothing: the agent is that of "
    "`none`, bit for bit."
)


def world_section(world: str, result: "Result") -> str:
    """Table of all arms in one world, with the sizes of the study."""
    rows, curves = result.rows("dev"), arrival_curves(result.curves)
    away, crashes = seed_means(rows), seed_means(rows, score="harm")
    home, cells = seed_means(rows, home=True), []
    for arm, scores in away.items():
        hours, crash = hours_until(curves[arm]), crashes[arm].mean()
        gain = stats.difference(scores, away["none"])
        cells.append(
            [arm, f"{hours:.1f}" if hours < 1e9 else "never", f"{home[arm].mean():.3f}"]
            + [f"{stats.mean(scores):.3f}", f"{crash:.3f}", f"{1 - scores.mean() - crash:.3f}"]
            + ["-" if arm == "none" else f"{gain:+.3f}"]
        )
    headings = ("arm", "hours until half arrive", "at home", "over shifts", "crashes")
    table = markdown_table((*headings, "never arrive", "difference to none"), cells)
    run_config, points = result.experiment.run_config, result.experiment.split("dev").points()
    sizes = (
        f"{len(cells)} arms, {run_config.seeds} seeds each, {run_config.steps:,} steps "
        f"({run_config.steps / STEPS_AN_HOUR:.0f} hours driven) a seed, {run_config.episodes} "
        f"episodes at each of {len(points) - 1} shifted points."
    )
    return f"## {world}\n\n{table}\n\n{sizes}"


# --- figures --------------------------------------------------------------------------------------


def draw_curves(results: Mapping[str, "Result"], path: Path) -> None:
    """Draw learning curves by hours driven, and every arm's success under shift, per world."""
    figure, axes = new_figure(2, len(results), (5.6 * len(results), 9.5), height_ratios=(1, 1.5))
    for (world, result), (upper, lower) in zip(results.items(), axes.T, strict=True):
        curves, away = arrival_curves(result.curves), seed_means(result.rows("dev"))
        shown = [
            arm
            for arm in curves
            if not arm.endswith(CONTROLS) and not arm.startswith(CONSTANT_POTENTIAL)
        ]
        for i, arm in enumerate(shown):
            curve, colour = curves[arm], COLOURS[i % len(COLOURS)]
            draw_means(upper, curve.index, curve.to_numpy().T, arm, colour)
        upper.set(title=world, xlabel="hours driven", ylabel="share that arrives", ylim=(0, 1))
        upper.legend(frameon=False, fontsize=8)
        for y, (arm, scores) in enumerate(reversed(away.items())):
            mean = stats.mean(scores)
            colour = COLOURS[shown.index(arm) % len(COLOURS)] if arm in shown else "#8a8f98"
            lower.plot([mean.low, mean.high], [y, y], color=colour, linewidth=2)
            lower.plot(mean.value, y, "o", color=colour, markersize=5)
        lower.axvline(away["none"].mean(), color="#c9ccd1", linewidth=1, zorder=0)
        names = list(reversed(away))
        lower.set(yticks=range(len(names)), yticklabels=names, xlabel="success over shifts (95 %)")
    save_figure(figure, path)


def draw_outcomes(world: str, scores: "DataFrame", path: Path) -> None:
    """Draw shares of arrivals, crashes and late episodes by severity, arms x shifts."""
    import pandas as pd

    names = list(OUTCOMES)
    means = outcomes(scores).groupby(["arm", "shift", "severity"], sort=False)[names].mean()
    arms, shifts = (list(dict.fromkeys(scores[name])) for name in ("arm", "shift"))
    shifts = [shift for shift in shifts if shift != "none"]
    size = (0.95 * len(shifts) + 1.6, 0.62 * len(arms) + 1.2)
    figure, axes = new_figure(len(arms), len(shifts), size)  # sharing takes minutes of so many
    for arm, row in zip(arms, axes, strict=True):
        for shift, axis in zip(shifts, row, strict=True):
            curve = pd.concat([means.loc[arm].loc[place] for place in ("none", shift)])
            colours = list(OUTCOMES.values())
            axis.stackplot(curve.index, curve.to_numpy().T, colors=colours, labels=names)
            axis.set(xticks=[], yticks=[], xlim=(0, curve.index.max()), ylim=(0, 1))
            axis.spines[:].set_visible(False)
            if arm == arms[0]:
                axis.set_title(shift.replace("|", "\n| "), fontsize=8)
        row[0].set_ylabel(arm, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(f"{world}: outcome by severity, 0 to 1 from left to right", fontsize=10)
    save_with_legend(figure, path, columns=3, loc="outside lower center")


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
