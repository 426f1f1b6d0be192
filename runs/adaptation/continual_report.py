"""What a life in a stream of worlds came to: the contrasts, a page, a figure."""

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

TERMS = {
    "always": "where the task pays",
    "rare": "where it pays one in eight",
    "never": "where nobody pays",
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
    """What hope - fear was worth on some terms, at the end of the second visit.

    Attributes:
        pay: the terms.
        control: the best of CONTROLS there, chosen on these seeds, which favours it.
        gain: of hope - fear over it, paired by seed.
        p_value: of it, Holm-adjusted over the terms.
        then: the best of CONTROLS at the end of the first visit; exploratory.
        first: the gain over that one there.
    """

    pay: str
    control: str
    gain: Estimate
    p_value: float
    then: str
    first: Estimate


def sound_scores(
    lives: Mapping[str, StreamResult], metric: str, looks: int
) -> dict[str, np.ndarray]:
    """R [S', T + 1, W] of each arm: the seeds that were sound in all arms, at ends of stages."""
    finite = np.all([lived.finite for lived in lives.values()], axis=0)
    return {arm: lived.scores[metric][finite, ::looks] for arm, lived in lives.items()}


def contrasts(
    found: Mapping[str, Mapping[str, np.ndarray]], stages: Sequence[int]
) -> list[ScheduleContrast]:
    """The declared family: a contrast for each of the terms.

    Args:
        found: terms -> arm -> R [S, T + 1, W].
        stages: the stream.
    """
    rows, p_values = [], {}
    for pay, arms in found.items():
        seen = {arm: transfer_metrics.revisit_scores(r, stages) for arm, r in arms.items()}
        first, second = ({a: v[visit] for a, v in seen.items()} for visit in ("first", "second"))
        control, then = best_control(second), best_control(first)
        p_values[pay] = _p_value(second[TESTED] - second[control])
        gain = stats.paired(second[TESTED], second[control])
        earlier = stats.paired(first[TESTED], first[then])
        rows.append(ScheduleContrast(pay, control, gain, 1.0, then, earlier))
    adjusted = stats.holm(p_values)
    return [row._replace(p_value=adjusted[row.pay]) for row in rows]


def best_control(scores: Mapping[str, np.ndarray]) -> str:
    """The control with the highest mean of its scores [S]."""
    return max((arm for arm in CONTROLS if arm in scores), key=lambda arm: scores[arm].mean())


def finding(rows: Sequence[ScheduleContrast], world: str, seeds: int) -> str:
    """One sentence, whichever way it falls."""
    said = []
    for row in rows:
        verb = "is not told apart from"
        if row.p_value < 0.05:
            verb = "gains over" if row.gain.value > 0 else "loses to"
        said.append(
            f"{TERMS[row.pay]} it {verb} {row.control} ({row.gain}; the first time {row.first} to "
            f"{row.then})"
        )
    return (
        f"Back in {world} for the second time, a life on hope - fear is held against the best of "
        f"{len(CONTROLS)} controls: {'; '.join(said)}; {seeds} seeds, paired."
    )


def markdown(
    lives: Mapping[str, Mapping[str, StreamResult]],
    ground: StreamWorlds,
    metric: str,
    looks: int,
    about: Sequence[str],
) -> str:
    """The page: what was found, a table for each of the terms, what was run."""
    found = {pay: sound_scores(arms, metric, looks) for pay, arms in lives.items()}
    rows = contrasts(found, ground.stages)
    world = ground.names[ground.stages[transfer_metrics.last_return(ground.stages)[1]]]
    seeds = min(len(r) for arms in found.values() for r in arms.values())
    lines = [
        "terms | hope - fear less the best control | control | p (Holm) | "
        "at the first visit, exploratory | the best control then",
        "--- | --- | --- | --- | --- | ---",
    ]
    lines += [
        f"{row.pay} | {row.gain} | {row.control} | {row.p_value:.3f} | {row.first} | {row.then}"
        for row in rows
    ]
    body = ["# A life in changing worlds", finding(rows, world, seeds), "\n".join(lines)]
    for pay, arms in found.items():
        body += [f"## Paid {pay}", table(arms, lives[pay], ground, world)]
    stages = ", ".join(ground.names[w] for w in ground.stages)
    lost = sum(int((~lived.finite).sum()) for arms in lives.values() for lived in arms.values())
    body += [
        LEGEND.format(stream=stages, world=world, metric=metric),
        f"Lives that stopped being numbers: {lost}.",
        *about,
    ]
    return "\n\n".join(body) + "\n"


LEGEND = (
    "Stream: {stream}, at full severity, one stage each. The first table was declared: {metric} at "
    "the end of the second visit to {world}; the control is the best of its table afterwards, "
    "which favours it (at the first visit the best then, without a p-value). "
    "`in it`: in the world one is in, at the end of each stage, averaged. "
    "`fresh`, `first`, `kept`, `second`: in {world} before and after the visit, and before and "
    "after the next. `harm`: episodes there that came to some, at the very end; `late`: that came "
    "to none and did not succeed. BWT, FWT: backward and forward transfer (Lopez-Paz & Ranzato, "
    "2017), from the last visit and from the end of school; ping-pong: what one stage broke in the "
    "world before it. Per-seed means first; t intervals at 95 %, paired where it is a difference. "
    "`hope_fear less it`: the second visit again, paired, exploratory but for the best control. "
    "frozen learns nothing; plain learns from the task's pay alone, with a new critic, old_critic "
    "with that of its school; constant_plus and constant_minus are paid +-(1 - gamma) a step; sham "
    "feels what the environment next door feels, scrambled has random frozen heads; critic is paid "
    "the change of its school's critic; reward_model is paid what a network expects that learned "
    "the task's reward at school, classifier the same at ends alone; unanchored are hope and fear "
    "that never learned at an end itself."
)


def table(
    arms: Mapping[str, np.ndarray],
    lives: Mapping[str, StreamResult],
    ground: StreamWorlds,
    world: str,
) -> str:
    """An arm a line, with the measures of `runs.adaptation.transfer_metrics`."""
    stages, at = ground.stages, ground.names.index(world)
    visits = ("fresh", "first", "kept", "second")
    heads = ("arm", "in it", "home at the end", *visits, "second less first")
    heads += ("hope_fear less it", "harm", "late", "BWT", "FWT", "ping-pong")
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    feeling = transfer_metrics.revisit_scores(arms[TESTED], stages)["second"]
    for arm, r in arms.items():
        seen = transfer_metrics.revisit_scores(r, stages)
        harm = lives[arm].scores["harm"][lives[arm].finite, -1, at].mean()
        late = 1 - harm - lives[arm].scores["success"][lives[arm].finite, -1, at].mean()
        cells = [
            arm,
            _mean_and_half(transfer_metrics.score_on_leaving(r, stages)),
            _mean_and_half(r[:, -1, 0]),
        ]
        cells += [_mean_and_half(seen[name]) for name in visits]
        cells += [_mean_and_half(seen["second"] - seen["first"], "+.3f")]
        cells += ["-" if arm == TESTED else f"{stats.paired(feeling, seen['second'])}"]
        cells += [f"{x:.2f}" if np.isfinite(x) else "-" for x in (harm, late)]
        measures = (
            transfer_metrics.backward_transfer,
            transfer_metrics.forward_transfer,
            transfer_metrics.loss_in_previous,
        )
        cells += [_mean_and_half(measure(r, stages), "+.3f") for measure in measures]
        lines.append(" | ".join(cells))
    return "\n".join(lines)


def figure(
    lives: Mapping[str, Mapping[str, StreamResult]],
    ground: StreamWorlds,
    metric: str,
    looks: int,
    steps: int,
    path: Path,
) -> None:
    """A row for each of the terms, a column a world: its score along the stream, a line an arm.

    Those of COLOURS by name, all others in grey behind them.

    Args:
        lives: terms -> arm -> what it came to.
        ground: the worlds.
        metric: the score.
        looks: in a stage.
        steps: environment steps between two looks.
        path: of the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    down, across = len(lives), len(ground.names)
    size = (2.9 * across + 0.4, 2.1 * down + 1.1)
    sheet, panels = plt.subplots(
        down, across, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for row, (pay, arms) in zip(panels, lives.items(), strict=True):
        for w, panel in enumerate(row):
            _stages(panel, ground, w, looks * steps, top=panel in panels[0])
            for arm in sorted(arms, key=_zorder):
                values = arms[arm].scores[metric][arms[arm].finite, :, w]
                x = steps * np.arange(values.shape[1])
                colour, label = COLOURS.get(arm, OTHERS), arm if arm in COLOURS else "other arms"
                bold = 2.2 if arm == TESTED else 1.1
                panel.plot(x, values.mean(0), lw=bold, color=colour, label=label)
                if arm in (TESTED, "plain") and len(values) >= stats.FEWEST:
                    band = [stats.mean(values[:, m]) for m in range(values.shape[1])]
                    low, high = [b.low for b in band], [b.high for b in band]
                    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.spines[["top", "right"]].set_visible(False)
            if metric == "success":
                panel.set_ylim(-0.03, 1.03)
        row[0].set_ylabel(f"{metric}, paid {pay}")
    sheet.supxlabel("environment steps since school; shaded: lived in this world", fontsize=10)
    named: dict[str, object] = {}
    for panel in panels.flat:
        handles, labels = panel.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    sheet.legend(named.values(), named, loc="outside upper center", ncol=5, frameon=False)
    sheet.savefig(path, dpi=110)
    plt.close(sheet)


def _zorder(arm: str) -> int:
    """How far in front an arm is drawn."""
    return list(COLOURS).index(arm) if arm in COLOURS else -1


def _stages(panel, ground: StreamWorlds, column: int, stage: int, top: bool) -> None:
    """Shades the stages that are lived in a column's world; names it."""
    for i, world in enumerate(ground.stages):
        panel.axvline(i * stage, color="#d5d9df", lw=0.6, zorder=0)
        if world == column:
            panel.axvspan(i * stage, (i + 1) * stage, color="#f2e3c6", zorder=0, linewidth=0)
    if top:
        name = ground.names[column]
        panel.set_title(name if name == HOME else f"in {name}", fontsize=10)


def _mean_and_half(values: np.ndarray, spec: str = ".3f") -> str:
    """A mean and half the width of its t interval, from per-seed values [S]."""
    found = stats.mean(values)
    return f"{found.value:{spec}} ±{found.high - found.value:.3f}"


def _p_value(gains: np.ndarray) -> float:
    """Of the paired t test of gains [S] against 0; 1 where all of them are 0."""
    from scipy.stats import ttest_1samp

    if np.ptp(gains) == 0:
        return float(gains[0] == 0)
    return float(ttest_1samp(gains, 0.0).pvalue)
