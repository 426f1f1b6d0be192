"""The patient without emotion: what is lost, in gambles and over socks, when a feeling is?

Registered before the run; T9's simulations of the bare learner were known. Gamble: the learner is
PVL-Delta at the published healthy median (rate .214, shape .49, aversion .62), who also feels mood
and curiosity at a weight of .1; its noise is the consistency, of those in GRID, whose intact curve
is nearest to that of 504 healthy people, and is then kept. The lesion: losses are no longer felt
(aversion 0), all else the same. Shams: mood, or curiosity, is lesioned instead. Wanted: a slope
over the five blocks above 0 intact, not above 0 lesioned, above 0 with each sham; and, with each
deck's early losses on top (Fellows & Farah, 2005), a smaller deficit. Built in: losses weigh less
than gains, payoffs decide through learned values. Not built in: the slopes, and what the order of
the cards does.
An unfelt loss was then seen to fail the last of these. One more lesion was written to pass it and
is shown as what it is, an afterthought: a deck that is liked is not unlearned (reversal .25).

Ponder: a tabular Q-learner decides between two options, looking at them for as long as it wants.
The lesion: the cost of time is not felt, though it is charged. Built in: who feels no cost has no
reason to stop but the end. Not built in: how long it takes, over which pairs, and what is lost.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from runs.cli.settings import check_seeds, parse_settings, run_main, shell_command
from runs.errors import UserError

COMMAND = "python -m runs.lesion"
GRID = (0.7, 0.9, 1.07, 1.3, 1.6)
WEIGHT = 0.1  # of mood and of curiosity, set once
CUT_OFF = 10  # the clinical one, for the total over 100 cards
STUDIES = (0.2, 26.6)  # totals of the healthy in the least and the most successful study
AGAINST = (
    "Against the reading that this is what patients of the ventromedial prefrontal cortex lack: "
    "lesions of other parts of the frontal lobe impair the task too (MacPherson et al., 2009). "
    "Patients' curves were published as figures only and are not drawn: no upward slope, no "
    "practice effect over years (Waters-Wood et al., 2012), no deficit where early losses lie on "
    "top (Fellows & Farah, 2005). A bandit learner can be far better than people at this task, so "
    "that only shape and contrast are compared."
)


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        people: simulated players of Gamble an arm and order of the cards, at least 100.
        seeds: learners of Ponder an arm, at least 3.
        out: folder for the table and the figure.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of seconds that touches everything and means nothing.
        record: also write the table and the figure to runs/results/.
    """

    people: int = 2000
    seeds: int = 20
    out: Path = Path("runs/logs/lesion")
    config: Path | None = None
    smoke: bool = False
    record: bool = False


class LesionSizes(NamedTuple):
    """How much of everything: people, seeds, updates of a Ponder learner, and its decisions."""

    people: int
    seeds: int
    updates: int
    choices: int


class GambleArm(NamedTuple):
    """A way to play Gamble: the agent, and which feelings beside the payoff are lesioned."""

    agent: Any
    lost: str = ""


class GambleScores(NamedTuple):
    """Net scores [people, 5] of an arm, in the usual order of the cards and the shuffled one."""

    usual: Any
    shuffled: Any


def main(argv: list[str]) -> int:
    """Parses, then runs; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.engine import devices

    devices.prepare_devices()
    size = LesionSizes(settings.people, settings.seeds, updates=1000, choices=2000)
    if settings.smoke:
        size = LesionSizes(people=200, seeds=4, updates=30, choices=200)
    consistency, played = run_gamble(size.people)
    thought = run_ponder(size)
    text = markdown(consistency, played, thought, size, shell_command(COMMAND, argv))
    print(text)
    folders = [(settings.out, "table")]
    if settings.record:
        folders.append((Path("runs/results"), "lesion"))
    for folder, name in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.md").write_text(text)
            figure(played, thought, folder / f"{name}.png")
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror or error}; choose another --out") from None
        print(f"table, figure   {folder / name}.md, {folder / name}.png")
    return 0


def check(settings: Settings) -> None:
    """Refuses what can be refused without importing jax.

    Raises:
        UserError: for too few people or seeds.
    """
    if settings.people < 100:
        raise UserError(f"--people {settings.people}: a curve needs at least 100 people")
    check_seeds(settings)


# --- Gamble -----------------------------------------------------------------------------------


def run_gamble(people: int) -> tuple[float, dict[str, GambleScores]]:
    """Fixes the noise, then plays every arm -> (consistency, name -> blocks)."""
    import numpy as np

    from envs.worlds.theory.gamble import SHUFFLED, Params
    from runs.theory.gamble import group_curve, simulate

    healthy = group_curve("healthy_pool_100_trials")
    usual, shuffled = Params(moved=0.0), Params(moved=float(SHUFFLED))

    def distance(consistency: float) -> float:
        agent = arms(consistency)["intact"].agent
        blocks = simulate(agent, usual, people, base=1, blend=player_blend())
        return float(np.square(blocks.mean(0) - healthy).sum())

    consistency = min(GRID, key=distance)
    played = {
        name: GambleScores(
            *(
                simulate(arm.agent, p, people, blend=player_blend(arm.lost))
                for p in (usual, shuffled)
            )
        )
        for name, arm in arms(consistency).items()
    }
    return consistency, played


def arms(consistency: float) -> dict[str, GambleArm]:
    """Every way to play, at one noise."""
    from agents.pvl import PVL

    return {
        "intact": GambleArm(PVL(consistency=consistency)),
        "losses not felt": GambleArm(PVL(consistency=consistency, aversion=0.0)),
        "sham: no mood": GambleArm(PVL(consistency=consistency), lost="mood"),
        "sham: no curiosity": GambleArm(PVL(consistency=consistency), lost="curiosity"),
        "afterthought: no reversal": GambleArm(PVL(consistency=consistency, reversal=0.25)),
    }


def healthy_band():
    """The healthy band: the pooled curve, moved to the least and to the highest study total."""
    from runs.theory.gamble import group_curve

    healthy = group_curve("healthy_pool_100_trials")
    return tuple(healthy + (total - healthy.sum()) / len(healthy) for total in STUDIES)


@cache
def player_blend(lost: str = ""):
    """What a player feels beside the payoff, one of the feelings lesioned if it is named."""
    from affect import Blend, Curiosity, Lesion, Mood, Normalised

    heads = {"mood": Mood, "curiosity": Normalised(Curiosity)}
    return Blend(**{k: (WEIGHT, Lesion(head) if k == lost else head) for k, head in heads.items()})


# --- Ponder -----------------------------------------------------------------------------------


def run_ponder(size: LesionSizes) -> dict:
    """Name -> the decisions of those who feel the cost of time and of those who do not."""
    from runs.theory.ponder import BLENDS, decide

    return {who: decide(who, size.seeds, size.updates, size.choices) for who in BLENDS}


def by_difficulty(decisions) -> list[tuple[float, list[int]]]:
    """Pairs of options by how far they are apart: (mean distance, members), five of the kind."""
    import numpy as np

    return [
        (float(decisions.apart.ravel()[part].mean()), part)
        for part in np.array_split(np.argsort(decisions.apart, axis=None), 5)
    ]


def per_seed(decisions, what: str, part=None):
    """The mean of a field for each seed [S], over all pairs or over some of them."""
    import numpy as np

    values = getattr(decisions, what).astype(float)
    if part is None:
        return values.mean(1)
    chosen = np.zeros(values.size, bool)
    chosen[part] = True
    chosen = chosen.reshape(values.shape)
    return (values * chosen).sum(1) / chosen.sum(1)


# --- what was found ---------------------------------------------------------------------------


def markdown(
    consistency: float, played: dict, thought: dict, size: LesionSizes, command: str
) -> str:
    """The tables, the finding and the contrary evidence."""
    from runs.analysis import stats
    from runs.engine import devices
    from runs.theory.gamble import group_curve, human_blocks, slope

    usual, healthy = {n: slope(p.usual) for n, p in played.items()}, human_blocks()
    lines = ["arm | blocks 1 to 5 | total | below 10 | slope | slope less intact | shuffled: total"]
    lines.append(" | ".join(["---"] * 7))
    for group, row in healthy.items():
        blocks = group_curve(group)
        low = f"{1 - row['share_total_at_least_10']:.0%}"
        name = f"people: {group.replace('_', ' ')}, n = {row['n']:.0f}"
        cells = [name, _text(blocks), f"{row['total']:.1f}", low, f"{slope(blocks):+.2f}", "-", "-"]
        lines.append(" | ".join(cells))
    for name, (blocks, shuffled) in played.items():
        gap = "-" if name == "intact" else f"{stats.mean(usual[name] - usual['intact']):+.2f}"
        low = f"{(blocks.sum(1) < CUT_OFF).mean():.0%}"
        total, moved = stats.mean(blocks.sum(1)), stats.mean(shuffled.sum(1))
        cells = [name, _text(blocks.mean(0)), f"{total:.1f}", low]
        cells += [f"{stats.mean(usual[name]):+.2f}", gap, f"{moved:.1f}"]
        lines.append(" | ".join(cells))
    times = [
        "arm | moments of thought | on the most alike fifth | on the least alike fifth | regret"
    ]
    times.append(" | ".join(["---"] * 5))
    for who, decisions in thought.items():
        parts = by_difficulty(decisions)
        means = [stats.mean(per_seed(decisions, "waited"))]
        means += [stats.mean(per_seed(decisions, "waited", parts[k][1])) for k in (0, -1)]
        regret = stats.mean(per_seed(decisions, "regret"))
        times.append(" | ".join([who, *(f"{x:.1f}" for x in means), f"{regret:.3f}"]))
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    blocks, (least, most) = played["intact"].usual.mean(0), healthy_band()
    body = [
        "# The patient without emotion",
        finding(played, thought),
        "## Gamble\n\n" + "\n".join(lines),
        f"Net score (C + D) - (A + B) a block of 20 cards, schedule of 1994, {size.people:,} "
        "simulated people an arm, paired; their spread is luck alone. Means with t intervals at "
        f"95 %. Noise: consistency {consistency}, the best of {GRID} for the intact curve. Healthy "
        f"people's study totals range from {STUDIES[0]} to {STUDIES[1]}; the intact total lies "
        f"{'within' if STUDIES[0] <= blocks.sum() <= STUDIES[1] else 'outside'} that range, and "
        f"{((least <= blocks) & (blocks <= most)).sum()} of its 5 blocks lie within the pooled "
        "curve moved to those totals. `shuffled`: each deck's first eight cards at its bottom.",
        "## Ponder\n\n" + "\n".join(times),
        f"{size.seeds} learners an arm, {size.updates:,} updates of 1,024 steps, "
        f"{size.choices:,} decisions each without exploring; the horizon is 50 moments. Regret: "
        "worth of the better option less what was earned, time paid.",
        "## Built in, and not\n\n" + (__doc__ or "").partition("\n\n")[2].strip(),
        AGAINST,
        f"`{command}`\n\n{machine}",
    ]
    return "\n\n".join(body) + "\n"


def finding(played: dict, thought: dict) -> str:
    """One sentence on each world, whichever way it fell."""
    from runs.analysis import stats
    from runs.theory.gamble import slope

    slopes = {name: stats.mean(slope(p.usual)) for name, p in played.items()}
    shams = [slopes[name] for name in slopes if name.startswith("sham")]
    kept = slopes["intact"].low > 0 and all(sham.low > 0 for sham in shams)
    lost = slopes["losses not felt"].high <= 0
    deficits = {name: deficit_change(played, name) for name in ("losses not felt", *_AFTERTHOUGHT)}
    said = {
        name: f"{'shrinks' if less.low > 0 else 'grows' if less.high < 0 else 'stays'} "
        f"({less:+.1f} cards)"
        for name, less in deficits.items()
    }
    who, other = thought["lesioned"], thought["intact"]
    longer = stats.mean(per_seed(who, "waited") - per_seed(other, "waited"))
    loss = stats.mean(per_seed(who, "regret") - per_seed(other, "regret"))
    alike, apart = (
        stats.mean(per_seed(who, "waited", by_difficulty(who)[k][1])).value for k in (0, -1)
    )
    return (
        f"Without felt losses the curve of the gambler {'no longer rises' if lost else 'rises'} "
        f"(slope {slopes['losses not felt']:+.2f} cards a block, intact {slopes['intact']:+.2f}), "
        f"the shams {'leave' if kept else 'do not leave'} it rising; with early losses on top, "
        f"which removes the deficit of patients, this one's {said['losses not felt']}, and that "
        f"of a learner who cannot reverse {said[_AFTERTHOUGHT[0]]}. Without a felt cost of time a "
        f"decision takes {longer:+.1f} moments more and costs {loss:+.3f} in regret, and it takes "
        f"longest where it matters least: {alike:.0f} moments on the most alike options, "
        f"{apart:.0f} on the least."
    )


_AFTERTHOUGHT = ("afterthought: no reversal",)


def deficit_change(played: dict, name: str):
    """By how many cards the deficit in total shrinks when early losses lie on top, an Estimate."""
    from runs.analysis import stats

    usual, shuffled = (
        (getattr(played["intact"], order) - getattr(played[name], order)).sum(1)
        for order in GambleScores._fields
    )
    return stats.mean(usual - shuffled)


def figure(played: dict, thought: dict, path: Path) -> None:
    """Two orders of the cards beside people, and time to decide by likeness of the options."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from runs.analysis import stats
    from runs.theory.gamble import group_curve, human_blocks

    colours = ("#2b6cb0", "#c8322b", "#7fb0dd", "#4d8f6f", "#d98324")
    sheet, axes = plt.subplots(1, 3, figsize=(14, 5.2), gridspec_kw={"width_ratios": (5, 5, 4)})
    blocks = np.arange(1, 6)
    healthy, row = group_curve("healthy_pool_100_trials"), human_blocks()["healthy_pool_100_trials"]
    errors = np.array([row[f"block{k}_se"] for k in blocks])
    least, most = healthy_band()
    axes[0].fill_between(
        blocks,
        least,
        most,
        color="#e9e9e9",
        label="healthy studies, range of totals, spread evenly",
    )
    axes[0].errorbar(
        blocks, healthy, 1.96 * errors, fmt="o-", color="black", label="people, healthy, n = 504"
    )
    for group, mark in (("amphetamine_ahn2014", "s:"), ("heroin_ahn2014", "^:")):
        label = f"people, {group.split('_')[0]}, n = {human_blocks()[group]['n']:.0f}"
        axes[0].plot(blocks, group_curve(group), mark, color="#777777", markersize=4, label=label)
    for axis, order, title in zip(
        axes, GambleScores._fields, ("usual order", "early losses on top"), strict=False
    ):
        for (name, scores), colour in zip(played.items(), colours, strict=True):
            found = getattr(scores, order)
            low = (found.sum(1) < CUT_OFF).mean()
            style = "--" if ":" in name else "-"
            label = f"{name}, {low:.0%} below {CUT_OFF}" if axis is axes[0] else None
            axis.plot(blocks, found.mean(0), style, color=colour, lw=2, label=label)
        axis.axhline(0, color="#999999", lw=0.8)
        axis.set(title=f"Gamble, {title}", xlabel="block of 20 cards", xticks=blocks)
    axes[0].set_ylabel("net score, (C + D) - (A + B)")
    axes[1].sharey(axes[0])
    for (who, decisions), colour in zip(thought.items(), colours, strict=False):
        parts = by_difficulty(decisions)
        means = [stats.mean(per_seed(decisions, "waited", part)) for _, part in parts]
        middle, low, high = np.array(means).T
        where = [distance for distance, _ in parts]
        regret = per_seed(decisions, "regret").mean()
        label = f"cost of time {'' if who == 'intact' else 'not '}felt, regret {regret:.2f}"
        axes[2].plot(where, middle, "o-", color=colour, lw=2, label=label)
        axes[2].fill_between(where, low, high, color=colour, alpha=0.15, lw=0)
    axes[2].set(
        title="Ponder, time to decide",
        xlabel="difference between the options",
        ylabel="moments of thought",
        ylim=(0, None),
    )
    axes[2].legend(frameon=False, fontsize=9)
    below = 1 - row["share_total_at_least_10"]
    sheet.legend(
        *axes[0].get_legend_handles_labels(),
        loc="lower center",
        ncol=3,
        frameon=False,
        fontsize=9,
        title=f"{below:.0%} of the healthy people are below {CUT_OFF} in total",
        title_fontsize=9,
    )
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    sheet.tight_layout(rect=(0, 0.2, 1, 1))
    sheet.savefig(path, dpi=110)
    plt.close(sheet)


def _text(blocks) -> str:
    return ", ".join(f"{value:+.2f}" for value in blocks)


if __name__ == "__main__":
    run_main(main)
