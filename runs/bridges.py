"""Stable-Baselines3's agents: do our signals help them learn, and does their critic help ours?

A part is one comparison: `deep_sea` and `mountain_car` pay curiosity to their PPO where reward is
rare, against constant rewards; `timid_ppo` and `timid_dqn` pay the zoo's value of Drive as a
potential, with the scale and the shift of its card, in Timid, where agents seldom arrive, against
constant potentials; `timid_ours` pays our PPO there the critic of a PPO of theirs that arrives in
Drive, exported as `python -m runs.export` does. `replay` pays curiosity to their DQN, whose buffer
recomputes it with the present head, against a buffer that keeps it as it was paid.

Declared for each part: the signal less no signal, and less the best of the constants (in `replay`,
which has none, less the signal as it was paid), in the area under the learning curve, the mean of
the task's return over the training; Holm over the two. The best constant is chosen by the same
areas, in favour of the control. An interrupted part is resumed
by the same command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from runs.analysis import stats
from runs.analysis.contrasts import Contrast, contrasts
from runs.analysis.scores import rows_as_csv
from runs.cli.settings import TrainingSettings, check, run_main
from runs.cli.study import Job, run_study
from runs.errors import UserError
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_line, new_figure, save_with_legend

if TYPE_CHECKING:
    import gymnasium
    import pandas as pd

    from affect import Factory
    from runs.experiment import Experiment
    from runs.result import Result

COMMAND = "python -m runs.bridges"
SIGNAL, STALE, SHIFT = "signal", "stale", "noise"
REWARDS = ("none", "constant_plus", "constant_minus")
POTENTIALS = ("none", "potential_-1", "potential_-0.5")
PPO = {"n_steps": 64, "batch_size": 128, "learning_rate": 0.001}
DRIVING = {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 0.001}
DRIVING |= {"ent_coef": 0.01}  # as those of our PPO in Drive
DQN = {"train_freq": 4, "gradient_steps": 8, "batch_size": 64, "learning_rate": 0.0005}
DQN |= {"learning_starts": 2000, "buffer_size": 50_000, "target_update_interval": 1000}
DQN |= {"exploration_fraction": 0.3}
RECOMPUTED = {"replay_buffer_class": "AffectReplayBuffer"}
REPLAYED = DQN | {"learning_starts": 500, "target_update_interval": 500} | RECOMPUTED
SIZES = {"num_steps": 64, "recordings": False, "probe_signals": False}
SMALL = {"steps": 256, "num_envs": 2, "num_steps": 64, "episodes": 2, "optimise": False}
COLUMNS = ("part", "arm", "seed", "area", "home", "shifted")
HEADINGS = ("arm", "area", "return at home", f"under {SHIFT}", "area less none")


def mountain_car() -> "gymnasium.Env":
    """MountainCar-v0 with observations in [-1, 1]: unscaled, its speeds are at most .07."""
    import gymnasium

    low, high = np.float32([-1, 1])
    return gymnasium.wrappers.RescaleObservation(gymnasium.make("MountainCar-v0"), low, high)


class Part(NamedTuple):
    """One comparison.

    Attributes:
        title: of its page.
        signal: what is paid, in words.
        env: id of the environment in which agents learn, or a function that makes it.
        controls: arms of `runs.engine.arms.comparison_arms`, `none` among them.
        steps: environment steps a seed.
        agent: an algorithm of Stable-Baselines3; empty for our PPO.
        settings: of the algorithm.
        world: arguments of the environment.
    """

    title: str
    signal: str
    env: "str | Callable[[], gymnasium.Env]"
    controls: tuple[str, ...]
    steps: int
    agent: str = "sb3:PPO"
    settings: Mapping[str, Any] = PPO
    world: Mapping[str, Any] = MappingProxyType({})


VALUE = "the zoo's value of Drive"
PARTS = {
    "deep_sea": Part(
        "Curiosity for PPO of Stable-Baselines3 in DeepSea",
        *("curiosity", "affect/DeepSea-v0", REWARDS, 16_384, "sb3:PPO", PPO, {"size": 8}),
    ),
    "mountain_car": Part(
        "Curiosity for PPO of Stable-Baselines3 in MountainCar",
        *("curiosity", mountain_car, REWARDS, 61_440),
    ),
    "timid_ppo": Part(
        "The value of our agents for PPO of Stable-Baselines3",
        *(VALUE, "affect/Timid-v0", POTENTIALS, 81_920, "sb3:PPO", DRIVING),
    ),
    "timid_dqn": Part(
        "The value of our agents for DQN of Stable-Baselines3",
        *(VALUE, "affect/Timid-v0", POTENTIALS, 40_960, "sb3:DQN", DQN),
    ),
    "timid_ours": Part(
        "The critic of Stable-Baselines3 for our PPO",
        *("a critic of Stable-Baselines3 from Drive", "Timid", POTENTIALS, 150_000, "", {}),
    ),
    "replay": Part(
        "Curiosity recomputed in the replay buffer of DQN of Stable-Baselines3",
        *("curiosity as of now", "affect/DeepSea-v0", ("none",), 16_384, "sb3:DQN", REPLAYED),
        {"size": 10},
    ),
}
PARENT = Part("Parent", "", "affect/Drive-v0", ("none",), 61_440, "sb3:PPO", DRIVING)


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Settings of the study.

    Attributes:
        part: deep_sea, mountain_car, timid_ppo, timid_dqn, timid_ours or replay.
        seeds: training runs an arm, at least 3.
    """

    known = {"part": ("part", PARTS)}
    part: str = "timid_ppo"
    seeds: int = 10


def study(job: Job) -> Page:
    """Train, score and report one part."""
    part, before, head = PARTS[job.settings.part], 0, None
    if part.signal == VALUE:
        from affect import Potential, zoo

        head = Potential.from_card(zoo.path("drive-value"))
    elif part.agent == "":
        head, before = critic_of_parent(job)
    result = trained(job, comparison(part, job.settings, head), job.out, before)
    rows, curves = score_rows(job.settings.part, result), result.curves
    if RECOMPUTED.items() <= part.settings.items():
        import pandas as pd

        kept = {k: v for k, v in part.settings.items() if k not in RECOMPUTED}
        experiment = comparison(part._replace(settings=kept, controls=()), job.settings)
        other = trained(job, experiment, job.out / STALE, result.experiment.units)
        rows += [row | {"arm": STALE} for row in score_rows(job.settings.part, other)]
        curves = pd.concat([curves, other.curves.assign(arm=STALE)])
    return page(job, part, result, rows, curves)


# --- what is trained ----------------------------------------------------------------------------


def comparison(part: Part, settings: Settings, head: "Factory | None" = None) -> "Experiment":
    """The experiment of a part, whose signal is `head`, or curiosity.

    Raises:
        UserError: Stable-Baselines3 is not installed.
    """
    from affect import Blend
    from agents import Foreign
    from envs import load_suite
    from runs.engine.arms import Arm, comparison_arms
    from runs.engine.presets import preset
    from runs.experiment import Experiment

    suite = load_suite(part.env, kwargs=dict(part.world) or None)
    noise = tuple(shift for shift in suite.shifts if shift.name == SHIFT)
    suite = replace(suite, shifts=noise, severities=(1.0,))
    agent = Foreign(part.agent, part.settings) if part.agent else None
    gamma = (agent or preset(suite).agent).gamma
    known = {arm.name: arm for arm in comparison_arms(("curiosity", "hope"), gamma, suite)}
    arms = [known[name] for name in part.controls]
    if part.signal:
        blend = known["curiosity"].blend if head is None else Blend(signal=(1.0, head))
        arms.append(Arm(SIGNAL, blend))
    seeds = min(settings.seeds, 3) if settings.smoke else settings.seeds
    sizes = {"seeds": seeds, "steps": settings.steps or part.steps, "base": settings.base}
    sizes |= SIZES if agent else {"recordings": False, "probe_signals": False}
    sizes |= SMALL if settings.smoke else {"episodes": 16 if agent else 256}
    primary = (SIGNAL, "none") if part.signal and part.controls else None
    return Experiment(suite, arms, agent, primary=primary, **sizes)


def critic_of_parent(job: Job) -> "tuple[Factory, int]":
    """Trains PPO of Stable-Baselines3 in Drive -> (a critic as a potential, units done).

    Of three agents the one that is best at home is taken, since not every one arrives there. Scale
    and shift are those that `python -m runs.export` writes into a card.

    Raises:
        UserError: none of them arrives.
    """
    from affect import Potential
    from runs.export import recommended, seed_recordings

    path = job.out / "value.safetensors"
    experiment = comparison(PARENT, replace(job.settings, seeds=3, steps=0))
    result = trained(job, experiment, job.out / "parent")
    returns = home_returns(job.out / "parent")
    seed = int(returns.argmax()) if job.settings.smoke else best_parent(returns)
    head = result.value("none", seed)
    head.save(path, **recommended(head, *next(seed_recordings(result, "none", seed))))
    return Potential.from_card(path), experiment.units


def best_parent(returns: np.ndarray) -> int:
    """Seed of the parent of the highest return at home, of returns [seeds].

    Raises:
        UserError: none of them arrives.
    """
    if not returns.max() > 0:
        raise UserError(
            f"parents in Drive return {returns.max():.2f} at most, and one that arrives more than "
            "0: there is no value to hand on; choose another --base"
        )
    return int(returns.argmax())


def trained(job: Job, experiment: "Experiment", out: Path, before: int = 0) -> "Result":
    """Result of an experiment, trained and scored in a folder; `before` units came before it."""
    from runs.result import Result

    job.progress.total = before + experiment.units
    experiment.run_arms(out, job.progress, job.stopped, before)
    return Result(experiment, out)


# --- results ------------------------------------------------------------------------------------


def page(job: Job, part: Part, result: "Result", rows: list[dict], curves: "pd.DataFrame") -> Page:
    """Page, table and figure of a part, from its scores and learning curves."""
    config, name = result.experiment.run_config, f"bridges-{job.settings.part}"
    agent = f"{part.agent} {dict(part.settings)}" if part.agent else "our PPO"
    env = part.env if isinstance(part.env, str) else str(part.env.__doc__).partition(":")[0]
    env += f" {dict(part.world)}" if part.world else ""
    has_stale = any(row["arm"] == STALE for row in rows)
    stale = f"; `{STALE}`: as it was paid when a step was made" if has_stale else ""
    sections = [
        finding(part.signal, rows),
        markdown_table(HEADINGS, table(rows)),
        f"{config.seeds} seeds an arm, {config.steps:,} steps a seed in {env}, {agent}. "
        "`area`: mean of the task's return over the training episodes, by seed. Greedy returns "
        f"after training are means of {config.episodes} episodes. `{SIGNAL}`: {part.signal}{stale}."
        " Means and differences with t and Welch intervals at 95 %; p-values are Holm's over the "
        "two contrasts of the finding.",
        f"![Learning curves]({name}.png)",
    ]
    if not part.agent:
        home = home_returns(job.out / "parent")
        sections.insert(
            3,
            f"The parent is the best at home of {len(home)} agents of {PARENT.agent}, trained in "
            f"Drive: it returns {home.max():.2f} there, the worst {home.min():.2f}.",
        )
    figures = {"": partial(draw_areas, curves)}
    tables = {"": rows_as_csv(rows, header=True, columns=COLUMNS)}
    return Page(name, page_text(part.title, sections, job.command), figures, tables=tables)


def score_rows(name: str, result: "Result") -> list[dict]:
    """A row per arm and seed: area under the learning curve, and greedy returns at two points."""
    curves = result.curves.astype({"return": float})
    areas = curves.groupby(["arm", "seed"])["return"].mean()
    scores = result.scores.assign(home=result.scores["shift"] == "none")
    means = scores.groupby(["arm", "seed", "home"])["return"].mean()
    return [
        {"part": name, "arm": arm.name, "seed": seed, "area": areas[arm.name, seed]}
        | {"home": means[arm.name, seed, True], "shifted": means[arm.name, seed, False]}
        for arm in result.experiment.all_arms
        for seed in range(result.experiment.run_config.seeds)
    ]


def by_arm(rows: list[dict], measure: str) -> dict[str, np.ndarray]:
    """A measure of the seeds [S] of each arm."""
    arms = dict.fromkeys(row["arm"] for row in rows)
    return {name: np.array([r[measure] for r in rows if r["arm"] == name]) for name in arms}


def best_constant(areas: Mapping[str, np.ndarray]) -> str:
    """The control of the highest mean area, other than none."""
    controls = [name for name in areas if name not in (SIGNAL, "none")]
    means = {name: stats.nan_estimate(areas[name]).value for name in controls}
    return max(controls, key=lambda name: np.nan_to_num(means[name], nan=-np.inf))


def finding(signal: str, rows: list[dict]) -> str:
    """One sentence with the two declared contrasts."""
    areas = by_arm(rows, "area")
    best = best_constant(areas)
    pairs = (SIGNAL, "none"), (SIGNAL, best)
    over_none, over_best = contrasts(areas, pairs, paired=False)
    faster, slower = (f"makes the agent learn {how}" for how in ("faster", "more slowly"))
    verdict = over_none.verdict(faster, slower, "does not differ measurably from no signal")
    end = over_best.verdict("more than it", "less than it", "which is not told apart from it")
    rival = "what was paid when a step was made" if best == STALE else f"the best constant, {best}"
    return (
        f"Finding: {signal} {verdict}: area under the learning curve {in_numbers(over_none)}; less "
        f"{rival}, {in_numbers(over_best)}, {end}."
    )


def in_numbers(contrast: Contrast) -> str:
    """A contrast with its interval and p-value, or why it has none."""
    if contrast.estimate is None:
        return f"unknown (episodes ended in fewer than {stats.FEWEST} seeds)"
    return f"{contrast.estimate:+.3f} (p {contrast.p_holm:.2g})"


def table(rows: list[dict]) -> list[list[str]]:
    """Cells in the order of HEADINGS, a row per arm."""
    measures = {name: by_arm(rows, name) for name in ("area", "home", "shifted")}
    areas, cells = measures["area"], []
    for arm in areas:
        (over_none,) = contrasts(areas, [(arm, "none")], paired=False)
        less = "-" if arm == "none" or not over_none.estimate else f"{over_none.estimate:+.3f}"
        cells.append([arm, *(f"{stats.nan_estimate(x[arm]):.3f}" for x in measures.values()), less])
    return cells


def draw_areas(curves: "pd.DataFrame", path: Path) -> None:
    """Draw the task's return while training, a line per arm with its interval."""
    from runs.report.arm_style import arm_styles

    figure, axes = new_figure(size=(6.4, 3.8))
    axis, styles = axes[0, 0], arm_styles(list(curves["arm"].unique()))
    for name, part in curves.groupby("arm", sort=False):
        seeds = part.pivot(index="step", columns="seed", values="return").astype(float)
        bins = np.array_split(np.arange(len(seeds)), min(len(seeds), 20))
        steps = [seeds.index[rows[-1]] for rows in bins]
        lines = [stats.nan_estimate(seeds.iloc[rows].mean().to_numpy()) for rows in bins]
        draw_line(axis, steps, lines, name, styles[name].colour)
    axis.set_xlabel("steps", fontsize=9)
    axis.set_ylabel("return of the task", fontsize=9)
    save_with_legend(figure, path)


def home_returns(folder: Path) -> np.ndarray:
    """Mean greedy return at home of each parent [seeds] in a folder."""
    from runs.analysis.scores import read_scores

    rows = [row for row in read_scores(folder / "scores.csv") if row["shift"] == "none"]
    seeds = sorted({row["seed"] for row in rows})
    return np.array([np.mean([r["return"] for r in rows if r["seed"] == seed]) for seed in seeds])


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
