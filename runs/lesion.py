"""Lesion study: how do gambling and deliberation change when a signal is removed?

Registered before the run; T9's simulations of the learner without heads were known. Gamble: the
agent is PVL-Delta at the published healthy median (rate .214, shape .49, aversion .62), with the
heads mood and curiosity at weight .1; its noise is the consistency in GRID whose intact curve is
nearest to that of 504 healthy people, and is then fixed. The lesion: losses have no weight
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
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from runs.cli.settings import check_seeds, parse_settings, run_main, shell_command
from runs.errors import UserError

COMMAND = "python -m runs.lesion"
GRID = (0.7, 0.9, 1.07, 1.3, 1.6)
WEIGHT = 0.1  # of mood and of curiosity, not tuned
CUT_OFF = 10  # clinical cut-off for the total over 100 cards
STUDIES = (0.2, 26.6)  # lowest and highest mean total of healthy people over studies
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
        people: simulated players of Gamble per arm and card order, at least 100.
        seeds: agents of Ponder per arm, at least 3.
        out: folder for the table and the figure.
        config: a YAML file of these settings; flags override it.
        smoke: a run of seconds to test the code; its numbers mean nothing.
        record: also write the table and the figure to runs/results/.
    """

    people: int = 2000
    seeds: int = 20
    out: Path = Path("runs/logs/lesion")
    config: Path | None = None
    smoke: bool = False
    record: bool = False


class LesionSizes(NamedTuple):
    """Sizes: people in Gamble; seeds, updates and decisions per seed in Ponder."""

    people: int
    seeds: int
    updates: int
    choices: int


class GambleArm(NamedTuple):
    """An arm of Gamble: the agent, and the name of the lesioned head, if any."""

    agent: Any
    lesioned: str = ""


class GambleScores(NamedTuple):
    """Net scores [people, 5] of an arm, for the usual and the shuffled order of the cards."""

    usual: Any
    shuffled: Any


def main(argv: list[str]) -> int:
    """Run the study -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.engine import devices

    devices.prepare_devices()
    size = LesionSizes(settings.people, settings.seeds, updates=1000, choices=2000)
    if settings.smoke:
        size = LesionSizes(people=200, seeds=4, updates=30, choices=200)
    consistency, gamble = run_gamble(size.people)
    ponder = run_ponder(size)
    text = markdown(consistency, gamble, ponder, size, shell_command(COMMAND, argv))
    print(text)
    folders = [(settings.out, "table")]
    if settings.record:
        folders.append((Path("runs/results"), "lesion"))
    for folder, name in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.md").write_text(text)
            figure(gamble, ponder, folder / f"{name}.png")
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror or error}; choose another --out") from None
        print(f"table, figure   {folder / name}.md, {folder / name}.png")
    return 0


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for too few people or seeds.
    """
    if settings.people < 100:
        raise UserError(f"--people {settings.people}: a curve needs at least 100 people")
    check_seeds(settings)


# --- Gamble -----------------------------------------------------------------------------------


def run_gamble(people: int) -> tuple[float, dict[str, GambleScores]]:
    """Fit the noise, then simulate every arm -> (consistency, name -> scores)."""
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
    gamble = {
        name: GambleScores(
            *(
                simulate(arm.agent, params, people, blend=player_blend(arm.lesioned))
                for params in (usual, shuffled)
            )
        )
        for name, arm in arms(consistency).items()
    }
    return consistency, gamble


def arms(consistency: float) -> dict[str, GambleArm]:
    """Arms of Gamble by name, at one consistency."""
    from agents.pvl import PVL

    return {
        "intact": GambleArm(PVL(consistency=consistency)),
        "losses not felt": GambleArm(PVL(consistency=consistency, aversion=0.0)),
        "sham: no mood": GambleArm(PVL(consistency=consistency), lesioned="mood"),
        "sham: no curiosity": GambleArm(PVL(consistency=consistency), lesioned="curiosity"),
        "afterthought: no reversal": GambleArm(PVL(consistency=consistency, reversal=0.25)),
    }


def healthy_band():
    """Band of healthy people: the pooled curve [5] moved to the lowest and highest study total."""
    from runs.theory.gamble import group_curve

    healthy = group_curve("healthy_pool_100_trials")
    return tuple(healthy + (total - healthy.sum()) / len(healthy) for total in STUDIES)


@cache
def player_blend(lesioned: str = ""):
    """Blend of mood and curiosity, with the named head, if any, lesioned."""
    from affect import Blend, Curiosity, Lesion, Mood, Normalised

    heads = {"mood": Mood, "curiosity": Normalised(Curiosity)}
    return Blend(
        **{k: (WEIGHT, Lesion(head) if k == lesioned else head) for k, head in heads.items()}
    )


# --- Ponder -----------------------------------------------------------------------------------


def run_ponder(size: LesionSizes) -> dict:
    """Name -> choices of agents with the cost of time (intact) and without it (lesioned)."""
    from runs.theory.ponder import BLENDS, decide

    return {arm: decide(arm, size.seeds, size.updates, size.choices) for arm in BLENDS}


def by_difficulty(decisions) -> list[tuple[float, list[int]]]:
    """Fifths of the pairs of options by their distance in worth: (mean distance, indices)."""
    import numpy as np

    return [
        (float(decisions.apart.ravel()[part].mean()), part)
        for part in np.array_split(np.argsort(decisions.apart, axis=None), 5)
    ]


def per_seed(decisions, field: str, part=None):
    """Mean of a field per seed [S], over all pairs or over the indices in `part`."""
    import numpy as np

    values = getattr(decisions, field).astype(float)
    if part is None:
        return values.mean(1)
    chosen = np.zeros(values.size, bool)
    chosen[part] = True
    chosen = chosen.reshape(values.shape)
    return (values * chosen).sum(1) / chosen.sum(1)


# --- results ----------------------------------------------------------------------------------


def markdown(
    consistency: float, gamble: dict, ponder: dict, size: LesionSizes, command: str
) -> str:
    """Markdown report: finding, tables, design and contrary evidence."""
    from runs.analysis import stats
    from runs.engine import devices
    from runs.theory.gamble import group_curve, human_blocks, slope

    usual, healthy = {name: slope(scores.usual) for name, scores in gamble.items()}, human_blocks()
    lines = ["arm | blocks 1 to 5 | total | below 10 | slope | slope less intact | shuffled: total"]
    lines.append(" | ".join(["---"] * 7))
    for group, row in healthy.items():
        blocks = group_curve(group)
        low = f"{1 - row['share_total_at_least_10']:.0%}"
        name = f"people: {group.replace('_', ' ')}, n = {row['n']:.0f}"
        cells = [name, _text(blocks), f"{row['total']:.1f}", low, f"{slope(blocks):+.2f}", "-", "-"]
        lines.append(" | ".join(cells))
    for name, (blocks, shuffled) in gamble.items():
        diff = "-" if name == "intact" else f"{stats.mean(usual[name] - usual['intact']):+.2f}"
        low = f"{(blocks.sum(1) < CUT_OFF).mean():.0%}"
        total, moved = stats.mean(blocks.sum(1)), stats.mean(shuffled.sum(1))
        cells = [name, _text(blocks.mean(0)), f"{total:.1f}", low]
        cells += [f"{stats.mean(usual[name]):+.2f}", diff, f"{moved:.1f}"]
        lines.append(" | ".join(cells))
    ponder_lines = [
        "arm | moments waited | on the most alike fifth | on the least alike fifth | regret"
    ]
    ponder_lines.append(" | ".join(["---"] * 5))
    for arm, decisions in ponder.items():
        parts = by_difficulty(decisions)
        means = [stats.mean(per_seed(decisions, "waited"))]
        means += [stats.mean(per_seed(decisions, "waited", parts[k][1])) for k in (0, -1)]
        regret = stats.mean(per_seed(decisions, "regret"))
        ponder_lines.append(" | ".join([arm, *(f"{x:.1f}" for x in means), f"{regret:.3f}"]))
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    blocks, (least, most) = gamble["intact"].usual.mean(0), healthy_band()
    body = [
        "# Lesion study",
        finding(gamble, ponder),
        "## Gamble\n\n" + "\n".join(lines),
        f"Net score (C + D) - (A + B) a block of 20 cards, schedule of 1994, {size.people:,} "
        "simulated people an arm, paired; their spread is luck alone. Means with t intervals at "
        f"95 %. Noise: consistency {consistency}, the best of {GRID} for the intact curve. Healthy "
        f"people's study totals range from {STUDIES[0]} to {STUDIES[1]}; the intact total lies "
        f"{'within' if STUDIES[0] <= blocks.sum() <= STUDIES[1] else 'outside'} that range, and "
        f"{((least <= blocks) & (blocks <= most)).sum()} of its 5 blocks lie within the pooled "
        "curve moved to those totals. `shuffled`: each deck's first eight cards at its bottom.",
        "## Ponder\n\n" + "\n".join(ponder_lines),
        f"{size.seeds} learners an arm, {size.updates:,} updates of 1,024 steps, "
        f"{size.choices:,} decisions each without exploring; the horizon is 50 moments. Regret: "
        "worth of the better option less what was earned, time paid.",
        "## What is built in, and what is not\n\n" + (__doc__ or "").partition("\n\n")[2].strip(),
        AGAINST,
        f"`{command}`\n\n{machine}",
    ]
    return "\n\n".join(body) + "\n"


def finding(gamble: dict, ponder: dict) -> str:
    """One sentence per world: effects of the lesion and of the shams, with intervals."""
    from runs.analysis import stats
    from runs.theory.gamble import slope

    slopes = {name: stats.mean(slope(p.usual)) for name, p in gamble.items()}
    shams = [slopes[name] for name in slopes if name.startswith("sham")]
    rise = slopes["intact"].low > 0 and all(sham.low > 0 for sham in shams)
    flat = slopes["losses not felt"].high <= 0
    deficits = {name: deficit_change(gamble, name) for name in ("losses not felt", *_AFTERTHOUGHT)}
    changes = {
        name: f"{'shrinks' if change.low > 0 else 'grows' if change.high < 0 else 'stays'} "
        f"({change:+.1f} cards)"
        for name, change in deficits.items()
    }
    lesioned, intact = ponder["lesioned"], ponder["intact"]
    extra = stats.mean(per_seed(lesioned, "waited") - per_seed(intact, "waited"))
    loss = stats.mean(per_seed(lesioned, "regret") - per_seed(intact, "regret"))
    alike, apart = (
        stats.mean(per_seed(lesioned, "waited", by_difficulty(lesioned)[k][1])).value
        for k in (0, -1)
    )
    return (
        f"Without felt losses the curve of the gambler {'no longer rises' if flat else 'rises'} "
        f"(slope {slopes['losses not felt']:+.2f} cards a block, intact {slopes['intact']:+.2f}), "
        f"the shams {'leave' if rise else 'do not leave'} it rising; with early losses on top, "
        f"which removes the deficit of patients, this one's {changes['losses not felt']}, and that "
        f"of a learner who cannot reverse {changes[_AFTERTHOUGHT[0]]}. Without a felt cost of time "
        f"a decision takes {extra:+.1f} moments more and costs {loss:+.3f} in regret, and it takes "
        f"longest where it matters least: {alike:.0f} moments on the most alike options, "
        f"{apart:.0f} on the least."
    )


_AFTERTHOUGHT = ("afterthought: no reversal",)


def deficit_change(gamble: dict, name: str):
    """Number of cards by which the deficit shrinks with early losses on top, an Estimate."""
    from runs.analysis import stats

    usual, shuffled = (
        (getattr(gamble["intact"], order) - getattr(gamble[name], order)).sum(1)
        for order in GambleScores._fields
    )
    return stats.mean(usual - shuffled)


def figure(gamble: dict, ponder: dict, path: Path) -> None:
    """Draw scores for both card orders beside human data, and waiting time by distance."""
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
        for (name, scores), colour in zip(gamble.items(), colours, strict=True):
            net = getattr(scores, order)
            low = (net.sum(1) < CUT_OFF).mean()
            style = "--" if ":" in name else "-"
            label = f"{name}, {low:.0%} below {CUT_OFF}" if axis is axes[0] else None
            axis.plot(blocks, net.mean(0), style, color=colour, lw=2, label=label)
        axis.axhline(0, color="#999999", lw=0.8)
        axis.set(title=f"Gamble, {title}", xlabel="block of 20 cards", xticks=blocks)
    axes[0].set_ylabel("net score, (C + D) - (A + B)")
    axes[1].sharey(axes[0])
    for (arm, decisions), colour in zip(ponder.items(), colours, strict=False):
        parts = by_difficulty(decisions)
        means = [stats.mean(per_seed(decisions, "waited", part)) for _, part in parts]
        middle, low, high = np.array(means).T
        distances = [distance for distance, _ in parts]
        regret = per_seed(decisions, "regret").mean()
        label = f"cost of time {'' if arm == 'intact' else 'not '}felt, regret {regret:.2f}"
        axes[2].plot(distances, middle, "o-", color=colour, lw=2, label=label)
        axes[2].fill_between(distances, low, high, color=colour, alpha=0.15, lw=0)
    axes[2].set(
        title="Ponder, time to decide",
        xlabel="difference between the options",
        ylabel="moments waited",
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
