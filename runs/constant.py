"""Study of constant bonuses: which gains of intrinsic rewards does a constant reward reproduce?

A bonus may help by its information, or by shifting all rewards: a negative constant makes a
zero-initialised table optimistic about untried actions, a positive one prefers tried ones. So every
intrinsic reward is compared with constants, in the same code and on the same seeds: in
HungryThirsty (lifetime fitness; Singh, Lewis & Barto, 2009), in DeepSea (share of episodes after
which the greedy policy finds the treasure; Osband et al., 2020) and in CartPole (mean return over
the learning curve), where signals, or their running means, are added to the reward at weight .1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runs.analysis import stats
from runs.analysis.stats import Estimate
from runs.cli.settings import StudySettings, run_main
from runs.cli.settings import check as check_shared
from runs.cli.study import Job, run_study
from runs.errors import Interrupted, UserError
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import new_figure, save_with_legend

COMMAND = "python -m runs.constant"
UNITS = {
    "HungryThirsty": "steps not hungry",
    "DeepSea": "share of episodes",
    "CartPole": "mean return",
}
FORMATS = {"HungryThirsty": ",.0f", "DeepSea": ".3f", "CartPole": ".1f"}
LEVELS = (-0.1, -0.01, 0.01, 0.1)
WEIGHT, GAMMA = 0.1, 0.99
COLOURS = {"none": "#2b2f36", "feeling": "#d98324", "constant": "#8a94a1"}
HEADINGS = ("world", "arm", "runs", "score", "gain over none [95 %]", "beyond the best constant")


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the study.

    Attributes:
        worlds: names among HungryThirsty, DeepSea and CartPole.
        seeds: per arm, at least 3; in HungryThirsty, per arm and layout (12 layouts).
        steps: environment steps per seed in CartPole.
        episodes: per seed in DeepSea.
        size: side length of the DeepSea grid.
    """

    known = {"worlds": ("world", UNITS)}
    least = dict.fromkeys(("steps", "episodes"), (1, "must be at least 1"))
    least |= {"size": (2, "must be at least 2")}
    worlds: tuple[str, ...] = tuple(UNITS)
    seeds: int = 8
    steps: int = 100_000
    episodes: int = 8_000
    size: int = 14


Scores = tuple[str, str, Any]
"""Name of an arm; its kind: "none", "feeling" or "constant"; scores [N], where the n-th runs of all
arms of a world share their random numbers."""


class ConstantRow(NamedTuple):
    """One row of the table, with estimates that are paired run by run.

    Attributes:
        world: of UNITS.
        arm: its name.
        kind: of COLOURS.
        runs: number of them.
        mean: of the scores.
        gain: over the arm `none`; None for `none` itself.
        beyond: of an intrinsic reward over the best constant of its world; None for other arms.
    """

    world: str
    arm: str
    kind: str
    runs: int
    mean: Estimate
    gain: Estimate | None
    beyond: Estimate | None


def check(settings: Settings) -> None:
    """Reject invalid settings.

    Raises:
        UserError: for an unknown world, none, or one named twice; a number out of range; a recorded
            smoke run.
    """
    if not settings.worlds or len(set(settings.worlds)) < len(settings.worlds):
        raise UserError(f"--worlds: name each of {', '.join(UNITS)} at most once, and one at least")
    check_shared(settings)


def study(job: Job) -> Page:
    """Score all arms of every world, and report; finished worlds are kept."""
    from runs.engine.cache import cached_part

    settings, rows = job.settings, []
    if settings.smoke:
        settings = replace(settings, seeds=3, steps=2048, episodes=100, size=5)
    job.progress.total = len(settings.worlds)
    for i, world in enumerate(settings.worlds):
        compute = partial(score_world, job, settings, world)
        part, fresh = cached_part(job.out / f"{world}.json", repr(settings), compute)
        job.progress.advance(world, i + 1, fresh)
        rows += summarise(world, part["arms"])
    units = "; ".join(f"{world}: {UNITS[world]}" for world in settings.worlds)
    sections = [
        finding(rows),
        "![Scores of all arms](constant.png)",
        markdown_table(HEADINGS, [table_row(row) for row in rows]),
        f"Scores are {units}. Differences are paired, run by run; t intervals at 95 %, not "
        "corrected for the number of arms; runs in one layout count as independent. The best "
        "constant of a world is the best afterwards, which favours constants a little. `mean of` "
        "a feeling pays its running mean at every step.",
    ]
    text = page_text("Constant-reward control", sections, job.command)
    return Page("constant", text, {"": partial(draw_scores, rows)})


# --- the worlds -----------------------------------------------------------------------------------


def score_world(job: Job, settings: Settings, world: str) -> dict[str, list[Scores]]:
    """Scores of every arm of a world, as JSON holds them.

    Raises:
        Interrupted: if the user requested a stop.
    """
    scorers = {"HungryThirsty": hungry_thirsty, "DeepSea": deep_sea, "CartPole": cartpole}
    arms = []
    for name, kind, scores in scorers[world](job, settings):
        if job.stopped():
            raise Interrupted
        job.progress.say(f"{world}  {name}: {scores.mean():.3g}")
        arms.append((name, kind, scores.tolist()))
    return {"arms": arms}


def hungry_thirsty(job: Job, settings: Settings) -> Iterator[Scores]:
    """Yield lifetime fitness [12 S] for fitness, intrinsic rewards, and fitness plus constants."""
    from runs.theory import hungry_thirsty as theory

    intrinsic = ("evolved four-tuple", "drive reduction alone", "fitness + PBRS, phi = 2 - D")
    rows = {"none": theory.ROWS["fitness"]} | {name: theory.ROWS[name] for name in intrinsic}
    rows |= {f"constant {level:+}": theory.with_constant(level) for level in LEVELS}
    steps = 1000 if settings.smoke else theory.STEPS
    results = theory.fitness(0, range(settings.seeds), rows, steps)
    for name, fitness in results.items():
        kind = "feeling" if name in intrinsic else "constant"
        yield name, "none" if name == "none" else kind, fitness.ravel()


def deep_sea(job: Job, settings: Settings) -> Iterator[Scores]:
    """Yield the share of episodes [S] after which a greedy Q-learner finds the treasure."""
    from runs.theory.deep_sea import CURIOSITY, run_dives

    for name, kind, blend in arms({"curiosity": CURIOSITY}):
        results = run_dives(settings.size, blend, settings.seeds, settings.episodes)
        yield name, kind, results.known.mean(1)


def cartpole(job: Job, settings: Settings) -> Iterator[Scores]:
    """Yield the mean return [S] of PPO over its learning curve, at most 500."""
    from affect import Curiosity, Fear, Hope, Normalised
    from agents.ppo import PPO
    from envs import load_suite
    from envs.worlds.classic.cartpole import CartPole
    from runs.engine.backend import make_backend
    from runs.engine.config import head_epochs, make_run_config
    from runs.engine.evaluate import draw_points
    from runs.engine.phases import Phase, one_world

    heads = {
        "curiosity": (WEIGHT, Normalised(Curiosity)),
        "hope": (WEIGHT, Hope),
        "fear": (WEIGHT, Fear),
    }
    levels = LEVELS
    if settings.smoke:  # few programs to compile
        heads, levels = {"curiosity": heads["curiosity"]}, ()
    sizes = {"seeds": settings.seeds, "steps": settings.steps, "num_envs": 4, "num_steps": 128}
    sizes |= {"episodes": 4, "chunks": 2} if settings.smoke else {"episodes": 64, "chunks": 10}
    config = make_run_config(PPO(gamma=GAMMA), **sizes, optimise=not settings.smoke)
    suite, backend = replace(load_suite("CartPole"), shifts=()), make_backend(CartPole(), config)
    points = draw_points(suite, backend.draws, config.base)
    for name, kind, blend in arms(heads, levels):
        blend = blend.with_epochs(head_epochs(config))
        phase = Phase(one_world(suite.world), config.chunks, config.updates, config.agent, blend)
        state, curve = backend.init(phase), []
        for i in range(config.chunks):
            state, _, finite = backend.train(state, phase, i * config.updates, job.stopped)
            if not np.asarray(finite)[: config.seeds].all():
                raise UserError(f"CartPole, arm {name}: training gave non-finite numbers")
            (scores,) = backend.evaluate(state.learner, config.agent, points, job.stopped)
            curve.append(scores["return"][: config.seeds])
        yield name, kind, np.mean(curve, 0)


def arms(
    heads: dict[str, tuple], levels: tuple[float, ...] = LEVELS
) -> Iterator[tuple[str, str, Any]]:
    """Yield (arm, kind, blend): no head, each head and its running mean, constants."""
    from affect import Blend, Constant, ConstantOf

    yield "none", "none", Blend()
    for name, (weight, factory) in heads.items():
        yield name, "feeling", Blend(**{name: (weight, factory)})
        yield f"mean of {name}", "constant", Blend(**{name: (weight, ConstantOf(factory))})
    for level in levels:
        constant = partial(Constant, value=level)
        yield f"constant {level:+}", "constant", Blend(constant=(1.0, constant))


# --- results --------------------------------------------------------------------------------------


def summarise(world: str, arms: list[Scores]) -> list[ConstantRow]:
    """Rows of a world: means, paired differences, and differences to the best constant."""
    scores = {name: np.asarray(runs, float) for name, _, runs in arms}
    best = max((scores[name] for name, kind, _ in arms if kind == "constant"), key=np.mean)
    rows = []
    for name, kind, _ in arms:
        own = scores[name]
        gain = None if kind == "none" else stats.mean(own - scores["none"])
        beyond = stats.mean(own - best) if kind == "feeling" else None
        rows.append(ConstantRow(world, name, kind, len(own), stats.mean(own), gain, beyond))
    return rows


def finding(rows: list[ConstantRow]) -> str:
    """One sentence with intervals: which rewards gain over none, and what constants gain."""
    intrinsic = [row for row in rows if row.kind == "feeling"]
    gains = [row for row in intrinsic if row.gain.low > 0]
    count = f"{len(gains)} of {len(intrinsic)} intrinsic rewards gained anything over none"
    if not gains:
        return f"Finding: {count}, so there is nothing for a constant to reproduce."
    beyond, sentences = sum(row.beyond.low > 0 for row in gains), []
    for row in gains:
        constants = [r for r in rows if (r.world, r.kind) == (row.world, "constant")]
        best = max(constants, key=lambda row: row.mean.value)
        form = FORMATS[row.world]
        sentences.append(
            f"{row.arm} in {row.world} {row.gain:+{form}}, {best.arm} there {best.gain:+{form}} "
            f"({best.gain.value / row.gain.value:.0%}), difference {row.beyond:+{form}}"
        )
    return (
        f"Finding: {count}, and {beyond} of these {len(gains)} went beyond the best constant of "
        f"their world: {'; '.join(sentences)}."
    )


def table_row(row: ConstantRow) -> list[str]:
    """Cells of one row of the table, in the order of HEADINGS."""
    form = FORMATS[row.world]
    differences = ["-" if d is None else f"{d:+{form}}" for d in (row.gain, row.beyond)]
    return [row.world, row.arm, str(row.runs), f"{row.mean:{form}}", *differences]


def draw_scores(rows: list[ConstantRow], path: Path) -> None:
    """Draw mean and interval of every arm, a panel per world."""
    names = list(dict.fromkeys(row.world for row in rows))
    worlds = {name: [row for row in reversed(rows) if row.world == name] for name in names}
    height = 0.3 * max(map(len, worlds.values())) + 1.4
    figure, axes = new_figure(1, len(worlds), (4.6 * len(worlds), height))
    for axis, (world, shown) in zip(axes[0], worlds.items(), strict=True):
        for y, row in enumerate(shown):
            middle, low, high = row.mean
            axis.plot([low, high], [y, y], color=COLOURS[row.kind], linewidth=2)
            axis.plot(middle, y, "o", color=COLOURS[row.kind])
        axis.set_yticks(range(len(shown)), [row.arm for row in shown], fontsize=8)
        axis.set_title(world, fontsize=11)
        axis.set_xlabel(UNITS[world], fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    for kind, colour in COLOURS.items():
        axes[0, 0].plot([], [], "o-", color=colour, label=kind)
    save_with_legend(figure, path, loc="outside lower center")


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
