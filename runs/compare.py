"""Compare training arms: how much success under shift does each head add, beyond its controls?

Trains every arm over many seeds, scores each on every shift x severity, and compares it with the
arm without heads. Writes TensorBoard logs, a tidy score file, checkpoints, a table and a figure.
The same command resumes an interrupted run.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from runs.cli.settings import EnvSettings, check_env, json_object, run_main
from runs.cli.study import Job, run_study
from runs.errors import UserError
from runs.names import checked_choice

if TYPE_CHECKING:
    from runs.experiment import Experiment

COMMAND = "python -m runs.compare"


@dataclass(frozen=True)
class Settings(EnvSettings):
    """Settings of the comparison.

    Attributes:
        heads: names of the heads to compare, or `my_head.py:Dread` for a custom one; their controls
            are added.
        seeds: training runs per arm, at least 3.
        steps: environment steps per seed; 0 for the environment's preset.
        agent: an algorithm of another library that learns instead of our PPO, such as sb3:PPO,
            sb3:DQN or sbx:SAC, in a gymnasium environment; its seeds are trained one after another.
        agent_kwargs: arguments of that algorithm, as JSON: {"learning_rate": 0.001}.
        shifts: names of the shifts to score; all by default.
        without: arms to leave out; the report names them.
        sealed: families of shifts that are scored only after every agent is frozen; their random
            key is the hash of the plan and of all agents.
        episodes: scored at each point; 0 for the environment's preset.
        quick: a first look: the arms of the first head, its untrained control, a constant and none,
            3 seeds, half of the steps, 64 episodes per point, two severities; signals are not
            probed.
    """

    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 20
    steps: int = 0
    agent: str = ""
    agent_kwargs: str = ""
    shifts: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    episodes: int = 0
    quick: bool = False


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for a number out of range, no head, a head named twice, or recording a smoke run.
    """
    check_env(settings)
    json_object(settings, "agent_kwargs")
    if settings.agent_kwargs and not settings.agent:
        raise UserError("--agent-kwargs: name the algorithm too, such as --agent sb3:PPO")
    if not settings.heads:
        raise UserError("--heads: name at least one head")
    if len(set(settings.heads)) < len(settings.heads):
        raise UserError(f"--heads {' '.join(settings.heads)}: name each head once")


def study(job: Job) -> None:
    """Train, score and report all arms."""
    run_experiment(make_experiment(job.settings), job)


def run_experiment(experiment: "Experiment", job: Job) -> None:
    """Train, score and report all arms of an experiment in the folder of a job."""
    from runs.result import Result

    job.progress.total = experiment.units
    experiment.run_arms(job.out, job.progress, job.stopped)
    job.progress.close()
    Result(experiment, job.out).print_report(job.command, job.settings.record)


def make_experiment(settings: Settings) -> "Experiment":
    """The experiment that these settings define.

    Raises:
        UserError: for an unknown environment, head, shift or arm, or an unsupported space.
    """
    from runs.engine.arms import HEADS, comparison_arms
    from runs.engine.custom_head import is_custom
    from runs.engine.presets import find_suite, foreign_agent, preset
    from runs.experiment import Experiment

    suite = find_suite(settings.env, settings.shifts, **settings.env_options())
    for name in settings.heads:
        if not is_custom(name):
            checked_choice("head", name, HEADS)
    sizes, heads, seeds = preset(suite), settings.heads, settings.seeds
    num_envs, num_steps = sizes.num_envs, sizes.num_steps
    steps, episodes = settings.steps or sizes.steps, settings.episodes or sizes.episodes
    if settings.quick:
        heads, seeds, episodes = heads[:1], 3, min(episodes, 64)
        steps = settings.steps or steps // 2
        suite = replace(suite, severities=(0.5, 1.0))
    if settings.smoke:
        num_envs, num_steps = (4, 128) if sizes.jitted else (2, 32)
        steps, heads, seeds, episodes = 2 * num_envs * num_steps, heads[:1], 3, 4
        suite = replace(suite, severities=(1.0,))
    agent = sizes.agent
    if settings.agent:
        agent = foreign_agent(settings.agent, json_object(settings, "agent_kwargs"), suite)
    arms = comparison_arms(heads, agent.gamma, suite)
    optional = [arm.name for arm in arms if arm.name != "none"]
    for name in settings.without:
        checked_choice("arm", name, optional)
    without = tuple(name for name in omitted_arms(settings) if name in optional)
    experiment = Experiment(
        suite,
        [arm for arm in arms if arm.name not in without],
        agent if settings.agent else None,
        seeds=seeds,
        steps=steps,
        num_envs=num_envs,
        num_steps=num_steps,
        episodes=episodes,
        sealed=settings.sealed,
        without=without,
        recordings=True,
        probe_signals=not settings.quick,
        optimise=not settings.smoke,
    )
    _ = experiment.plan  # refuses what does not fit, before anything is trained
    return experiment


def omitted_arms(settings: Settings) -> tuple[str, ...]:
    """Names of the arms to leave out: those of `without`, with `quick` and `smoke` further ones."""
    from runs.engine.arms import CONSTANT_POTENTIALS
    from runs.engine.custom_head import short_name

    head = short_name(settings.heads[0])
    dropped = ("random", "constant_minus", f"{head}_sham", f"{head}_constant", "lesion")
    quick = (*dropped, *CONSTANT_POTENTIALS) if settings.quick else ()
    smoke = CONSTANT_POTENTIALS[2:] if settings.smoke else ()  # one level is enough to try them
    return tuple(dict.fromkeys((*settings.without, *quick, *smoke)))


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
