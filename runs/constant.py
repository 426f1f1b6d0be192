"""Constant-reward control: which gains of intrinsic rewards does a constant bonus reproduce?

A bonus may help by its information, or by shifting all rewards: a negative constant makes a
zero-initialised table optimistic about untried actions, a positive one prefers tried ones. So every
intrinsic reward is compared with constants, in the same code and on the same seeds: in
HungryThirsty (lifetime fitness; Singh, Lewis & Barto, 2009), in DeepSea (share of episodes after
which the greedy policy finds the treasure; Osband et al., 2020) and in CartPole (mean return over
the learning curve), where signals, or their running means, are added to the reward at weight .1.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runs.cli.settings import check_recordable, parse_settings, run_main, shell_command
from runs.errors import UserError
from runs.names import checked_choice

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
        worlds: names among HungryThirsty, DeepSea and CartPole.
        seeds: per arm, at least 3; in HungryThirsty, per arm and layout (12 layouts).
        steps: environment steps per seed in CartPole.
        episodes: per seed in DeepSea.
        size: side length of the DeepSea grid.
        smoke: a run of seconds to test the code; its numbers mean nothing.
        record: write to runs/results/ instead of runs/logs/constant/.
    """

    worlds: tuple[str, ...] = WORLDS
    seeds: int = 8
    steps: int = 100_000
    episodes: int = 8_000
    size: int = 14
    smoke: bool = False
    record: bool = False


class ArmScores(NamedTuple):
    """Scores of one arm in one world.

    Attributes:
        world: of WORLDS.
        arm: its name.
        kind: "none", "feeling" or "constant".
        each: score per run [N]; the n-th runs of all arms of a world share their random numbers.
    """

    world: str
    arm: str
    kind: str
    each: Any


class ConstantRow(NamedTuple):
    """One row of the table: an arm's scores, and their paired differences with intervals.

    Attributes:
        scores: of the arm.
        mean: of the scores.
        gain: over the arm `none`; None for `none` itself.
        beyond: of an intrinsic reward over the best constant of its world; None for other arms.
    """

    scores: ArmScores
    mean: Any
    gain: Any
    beyond: Any


def main(argv: list[str]) -> int:
    """Run the study and write its table and figure -> exit code."""
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
    """Reject invalid settings.

    Raises:
        UserError: for an unknown world, none, or one named twice; a number out of range; a recorded
            smoke run.
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


def study(settings: Settings, log: Callable[[str], None]) -> Iterator[ArmScores]:
    """Yield the scores of every arm of every world."""
    if settings.smoke:
        settings = replace(settings, seeds=3, steps=2048, episodes=100, size=5)
    for world in settings.worlds:
        for scores in {
            "HungryThirsty": hungry_thirsty,
            "DeepSea": deep_sea,
            "CartPole": cartpole,
        }[world](settings):
            log(f"{world}  {scores.arm}: {scores.each.mean():.3g}")
            yield scores


# --- the worlds -----------------------------------------------------------------------------------


def hungry_thirsty(settings: Settings) -> Iterator[ArmScores]:
    """Yield lifetime fitness [12 S] for fitness, intrinsic rewards, and fitness plus constants."""
    from runs.theory import hungry_thirsty as theory

    intrinsic = ("evolved four-tuple", "drive reduction alone", "fitness + PBRS, phi = 2 - D")
    rows = {"none": theory.ROWS["fitness"]} | {name: theory.ROWS[name] for name in intrinsic}
    rows |= {f"constant {level:+}": theory.with_constant(level) for level in LEVELS}
    steps = 1000 if settings.smoke else theory.STEPS
    results = theory.fitness(0, range(settings.seeds), rows, steps)
    for name, fitness in results.items():
        kind = "feeling" if name in intrinsic else "constant"
        yield ArmScores("HungryThirsty", name, "none" if name == "none" else kind, fitness.ravel())


def deep_sea(settings: Settings) -> Iterator[ArmScores]:
    """Yield the share of episodes [S] after which a greedy Q-learner finds the treasure."""
    from runs.theory.deep_sea import CURIOSITY, run_dives

    for name, kind, blend in arms({"curiosity": CURIOSITY}):
        found_treasure = run_dives(settings.size, blend, settings.seeds, settings.episodes).known
        yield ArmScores("DeepSea", name, kind, found_treasure.mean(1))


def cartpole(settings: Settings) -> Iterator[ArmScores]:
    """Yield the mean return [S] of PPO over its learning curve, at most 500."""
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
    heads = {
        "curiosity": (WEIGHT, Normalised(Curiosity)),
        "hope": (WEIGHT, Hope),
        "fear": (WEIGHT, Fear),
    }
    levels = LEVELS
    if settings.smoke:  # few programs to compile
        heads, levels = {"curiosity": heads["curiosity"]}, ()
    for name, kind, blend in arms(heads, levels):
        trainer = JaxBackend(suite, Arm(name, blend), run_config)
        run, curve = trainer.start(), []
        for _ in range(points):
            run, _, finite = trainer.chunk(run, _never_stop)
            ((_, scores),) = trainer.score(run, 0, _never_stop)
            curve.append(scores["return"][: settings.seeds])
        if not np.asarray(finite)[: settings.seeds].all():
            raise UserError(f"CartPole, arm {name}: training gave non-finite numbers")
        yield ArmScores("CartPole", name, kind, np.mean(curve, 0))


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


def _never_stop() -> bool:
    return False


# --- results --------------------------------------------------------------------------------------


def summarise(scores: list[ArmScores]) -> list[ConstantRow]:
    """Table rows: means, paired differences, and differences to the constant with the best mean."""
    from runs.analysis import stats

    lines = []
    for world in dict.fromkeys(arm.world for arm in scores):
        world_scores = [arm for arm in scores if arm.world == world]
        none = next(arm for arm in world_scores if arm.kind == "none").each
        best = best_constant(world_scores)
        for arm in world_scores:
            gain = None if arm.kind == "none" else stats.mean(arm.each - none)
            beyond = stats.mean(arm.each - best.each) if arm.kind == "feeling" else None
            lines.append(ConstantRow(arm, stats.mean(arm.each), gain, beyond))
    return lines


def best_constant(scores: list[ArmScores]) -> ArmScores:
    """Scores of the constant arm with the highest mean."""
    return max((arm for arm in scores if arm.kind == "constant"), key=lambda arm: arm.each.mean())


def finding(rows: list[ConstantRow]) -> str:
    """One sentence with intervals: which rewards gain over none, and what constants gain."""
    intrinsic = [row for row in rows if row.scores.kind == "feeling"]
    gains = [row for row in intrinsic if row.gain.low > 0]
    count = f"{len(gains)} of {len(intrinsic)} intrinsic rewards gained anything over none"
    if not gains:
        return f"Finding: {count}, so there is nothing for a constant to reproduce."
    n_beyond = sum(row.beyond.low > 0 for row in gains)
    gained = []
    for row in gains:
        world = row.scores.world
        best = best_constant([other.scores for other in rows if other.scores.world == world])
        best_gain = next(other.gain for other in rows if other.scores is best)
        number = number_format(row)
        gained.append(
            f"{row.scores.arm} in {world} {row.gain:+{number}}, "
            f"{best.arm} there {best_gain:+{number}} "
            f"({best_gain.value / row.gain.value:.0%}), difference {row.beyond:+{number}}"
        )
    return (
        f"Finding: {count}, and {n_beyond} of these {len(gains)} went beyond the best constant of "
        f"their world: {'; '.join(gained)}."
    )


HEADINGS = ("world", "arm", "runs", "score", "gain over none [95 %]", "beyond the best constant")


def number_format(line: ConstantRow) -> str:
    """Number format of a row, by its world."""
    return {"HungryThirsty": ",.0f", "DeepSea": ".3f", "CartPole": ".1f"}[line.scores.world]


def table_row(line: ConstantRow) -> list[str]:
    """Cells of one row of the table, in the order of HEADINGS."""
    scores, form = line.scores, number_format(line)
    differences = ["-" if d is None else f"{d:+{form}}" for d in (line.gain, line.beyond)]
    return [scores.world, scores.arm, str(len(scores.each)), f"{line.mean:{form}}", *differences]


def print_table(lines: list[ConstantRow]) -> None:
    """Print the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i < 2 else "right")
    for line in lines:
        table.add_row(*table_row(line))
    Console(width=150, markup=False).print(table)


def markdown(results: list[ConstantRow], settings: Settings, command: str, machine: str) -> str:
    """Markdown report: finding, table, command and machine."""
    rows = [HEADINGS, ["---"] * 3 + ["---:"] * 3, *map(table_row, results)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    units = "; ".join(f"{world}: {UNITS[world]}" for world in settings.worlds)
    return (
        f"# Constant-reward control\n\n{finding(results)}\n\n"
        "![Scores of all arms](constant.png)\n\n"
        f"{table}\n\nScores are {units}. Differences are paired, run by run; t intervals at 95 %, "
        "not corrected for the number of arms; runs in one layout count as independent. The best "
        "constant of a world is the best afterwards, which favours constants a little. `mean of` "
        f"a feeling pays its running mean at every step.\n\n`{command}`\n\n{machine}\n"
    )


def figure(lines: list[ConstantRow], path: Path) -> None:
    """Draw mean and interval of every arm, a panel per world."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    worlds = list(dict.fromkeys(line.scores.world for line in lines))
    colours = {"none": "#2b2f36", "feeling": "#d98324", "constant": "#8a94a1"}
    most_arms = max(sum(line.scores.world == world for line in lines) for world in worlds)
    size = (4.6 * len(worlds), 0.3 * most_arms + 1.4)
    sheet, axes = plt.subplots(1, len(worlds), figsize=size, squeeze=False)
    for axis, world in zip(axes[0], worlds, strict=True):
        shown = [line for line in lines if line.scores.world == world][::-1]
        for y, line in enumerate(shown):
            middle, low, high = line.mean
            colour = colours[line.scores.kind]
            axis.plot([low, high], [y, y], color=colour, linewidth=2)
            axis.plot(middle, y, "o", color=colour)
        axis.set_yticks(range(len(shown)), [line.scores.arm for line in shown], fontsize=8)
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
    """Print a progress line to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_main(main)
