"""Credit assignment: rank correlation of each head's signal with the advantage of every step.

One agent is trained while the heads learn beside it without paying it. Then every step of its
episodes is continued from the same state K times with the action that it took and K times with an
action that its policy draws, which estimates the advantage (`runs.probes.advantage`). The signal
that each head would have paid at that step is compared with it: rank correlation, and steps from a
blunder to the signal's minimum. Baselines: the agent's temporal-difference error, the task's
reward, the untrained heads, and the expected delay of an uninformative signal.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.analysis.stats import nan_estimate, nan_mean
from runs.cli.settings import StudySettings, run_main, shared_settings
from runs.cli.settings import check as check_shared
from runs.cli.study import Job, identity, run_study
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import make_experiment
from runs.errors import Interrupted, UserError
from runs.names import safe_name
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import new_figure, save_with_legend

COMMAND = "python -m runs.credit"
SHIFTS = ("cones", "aggressive", "cross", "ice")  # of Drive, at full severity
EPISODES, ROLLOUTS = 8, 16  # episodes at each point; pairs of branches at each step


@dataclass(frozen=True)
class Settings(StudySettings):
    """Command-line settings of the study.

    Attributes:
        env: a jitted world: of this package, such as Drive, or of another, such as
            gymnax:CartPole-v1.
        heads: the heads to probe, or your own, my_head.py:Dread.
        seeds: training runs, at least 3.
        steps: environment steps a seed; 0 for as many as runs.compare takes.
        shifts: names of shifts to evaluate; by default four of Drive's, elsewhere all.
    """

    env: str = "Drive"
    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 10
    steps: int = 0
    shifts: tuple[str, ...] = ()


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for an environment that is not jitted, a number out of range, or `record` with
            `smoke`.
    """
    from envs import is_jitted

    check_comparison(comparison(settings))
    check_shared(settings)
    if not is_jitted(settings.env):
        raise UserError(
            f"--env {settings.env}: branching needs a jitted environment, whose states can be "
            "copied; choose one that python -m envs.coverage lists"
        )


def comparison(settings: Settings) -> Comparison:
    """Settings of the comparison with the same worlds, sizes and agent, and the default shifts."""
    shifts = settings.shifts or (SHIFTS if settings.env in ("Drive", "Timid") else ())
    return shared_settings(Comparison, settings, shifts=shifts)


def study(job: Job) -> Page:
    """Train the agents, branch every step of their episodes, and report."""
    experiment = make_experiment(comparison(job.settings))
    suite = replace(experiment.suite, severities=(1.0,))
    lesion = next(arm for arm in experiment.arms if arm.name == "lesion")
    metrics = probe_seeds(job, replace(experiment, suite=suite, arms=[lesion]))
    shifts, name = [point.shift for point in suite.points()], f"credit-{safe_name(suite.name)}"
    sections = [
        finding(suite.name, metrics),
        f"![Credit by signal]({name}.png)",
        credit_table(shifts[1:], metrics),
        note(metrics),
    ]
    text = page_text(f"{suite.name}: credit assignment", sections, job.command)
    return Page(name, text, {"": partial(figure, suite.name, metrics)})


def probe_seeds(job: Job, experiment: Any) -> dict[str, np.ndarray]:
    """Train, then probe every seed, resumable after every few -> metrics, each [S, P].

    Raises:
        Interrupted: if the user requested a stop; finished parts are kept.
    """
    import jax

    from runs.arm_runner import ArmRunner, Reporter
    from runs.engine.cache import cached_part
    from runs.engine.seeds import Stream, stream_key, stream_keys, take_seeds, vmap_seeds
    from runs.probes.advantage import learner_credit

    suite, run_config, (arm,) = experiment.suite, experiment.run_config, experiment.all_arms
    phase, progress, smoke = experiment.phases[arm.name], job.progress, job.settings.smoke
    progress.total = run_config.chunks + run_config.rows
    with closing(experiment.make_backend()) as backend:
        reporter = Reporter(progress.say, progress.advance, job.stopped)
        trained = ArmRunner(job.out, suite, backend, reporter).train(arm, phase)
    together, mark, groups = len(jax.devices()), identity(job.settings), []
    options = {"agent": phase.agent, "blend": phase.blend, "env": suite.env}
    probe = partial(learner_credit, rollouts=2 if smoke else ROLLOUTS, **options)
    program = vmap_seeds(probe, together, 1, run_config.optimise)
    k_worlds = stream_key(run_config.base, Stream.EVALUATION_WORLDS)
    worlds = suite.worlds(k_worlds, 2 if smoke else EPISODES)
    learners_and_keys = trained.state.learner, stream_keys(run_config, Stream.PROBE)

    def probe_group(begin: int) -> dict[str, list]:
        if job.stopped():
            raise Interrupted
        group = slice(begin, begin + together)
        metrics = program(*take_seeds(learners_and_keys, group), worlds)
        return {"metrics": {name: np.asarray(x).tolist() for name, x in metrics.items()}}

    for begin in range(0, run_config.rows, together):
        path = job.out / "probed" / f"{begin}.json"
        part, fresh = cached_part(path, mark, partial(probe_group, begin))
        groups.append(part["metrics"])
        progress.advance("probing", run_config.chunks + begin + together, fresh)
    finite_seeds = np.flatnonzero(trained.alive[: run_config.seeds])
    joined = {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}
    return {name: np.asarray(value, float)[finite_seeds] for name, value in joined.items()}


# --- report ---------------------------------------------------------------------------------------


def signal_names(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the probed signals, in their order."""
    return [name.removesuffix("/credit") for name in metrics if name.endswith("/credit")]


def finding(env: str, metrics: Mapping[str, Any]) -> str:
    """Sentence with each head's rank correlation less that of the critic, with t intervals."""
    results = []
    for name in signal_names(metrics):
        if name in ("critic", "reward") or name.endswith("_untrained"):
            continue
        critic, untrained = (
            nan_estimate(nan_mean(metrics[f"{name}/credit"] - metrics[f"{other}/credit"]))
            for other in ("critic", f"{name}_untrained")
        )
        if np.isfinite([critic.value, untrained.value]).all():
            results.append(f"{name} {critic:+.3f} (less untrained {untrained:+.3f})")
    return (
        f"Rank correlation with the true advantage in {env}, less that of the agent's own "
        f"temporal-difference error, mean over home and shifts, {len(metrics['steps'])} seeds, "
        f"paired t intervals at 95 %: {'; '.join(results)}."
    )


def credit_table(shifts: list[str], metrics: Mapping[str, Any]) -> str:
    """Table with a row per signal: rank correlations at home and under shift, and delays."""

    def with_interval(seeds) -> str:
        estimate = nan_estimate(seeds)
        return f"{estimate:.3f}" if np.isfinite(estimate.value) else "-"

    def plain(values) -> str:
        mean = nan_mean(values.ravel())
        return f"{mean:.3f}" if np.isfinite(mean) else "-"

    rows = []
    for name in signal_names(metrics):
        ranks, delay = metrics[f"{name}/credit"], metrics[f"{name}/delay"]
        cells = [name, with_interval(ranks[:, 0]), with_interval(nan_mean(ranks[:, 1:]))]
        cells += [plain(ranks[:, i]) for i in range(1, ranks.shape[1])]
        rows.append([*cells, plain(delay), plain(delay - metrics["chance"])])
    headings = ["signal", "at home", "over shifts", *shifts, "delay", "delay less chance"]
    return markdown_table(headings, rows)


def note(metrics: Mapping[str, Any]) -> str:
    """Explanation of the table, with the precision of the estimated advantage."""
    blunders, steps = metrics["blunders"].sum(), metrics["steps"].sum()
    error, spread = metrics["error"].mean(), metrics["spread"].mean()
    ceiling = max(1 - (error / spread) ** 2, 0.0) ** 0.5
    return (
        "Rank correlation of what a signal pays at a step with the true advantage of the action "
        "taken there, mean over seeds, t intervals at 95 %. The advantage is estimated from "
        f"{ROLLOUTS} pairs of branches (error {error:.3f}, spread {spread:.3f}), with which the "
        f"exact advantage would correlate by about {ceiling:.2f}. "
        f"`delay`: steps from a blunder ({blunders:,.0f} of {steps:,.0f} steps) to the signal's "
        "minimum in the next ten; `delay less chance`: less that of an uninformative signal."
    )


def figure(env: str, metrics: Mapping[str, Any], path: Path) -> None:
    """Save a figure of rank correlation by signal, one dot per seed, at home and over shifts."""
    names = signal_names(metrics)
    sheet, axes = new_figure(size=(7, 0.42 * len(names) + 1.2))
    axis, home, shifted = axes[0, 0], slice(0, 1), slice(1, None)
    for points, colour, offset, label in (
        (home, "#2166ac", -0.15, "at home"),
        (shifted, "#b2182b", 0.15, "over shifts"),
    ):
        for row, name in enumerate(names):
            seeds, y = nan_mean(metrics[f"{name}/credit"][:, points]), row + offset
            axis.scatter(seeds, np.full(len(seeds), y), 9, colour, alpha=0.45, linewidths=0)
            axis.scatter(nan_mean(seeds), y, 60, colour, marker="|", label=label)
    axis.axvline(0, color="#888888", linewidth=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(f"rank correlation with the true advantage, {env}")
    save_with_legend(sheet, path)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
