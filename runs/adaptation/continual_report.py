"""Contrasts, page and figure of the results along a stream of worlds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runs.adaptation import transfer_metrics
from runs.adaptation.continual_stream import HOME, StreamResult, StreamWorlds
from runs.adaptation.reward_arms import CONTINUAL_CONTROLS as CONTROLS
from runs.adaptation.reward_arms import TESTED
from runs.analysis import stats
from runs.analysis.stats import Estimate

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


class ScheduleContrast(NamedTuple):
    """Hope - fear less the best control after the second visit, under one task-reward schedule.

    Attributes:
        schedule: of the task reward.
        control: the best of CONTROLS there, chosen on these seeds, which favours it.
        gain: of hope - fear over it, paired by seed.
        p_value: of the gain, Holm-adjusted over the schedules.
        first_control: the best of CONTROLS at the end of the first visit; exploratory.
        first_gain: of hope - fear over that one, at the end of the first visit.
    """

    schedule: str
    control: str
    gain: Estimate
    p_value: float
    first_control: str
    first_gain: Estimate


def finite_scores(
    results: Mapping[str, StreamResult], metric: str, evals: int
) -> dict[str, np.ndarray]:
    """Scores R [S', T + 1, W] by arm at stage ends, for seeds that are finite in all arms."""
    finite = np.all([result.finite for result in results.values()], axis=0)
    return {arm: result.scores[metric][finite, ::evals] for arm, result in results.items()}


def contrasts(
    scores: Mapping[str, Mapping[str, np.ndarray]], stages: Sequence[int]
) -> list[ScheduleContrast]:
    """The declared contrasts, one for each schedule of the task reward.

    Args:
        scores: schedule -> arm -> R [S, T + 1, W].
        stages: the stream.
    """
    rows, p_values = [], {}
    for schedule, arms in scores.items():
        visits = {arm: transfer_metrics.revisit_scores(r, stages) for arm, r in arms.items()}
        first, second = ({a: v[when] for a, v in visits.items()} for when in ("first", "second"))
        control, first_control = best_control(second), best_control(first)
        p_values[schedule] = _p_value(second[TESTED] - second[control])
        gain = stats.paired(second[TESTED], second[control])
        first_gain = stats.paired(first[TESTED], first[first_control])
        rows.append(ScheduleContrast(schedule, control, gain, 1.0, first_control, first_gain))
    adjusted = stats.holm(p_values)
    return [row._replace(p_value=adjusted[row.schedule]) for row in rows]


def best_control(scores: Mapping[str, np.ndarray]) -> str:
    """The control with the highest mean of its scores [S]."""
    return max((arm for arm in CONTROLS if arm in scores), key=lambda arm: scores[arm].mean())


def finding(rows: Sequence[ScheduleContrast], world: str, seeds: int) -> str:
    """One sentence with the contrast of each schedule and its verdict."""
    clauses = []
    for row in rows:
        verb = "is not told apart from"
        if row.p_value < 0.05:
            verb = "gains over" if row.gain.value > 0 else "loses to"
        clauses.append(
            f"{SCHEDULE_TEXTS[row.schedule]} it {verb} {row.control} ({row.gain}; first visit: "
            f"{row.first_gain} over {row.first_control})"
        )
    return (
        f"After the second visit to {world}, hope - fear against the best of {len(CONTROLS)} "
        f"controls: {'; '.join(clauses)}; {seeds} seeds, paired."
    )


def markdown(
    results: Mapping[str, Mapping[str, StreamResult]],
    worlds: StreamWorlds,
    metric: str,
    evals: int,
    about: Sequence[str],
) -> str:
    """Page in Markdown: the finding, a table for each schedule, what was run."""
    scores = {schedule: finite_scores(arms, metric, evals) for schedule, arms in results.items()}
    rows = contrasts(scores, worlds.stages)
    world = worlds.names[worlds.stages[transfer_metrics.last_return(worlds.stages)[1]]]
    seeds = min(len(arm_scores) for arms in scores.values() for arm_scores in arms.values())
    lines = [
        "task reward | hope - fear less the best control | control | p (Holm) | "
        "at the first visit, exploratory | the best control then",
        "--- | --- | --- | --- | --- | ---",
    ]
    lines += [
        f"{row.schedule} | {row.gain} | {row.control} | {row.p_value:.3f} | {row.first_gain} | "
        f"{row.first_control}"
        for row in rows
    ]
    body = [
        "# Continual learning in changing worlds",
        finding(rows, world, seeds),
        "\n".join(lines),
    ]
    for schedule, arms in scores.items():
        body += [f"## Task reward: {schedule}", table(arms, results[schedule], worlds, world)]
    stages = ", ".join(worlds.names[w] for w in worlds.stages)
    non_finite = sum(int((~r.finite).sum()) for arms in results.values() for r in arms.values())
    body += [
        LEGEND.format(stream=stages, world=world, metric=metric),
        f"Runs with non-finite numbers: {non_finite}.",
        *about,
    ]
    return "\n\n".join(body) + "\n"


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


def table(
    arms: Mapping[str, np.ndarray],
    results: Mapping[str, StreamResult],
    worlds: StreamWorlds,
    world: str,
) -> str:
    """Table with a row an arm: the metrics of `runs.adaptation.transfer_metrics`."""
    stages, column = worlds.stages, worlds.names.index(world)
    visits = ("fresh", "first", "kept", "second")
    heads = ("arm", "in world", "home at the end", *visits, "second less first")
    heads += ("hope_fear less this", "harm", "late", "BWT", "FWT", "lost in last")
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    tested = transfer_metrics.revisit_scores(arms[TESTED], stages)["second"]
    for arm, arm_scores in arms.items():
        visit_scores = transfer_metrics.revisit_scores(arm_scores, stages)
        harm = results[arm].scores["harm"][results[arm].finite, -1, column].mean()
        late = 1 - harm - results[arm].scores["success"][results[arm].finite, -1, column].mean()
        cells = [
            arm,
            _mean_and_half(transfer_metrics.score_on_leaving(arm_scores, stages)),
            _mean_and_half(arm_scores[:, -1, 0]),
        ]
        cells += [_mean_and_half(visit_scores[name]) for name in visits]
        cells += [_mean_and_half(visit_scores["second"] - visit_scores["first"], "+.3f")]
        cells += ["-" if arm == TESTED else f"{stats.paired(tested, visit_scores['second'])}"]
        cells += [f"{x:.2f}" if np.isfinite(x) else "-" for x in (harm, late)]
        measures = (
            transfer_metrics.backward_transfer,
            transfer_metrics.forward_transfer,
            transfer_metrics.loss_in_previous,
        )
        cells += [_mean_and_half(measure(arm_scores, stages), "+.3f") for measure in measures]
        lines.append(" | ".join(cells))
    return "\n".join(lines)


def figure(
    results: Mapping[str, Mapping[str, StreamResult]],
    worlds: StreamWorlds,
    metric: str,
    evals: int,
    steps: int,
    path: Path,
) -> None:
    """Plot scores along the stream: a row a schedule, a column a world, a line an arm.

    Arms of COLOURS have a colour each, all others are grey and behind them.

    Args:
        results: schedule -> arm -> its result.
        worlds: of the stream.
        metric: the score.
        evals: in a stage.
        steps: environment steps between two evaluations.
        path: of the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    down, across = len(results), len(worlds.names)
    size = (2.9 * across + 0.4, 2.1 * down + 1.1)
    sheet, panels = plt.subplots(
        down, across, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for row, (schedule, arms) in zip(panels, results.items(), strict=True):
        for w, panel in enumerate(row):
            _shade_stages(panel, worlds, w, evals * steps, top=panel in panels[0])
            for arm in sorted(arms, key=_zorder):
                values = arms[arm].scores[metric][arms[arm].finite, :, w]
                x = steps * np.arange(values.shape[1])
                colour, label = COLOURS.get(arm, OTHERS), arm if arm in COLOURS else "other arms"
                bold = 2.2 if arm == TESTED else 1.1
                panel.plot(x, values.mean(0), lw=bold, color=colour, label=label)
                if arm in (TESTED, "plain") and len(values) >= stats.FEWEST:
                    band = [stats.mean(values[:, m]) for m in range(values.shape[1])]
                    low, high = [mean.low for mean in band], [mean.high for mean in band]
                    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.spines[["top", "right"]].set_visible(False)
            if metric == "success":
                panel.set_ylim(-0.03, 1.03)
        row[0].set_ylabel(f"{metric}, task reward {schedule}")
    sheet.supxlabel(
        "environment steps after home training; shaded: trained in this world", fontsize=10
    )
    legend: dict[str, object] = {}
    for panel in panels.flat:
        handles, labels = panel.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True))
    sheet.legend(legend.values(), legend, loc="outside upper center", ncol=5, frameon=False)
    sheet.savefig(path, dpi=110)
    plt.close(sheet)


def _zorder(arm: str) -> int:
    """Drawing order of an arm; higher is further in front."""
    return list(COLOURS).index(arm) if arm in COLOURS else -1


def _shade_stages(panel, worlds: StreamWorlds, column: int, stage: int, top: bool) -> None:
    """Shade the stages that train in a column's world; set the column's title."""
    for i, world in enumerate(worlds.stages):
        panel.axvline(i * stage, color="#d5d9df", lw=0.6, zorder=0)
        if world == column:
            panel.axvspan(i * stage, (i + 1) * stage, color="#f2e3c6", zorder=0, linewidth=0)
    if top:
        name = worlds.names[column]
        panel.set_title(name if name == HOME else f"in {name}", fontsize=10)


def _mean_and_half(values: np.ndarray, spec: str = ".3f") -> str:
    """Mean and half the width of its t interval, from per-seed values [S]."""
    mean = stats.mean(values)
    return f"{mean.value:{spec}} ±{mean.high - mean.value:.3f}"


def _p_value(gains: np.ndarray) -> float:
    """P-value of the paired t test of gains [S] against 0; 1 where all of them are 0."""
    from scipy.stats import ttest_1samp

    if np.ptp(gains) == 0:
        return float(gains[0] == 0)
    return float(ttest_1samp(gains, 0.0).pvalue)
