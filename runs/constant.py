"""The control nobody runs: which gains of intrinsic reward does a constant reproduce?

A bonus may work because of what it knows, or because every step is paid a little more or less: a
constant below zero makes a zero-initialised table optimistic about what it has not tried, one above
zero makes it cling to what it has. So every intrinsic reward stands beside constants, on the same
code path and the same seeds: in HungryThirsty (fitness of a life; Singh, Lewis & Barto, 2009), in
DeepSea (share of life in which the treasure is known; Osband et al., 2020) and in CartPole (mean
return over the learning curve), where feelings are paid out as reward, at weight .1, beside their
own running mean.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runs.cli.settings import (
    check_recordable,
    checked_choice,
    parse_settings,
    run_main,
    shell_command,
)
from runs.errors import UserError

COMMAND = "python -m runs.constant"
WORLDS = ("HungryThirsty", "DeepSea", "CartPole")
LEVELS = (-0.1, -0.01, 0.01, 0.1)
WEIGHT, GAMMA = 0.1, 0.99
UNITS = {
    "HungryThirsty": "steps not hungry",
    "DeepSea": "share of life",
    "CartPole": "mean return",
}


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        worlds: of HungryThirsty, DeepSea and CartPole.
        seeds: of each arm, at least 3; in HungryThirsty, of each of its 12 layouts.
        steps: environment steps a seed in CartPole.
        episodes: of a seed in DeepSea.
        size: of DeepSea.
        smoke: a run of seconds, which touches everything and means nothing.
        record: write to runs/results/ and not to runs/logs/constant/.
    """

    worlds: tuple[str, ...] = WORLDS
    seeds: int = 8
    steps: int = 100_000
    episodes: int = 8_000
    size: int = 14
    smoke: bool = False
    record: bool = False


class ArmScores(NamedTuple):
    """What an arm came to.

    Attributes:
        world: of WORLDS.
        arm: its name.
        kind: "none", "feeling" or "constant".
        each: [N] a score a run; the n-th runs of all arms of a world share their random numbers.
    """

    world: str
    arm: str
    kind: str
    each: Any


class ConstantRow(NamedTuple):
    """One row of the table: an arm's scores, and their paired differences with intervals.

    Attributes:
        scores: of the arm.
        mean: of them.
        gain: over feeling nothing; None for that arm.
        beyond: of a feeling over the best constant of its world; None for all others.
    """

    scores: ArmScores
    mean: Any
    gain: Any
    beyond: Any


def main(argv: list[str]) -> int:
    """Parses, then runs; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.engine import devices

    devices.prepare_devices()
    folder = Path("runs/results" if settings.record else "runs/logs/constant")
    try:
        lines = summarise(list(study(settings, print_progress)))
    except KeyboardInterrupt:
        print_progress("stopped; nothing was written")
        return 130
    command = shell_command(COMMAND, argv)
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "constant.md").write_text(markdown(lines, settings, command, machine))
    figure(lines, folder / "constant.png")
    print_table(lines)
    print(f"\n{finding(lines)}\n\ntable, figure   {folder}/constant.md, {folder}/constant.png")
    return 0


def check(settings: Settings) -> None:
    """Refuses what makes no sense.

    Raises:
        UserError: for an unknown world, none, or one named twice; a number out of range; a smoke
            run that is to be recorded.
    """
    for name in settings.worlds:
        checked_choice("world", name, WORLDS)
    if not settings.worlds or len(set(settings.worlds)) < len(settings.worlds):
        raise UserError(
            f"--worlds: name each of {', '.join(WORLDS)} at most once, and one at least"
        )
    for name, least in (("seeds", 3), ("steps", 1), ("episodes", 1), ("size", 2)):
        if getattr(settings, name) < least:
            raise UserError(f"--{name} {getattr(settings, name)}: must be at least {least}")
    check_recordable(settings)


def study(settings: Settings, say: Callable[[str], None]) -> Iterator[ArmScores]:
    """Yields the scores of every arm of every world."""
    if settings.smoke:
        settings = replace(settings, seeds=3, steps=2048, episodes=100, size=5)
    for world in settings.worlds:
        for scores in {
            "HungryThirsty": hungry_thirsty,
            "DeepSea": deep_sea,
            "CartPole": cartpole,
        }[world](settings):
            say(f"{world}  {scores.arm}: {scores.each.mean():.3g}")
            yield scores


# --- the worlds -----------------------------------------------------------------------------------


def hungry_thirsty(settings: Settings) -> Iterator[ArmScores]:
    """Fitness [12 S] of lives on fitness, on intrinsic rewards, and on fitness and a constant."""
    from runs.theory import hungry_thirsty as theory

    feelings = ("evolved four-tuple", "drive reduction alone", "fitness + PBRS, phi = 2 - D")
    rows = {"none": theory.ROWS["fitness"]} | {name: theory.ROWS[name] for name in feelings}
    rows |= {f"constant {level:+}": theory.with_constant(level) for level in LEVELS}
    steps = 1000 if settings.smoke else theory.STEPS
    found = theory.fitness(0, range(settings.seeds), rows, steps)
    for name, fitness in found.items():
        kind = "feeling" if name in feelings else "constant"
        yield ArmScores("HungryThirsty", name, "none" if name == "none" else kind, fitness.ravel())


def deep_sea(settings: Settings) -> Iterator[ArmScores]:
    """The share of episodes [S] at which a tabular Q-learner knows the way to the treasure."""
    from runs.theory.deep_sea import CURIOSITY, run_dives

    for name, kind, blend in arms({"curiosity": CURIOSITY}):
        known = run_dives(settings.size, blend, settings.seeds, settings.episodes).known
        yield ArmScores("DeepSea", name, kind, known.mean(1))


def cartpole(settings: Settings) -> Iterator[ArmScores]:
    """The mean return [S] of PPO over its learning curve, of 500 at most."""
    import jax
    import numpy as np

    from affect import Curiosity, Fear, Hope, Normalised
    from agents.ppo import PPO
    from envs import load_suite
    from envs.worlds.classic.cartpole import CartPole
    from runs.engine.arms import Arm
    from runs.engine.jax_backend import JaxBackend
    from runs.engine.run_config import RunConfig

    num_envs, num_steps, points = 4, 128, 2 if settings.smoke else 10
    updates = max(settings.steps // (num_envs * num_steps * points), 1)
    agent = PPO(anneal=points * updates, gamma=GAMMA)
    rows = -(-settings.seeds // len(jax.devices())) * len(jax.devices())
    episodes = 4 if settings.smoke else 64
    run_config = RunConfig(
        agent, settings.seeds, rows, points, updates, num_envs, num_steps, episodes
    )
    run_config = replace(run_config, optimise=not settings.smoke)
    suite = replace(load_suite("CartPole"), env=CartPole(), shifts=(), randomised=None)
    feelings = {
        "curiosity": (WEIGHT, Normalised(Curiosity)),
        "hope": (WEIGHT, Hope),
        "fear": (WEIGHT, Fear),
    }
    levels = LEVELS
    if settings.smoke:  # few programs to compile
        feelings, levels = {"curiosity": feelings["curiosity"]}, ()
    for name, kind, blend in arms(feelings, levels):
        trainer = JaxBackend(suite, Arm(name, blend), run_config)
        run, curve = trainer.start(), []
        for _ in range(points):
            run, _, finite = trainer.chunk(run, _never)
            ((_, scores),) = trainer.score(run, 0, _never)
            curve.append(scores["return"][: settings.seeds])
        if not np.asarray(finite)[: settings.seeds].all():
            raise UserError(f"CartPole, arm {name}: training made what is not a number")
        yield ArmScores("CartPole", name, kind, np.mean(curve, 0))


def arms(
    feelings: dict[str, tuple], levels: tuple[float, ...] = LEVELS
) -> Iterator[tuple[str, str, Any]]:
    """Yields (arm, kind, blend): nothing, each feeling and its running mean, constants."""
    from affect import Blend, Constant, ConstantOf

    yield "none", "none", Blend()
    for name, (weight, factory) in feelings.items():
        yield name, "feeling", Blend(**{name: (weight, factory)})
        yield f"mean of {name}", "constant", Blend(**{name: (weight, ConstantOf(factory))})
    for level in levels:
        constant = partial(Constant, value=level)
        yield f"constant {level:+}", "constant", Blend(constant=(1.0, constant))


def _never() -> bool:
    return False


# --- what was found -------------------------------------------------------------------------------


def summarise(scores: list[ArmScores]) -> list[ConstantRow]:
    """The table. Differences are paired, run by run; the best constant is the best afterwards."""
    from runs.analysis import stats

    lines = []
    for world in dict.fromkeys(one.world for one in scores):
        here = [one for one in scores if one.world == world]
        none = next(one for one in here if one.kind == "none").each
        best = best_constant(here)
        for one in here:
            gain = None if one.kind == "none" else stats.mean(one.each - none)
            beyond = stats.mean(one.each - best.each) if one.kind == "feeling" else None
            lines.append(ConstantRow(one, stats.mean(one.each), gain, beyond))
    return lines


def best_constant(scores: list[ArmScores]) -> ArmScores:
    """The constant of a world whose mean is highest."""
    return max((one for one in scores if one.kind == "constant"), key=lambda one: one.each.mean())


def finding(lines: list[ConstantRow]) -> str:
    """One sentence with the intervals: which gains there are, and what a constant gains."""
    feelings = [line for line in lines if line.scores.kind == "feeling"]
    gains = [line for line in feelings if line.gain.low > 0]
    counted = f"{len(gains)} of {len(feelings)} intrinsic rewards gained anything over none"
    if not gains:
        return f"Finding: {counted}, so there is nothing for a constant to reproduce."
    kept = sum(line.beyond.low > 0 for line in gains)
    told = []
    for line in gains:
        world = line.scores.world
        best = best_constant([other.scores for other in lines if other.scores.world == world])
        by = next(other.gain for other in lines if other.scores is best)
        form = number_format(line)
        told.append(
            f"{line.scores.arm} in {world} {line.gain:+{form}}, {best.arm} there {by:+{form}} "
            f"({by.value / line.gain.value:.0%}), difference {line.beyond:+{form}}"
        )
    return (
        f"Finding: {counted}, and {kept} of these {len(gains)} went beyond the best constant of "
        f"their world: {'; '.join(told)}."
    )


HEADINGS = ("world", "arm", "runs", "score", "gain over none [95 %]", "beyond the best constant")


def number_format(line: ConstantRow) -> str:
    """How the numbers of a line's world are written."""
    return {"HungryThirsty": ",.0f", "DeepSea": ".3f", "CartPole": ".1f"}[line.scores.world]


def table_row(line: ConstantRow) -> list[str]:
    """One row of the table."""
    scores, form = line.scores, number_format(line)
    differences = ["-" if d is None else f"{d:+{form}}" for d in (line.gain, line.beyond)]
    return [scores.world, scores.arm, str(len(scores.each)), f"{line.mean:{form}}", *differences]


def print_table(lines: list[ConstantRow]) -> None:
    """Prints the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i < 2 else "right")
    for line in lines:
        table.add_row(*table_row(line))
    Console(width=150, markup=False).print(table)


def markdown(lines: list[ConstantRow], settings: Settings, command: str, machine: str) -> str:
    """The finding, the table, the command that made them and the machine."""
    rows = [HEADINGS, ["---"] * 3 + ["---:"] * 3, *map(table_row, lines)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    units = "; ".join(f"{world}: {UNITS[world]}" for world in settings.worlds)
    return (
        f"# The control nobody runs\n\n{finding(lines)}\n\n![Scores of all arms](constant.png)\n\n"
        f"{table}\n\nScores are {units}. Differences are paired, run by run; t intervals at 95 %, "
        "not corrected for the number of arms; runs in one layout count as independent. The best "
        "constant of a world is the best afterwards, which favours constants a little. `mean of` "
        f"a feeling pays its running mean at every step.\n\n`{command}`\n\n{machine}\n"
    )


def figure(lines: list[ConstantRow], path: Path) -> None:
    """A panel a world: every arm's mean and interval, feelings in colour, constants in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    worlds = list(dict.fromkeys(line.scores.world for line in lines))
    colours = {"none": "#2b2f36", "feeling": "#d98324", "constant": "#8a94a1"}
    most = max(sum(line.scores.world == world for line in lines) for world in worlds)
    size = (4.6 * len(worlds), 0.3 * most + 1.4)
    sheet, axes = plt.subplots(1, len(worlds), figsize=size, squeeze=False)
    for axis, world in zip(axes[0], worlds, strict=True):
        here = [line for line in lines if line.scores.world == world][::-1]
        for y, line in enumerate(here):
            middle, low, high = line.mean
            colour = colours[line.scores.kind]
            axis.plot([low, high], [y, y], color=colour, linewidth=2)
            axis.plot(middle, y, "o", color=colour)
        axis.set_yticks(range(len(here)), [line.scores.arm for line in here], fontsize=8)
        axis.set_title(world, fontsize=11)
        axis.set_xlabel(UNITS[world], fontsize=9)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for kind, colour in colours.items():
        axes[0][0].plot([], [], "o-", color=colour, label=kind)
    sheet.legend(loc="lower center", ncol=3, frameon=False, fontsize=9)
    sheet.tight_layout(rect=(0, 0.06, 1, 1))
    sheet.savefig(path, dpi=110)
    plt.close(sheet)


def print_progress(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_main(main)
