"""Lesion study: how do gambling and deliberation change when a signal is removed?

Registered before the run; T9's simulations of the learner without heads were known. Gamble: the
agent is PVL-Delta at the median of our fits to healthy people (rate .214, shape .49, aversion .62),
with the heads mood and curiosity at weight .1; its noise is the consistency in GRID whose intact
curve is nearest to that of 504 healthy people, and is then fixed. The lesion: losses have no weight
(aversion 0), all else is the same. Shams: mood, or curiosity, is lesioned instead. Predicted: a
slope over the five blocks above 0 intact, not above 0 lesioned, above 0 with each sham; and, with
each deck's early losses on top (Fellows & Farah, 2005), a smaller deficit. Built in: losses weigh
less than gains, payoffs decide through learned values. Not built in: the slopes, and the effect of
the order of the cards.
The lesion failed the last prediction. One more lesion was then written to meet it, and is labelled
as an afterthought: the value of a deck that is liked is hardly unlearned (reversal .25).

Ponder: a tabular Q-learner chooses between two options, and may wait to observe them for longer.
The lesion: the cost of time is charged, but cancelled in what the agent learns from. Built in:
without that cost nothing makes the agent stop before the horizon. Not built in: how long it waits,
for which pairs, and how much it loses.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runs.analysis import stats
from runs.cli.settings import StudySettings, check, run_main
from runs.cli.study import Job, run_study
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_line, new_figure, save_figure
from runs.theory.gambling_scores import (
    HEALTHY,
    STUDIES,
    OrderScores,
    group_curve,
    healthy_band,
    human_scores,
    slope,
    total_deficits,
)

COMMAND = "python -m runs.lesion"
GRID = (0.7, 0.9, 1.07, 1.3, 1.6)  # of the gamblers' consistency
CUT_OFF = 10  # clinical cut-off for the total over 100 cards
LESION, AFTERTHOUGHT = "losses not felt", "afterthought: no reversal"  # arms of Gamble
ORDERS = {"usual": "usual order", "shuffled": "early losses on top"}
COLOURS = ("#2b6cb0", "#c8322b", "#7fb0dd", "#4d8f6f", "#d98324")
AGAINST = (
    "Against the reading that this is what patients of the ventromedial prefrontal cortex lack: "
    "lesions of other parts of the frontal lobe impair the task too (MacPherson et al., 2009). "
    "Patients' curves were published as figures only and are not drawn: no upward slope, no "
    "practice effect over years (Waters-Wood et al., 2012), no deficit where early losses lie on "
    "top (Fellows & Farah, 2005). A bandit learner can be far better than people at this task, so "
    "that only shape and contrast are compared."
)


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the study.

    Attributes:
        people: simulated players of Gamble per arm and card order, at least 100.
        seeds: agents of Ponder per arm, at least 3.
    """

    least = {"people": (100, "a curve needs at least 100 people")}
    people: int = 2000
    seeds: int = 20


class LesionSizes(NamedTuple):
    """Sizes: people in Gamble; seeds, updates and decisions per seed in Ponder."""

    people: int
    seeds: int
    updates: int = 1000
    choices: int = 2000


SMOKE = LesionSizes(people=200, seeds=4, updates=30, choices=200)


class LesionResults(NamedTuple):
    """Results of the study.

    Attributes:
        consistency: of the gamblers, fitted to healthy people.
        gamble: name of an arm -> its scores.
        ponder: name of an arm -> its `runs.theory.ponder.DecisionTimes`.
    """

    consistency: float
    gamble: dict[str, OrderScores]
    ponder: dict[str, Any]


def study(job: Job) -> Page:
    """Simulate all arms in both worlds."""
    sizes = SMOKE if job.settings.smoke else LesionSizes(job.settings.people, job.settings.seeds)
    results = simulate(sizes)
    text = markdown(results, sizes, job.command)
    return Page("lesion", text, {"": partial(figure, results)})


def simulate(sizes: LesionSizes) -> LesionResults:
    """Fit the noise of the gamblers, then simulate every arm of Gamble and of Ponder."""
    from runs.theory import gamblers, ponder

    consistency = gamblers.fit_consistency(sizes.people, GRID)
    scores = gamblers.lesion_scores(sizes.people, consistency)
    decisions = ponder.decide(sizes.seeds, sizes.updates, sizes.choices)
    times = {arm: ponder.decision_times(choices) for arm, choices in decisions.items()}
    return LesionResults(consistency, scores, times)


# --- page -------------------------------------------------------------------------------------


def markdown(results: LesionResults, sizes: LesionSizes, command: str) -> str:
    """Text of the page: finding, tables, design and contrary evidence."""
    blocks, (least, most) = results.gamble["intact"].usual.mean(0), healthy_band()
    sections = [
        finding(results),
        "## Gamble",
        gamble_table(results.gamble),
        f"Net score (C + D) - (A + B) a block of 20 cards, schedule of 1994, {sizes.people:,} "
        "simulated people an arm, paired; their spread is luck alone. Means with t intervals at "
        f"95 %. Noise: consistency {results.consistency}, the best of {GRID} for the intact curve. "
        f"Healthy people's study totals range from {STUDIES[0]} to {STUDIES[1]}; the intact total "
        f"lies {'within' if STUDIES[0] <= blocks.sum() <= STUDIES[1] else 'outside'} that range, "
        f"and {((least <= blocks) & (blocks <= most)).sum()} of its 5 blocks lie within the pooled "
        "curve moved to those totals. `shuffled`: each deck's first eight cards at its bottom.",
        "## Ponder",
        ponder_table(results.ponder),
        f"{sizes.seeds} learners an arm, {sizes.updates:,} updates of 1,024 steps, "
        f"{sizes.choices:,} decisions each without exploring; the horizon is 50 moments. Regret: "
        "worth of the better option less what was earned, time paid.",
        "## What is built in, and what is not",
        (__doc__ or "").partition("\n\n")[2].strip(),
        AGAINST,
    ]
    return page_text("Lesion study", sections, command)


def gamble_table(gamble: dict[str, Any]) -> str:
    """Table of the groups of people and of the arms of Gamble."""
    rows = []
    for group, people in human_scores().iterrows():
        blocks = group_curve(group)
        name = f"people: {group.replace('_', ' ')}, n = {people['n']:.0f}"
        low = f"{1 - people['share_total_at_least_10']:.0%}"
        cells = [name, blocks_text(blocks), f"{people['total']:.1f}", low]
        rows.append([*cells, f"{slope(blocks):+.2f}", "-", "-"])
    slopes = {name: slope(scores.usual) for name, scores in gamble.items()}
    for name, (blocks, shuffled) in gamble.items():
        less_intact = f"{stats.mean(slopes[name] - slopes['intact']):+.2f}"
        low = f"{(blocks.sum(1) < CUT_OFF).mean():.0%}"
        cells = [name, blocks_text(blocks.mean(0)), f"{stats.mean(blocks.sum(1)):.1f}", low]
        cells += [f"{stats.mean(slopes[name]):+.2f}", "-" if name == "intact" else less_intact]
        rows.append([*cells, f"{stats.mean(shuffled.sum(1)):.1f}"])
    headings = ["arm", "blocks 1 to 5", "total", f"below {CUT_OFF}"]
    return markdown_table([*headings, "slope", "slope less intact", "shuffled: total"], rows)


def blocks_text(blocks: Any) -> str:
    """Scores of the five blocks."""
    return ", ".join(f"{value:+.2f}" for value in blocks)


def ponder_table(ponder: dict[str, Any]) -> str:
    """Table of the arms of Ponder."""
    rows = []
    for arm, times in ponder.items():
        means = map(stats.mean, (times.waited, times.by_fifth[0], times.by_fifth[-1]))
        cells = [f"{mean:.1f}" for mean in means]
        rows.append([arm, *cells, f"{stats.mean(times.regret):.3f}"])
    alike = [f"on the {which} alike fifth" for which in ("most", "least")]
    return markdown_table(["arm", "moments waited", *alike, "regret"], rows)


def finding(results: LesionResults) -> str:
    """One sentence per world: effects of the lesion and of the shams, with intervals."""
    slopes = {name: stats.mean(slope(scores.usual)) for name, scores in results.gamble.items()}
    shams = [estimate for name, estimate in slopes.items() if name.startswith("sham")]
    rising = all(estimate.low > 0 for estimate in (slopes["intact"], *shams))
    lesion, intact = slopes[LESION], slopes["intact"]
    lesioned, unlesioned = results.ponder["lesioned"], results.ponder["intact"]
    extra = stats.mean(lesioned.waited - unlesioned.waited)
    loss = stats.mean(lesioned.regret - unlesioned.regret)
    alike, apart = (stats.mean(lesioned.by_fifth[k]).value for k in (0, -1))
    return (
        f"Without felt losses the curve of the gambler "
        f"{'no longer rises' if lesion.high <= 0 else 'rises'} "
        f"(slope {lesion:+.2f} cards a block, intact {intact:+.2f}), "
        f"the shams {'leave' if rising else 'do not leave'} it rising; with early losses on top, "
        f"which removes the deficit of patients, this one's {deficit_text(results, LESION)}, and "
        f"that of a learner who cannot reverse {deficit_text(results, AFTERTHOUGHT)}. Without a "
        f"felt cost of time a decision takes {extra:+.1f} moments more and costs {loss:+.3f} in "
        f"regret, and it takes longest where it matters least: {alike:.0f} moments on the most "
        f"alike options, {apart:.0f} on the least."
    )


def deficit_text(results: LesionResults, name: str) -> str:
    """Direction and cards by which an arm's deficit shrinks with early losses on top."""
    deficits = total_deficits(results.gamble["intact"], results.gamble[name])
    change = stats.mean(deficits.usual - deficits.shuffled)
    verb = "shrinks" if change.low > 0 else "grows" if change.high < 0 else "stays"
    return f"{verb} ({change:+.1f} cards)"


# --- figure -----------------------------------------------------------------------------------


def figure(results: LesionResults, path: Path) -> None:
    """Draw scores for both card orders beside human data, and waiting time by distance."""
    sheet, [axes] = new_figure(1, 3, (14, 5.2), gridspec_kw={"width_ratios": (5, 5, 4)})
    below = draw_people(axes[0])
    for axis, order in zip(axes, ORDERS, strict=False):
        for (name, scores), colour in zip(results.gamble.items(), COLOURS, strict=True):
            net = getattr(scores, order)
            style = "--" if ":" in name else "-"
            label = f"{name}, {(net.sum(1) < CUT_OFF).mean():.0%} below {CUT_OFF}"
            label = label if axis is axes[0] else None
            axis.plot(range(1, 6), net.mean(0), style, color=colour, lw=2, label=label)
        axis.axhline(0, color="#999999", lw=0.8)
        axis.set(title=f"Gamble, {ORDERS[order]}", xlabel="block of 20 cards", xticks=range(1, 6))
    axes[0].set_ylabel("net score, (C + D) - (A + B)")
    axes[1].sharey(axes[0])
    for (arm, times), colour in zip(results.ponder.items(), COLOURS, strict=False):
        means = map(stats.mean, times.by_fifth)
        negation = "" if arm == "intact" else "not "
        label = f"cost of time {negation}felt, regret {times.regret.mean():.2f}"
        draw_line(axes[2], times.apart, means, label, colour, marker="o", lw=2)
    axes[2].set(title="Ponder, time to decide", xlabel="difference between the options")
    axes[2].set(ylabel="moments waited", ylim=(0, None))
    axes[2].legend(frameon=False, fontsize=9)
    title = f"{below:.0%} of the healthy people are below {CUT_OFF} in total"
    options = {"loc": "outside lower center", "ncol": 3, "frameon": False, "title": title}
    entries = axes[0].get_legend_handles_labels()
    sheet.legend(*entries, fontsize=9, title_fontsize=9, **options)
    save_figure(sheet, path)


def draw_people(axis: Any) -> float:
    """Draw the curves of people -> the share of healthy ones whose total is below the cut-off."""
    blocks, people = range(1, 6), human_scores()
    label = "healthy studies, range of totals, spread evenly"
    axis.fill_between(blocks, *healthy_band(), color="#e9e9e9", label=label)
    healthy = people.loc[HEALTHY]
    errors = [1.96 * healthy[f"block{k}_se"] for k in blocks]
    label = f"people, healthy, n = {healthy['n']:.0f}"
    axis.errorbar(blocks, group_curve(), errors, fmt="o-", color="black", label=label)
    for group, mark in (("amphetamine_ahn2014", "s:"), ("heroin_ahn2014", "^:")):
        label = f"people, {group.split('_')[0]}, n = {people.loc[group, 'n']:.0f}"
        axis.plot(blocks, group_curve(group), mark, color="#777777", markersize=4, label=label)
    return 1 - healthy["share_total_at_least_10"]


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
