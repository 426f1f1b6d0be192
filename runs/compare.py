"""Robustness under shift: how much does each head add to the score, beyond its controls?

Trains every arm over many seeds, scores each on every shift x severity, and compares it with the
arm without heads. Writes TensorBoard logs, a tidy score file, checkpoints, a table and a figure.
The same command resumes an interrupted run.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runs.cli.settings import (
    check_not_negative,
    check_recordable,
    check_seeds,
    fingerprint,
    parse_settings,
    run_main,
    shell_command,
)
from runs.errors import UserError
from runs.names import checked_choice, safe_name

if TYPE_CHECKING:
    from runs.engine.comparison import Design

COMMAND = "python -m runs.compare"


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Attributes:
        env: an environment of this project, such as CartPole, another jitted one, such as
            gymnax:CartPole-v1, or any gymnasium id, such as LunarLander-v3.
        heads: names of the heads to compare, or `my_head.py:Dread` for a custom one; their controls
            are added.
        seeds: training runs per arm, at least 3.
        steps: environment steps per seed; 0 for the environment's preset.
        shifts: names of the shifts to score; all by default.
        without: arms to leave out; the report names them.
        sealed: families of shifts that are scored only after every agent is frozen; their random
            key is the hash of the plan and of all agents.
        episodes: scored at each point; 0 for the environment's preset.
        out: folder of the study; by default runs/logs/compare/ENV-FINGERPRINT.
        config: a YAML file of these settings; flags override it.
        quick: a first look: the arms of the first head, its untrained control, a constant and none,
            3 seeds, half of the steps, 64 episodes per point, two severities; signals are not
            probed.
        smoke: a run of seconds with one head to test the code; its numbers mean nothing.
        record: also write the table and the figure to runs/results/.
    """

    env: str = "Drive"
    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 20
    steps: int = 0
    shifts: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    episodes: int = 0
    out: Path | None = None
    config: Path | None = None
    quick: bool = False
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Run the comparison -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(compare, settings, command))


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for a number out of range, no head, a head named twice, or recording a smoke run.
    """
    check_seeds(settings)
    check_not_negative(settings, "steps", "episodes")
    check_recordable(settings)
    if not settings.heads:
        raise UserError("--heads: name at least one head")
    if len(set(settings.heads)) < len(settings.heads):
        raise UserError(f"--heads {' '.join(settings.heads)}: name each head once")


def compare(settings, command, progress, stopped) -> int:
    """Train, score and report all arms in this process -> exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from runs.engine.comparison import run_comparison
    from runs.report.comparison import report_comparison

    study = design(settings)
    progress.total, out = study.units, folder(settings, study.suite.name)
    rows = run_comparison(study, out, identity(settings), progress, stopped)
    if rows is None:
        return 0
    progress.close()
    report_comparison(out, rows, study.run_config, study.plan, command, settings.record)
    return 0


def design(settings: Settings) -> "Design":
    """Build suite, backend, run_config, arms and plan from the settings.

    Raises:
        UserError: for an unknown environment, head, shift or arm, or an unsupported space.
    """
    import jax

    from envs import is_jitted, load_suite
    from envs.host.suite import host_suite
    from runs.engine.arms import HEADS, check_arms, comparison_arms
    from runs.engine.comparison import Design
    from runs.engine.custom_head import is_custom
    from runs.engine.host_backend import HostBackend
    from runs.engine.jax_backend import DRAWS, JaxBackend
    from runs.engine.presets import preset
    from runs.engine.run_config import RunConfig
    from runs.prereg.plan_file import make_plan
    from runs.prereg.splits import HOME, RANDOM, refuse_training_on

    jitted = is_jitted(settings.env)
    try:
        suite = load_suite(settings.env) if jitted else host_suite(settings.env)
    except ValueError as error:
        raise UserError(str(error)) from None
    for name in settings.heads:
        if not is_custom(name):
            checked_choice("head", name, HEADS)
    if settings.shifts:
        names = [
            checked_choice("shift", name, [s.name for s in suite.shifts])
            for name in settings.shifts
        ]
        suite = replace(suite, shifts=tuple(s for s in suite.shifts if s.name in names))
    sizes, seeds, heads = preset(settings.env, jitted), settings.seeds, settings.heads
    agent, num_envs, num_steps = sizes.agent, sizes.num_envs, sizes.num_steps
    steps, episodes = settings.steps or sizes.steps, settings.episodes or sizes.episodes
    if settings.quick:
        heads, seeds, steps, episodes = (
            heads[:1],
            3,
            settings.steps or steps // 2,
            min(episodes, 64),
        )
        suite = replace(suite, severities=(0.5, 1.0))
    if settings.smoke:
        num_envs, num_steps = (4, 128) if jitted else (2, 32)
        steps, heads, seeds, episodes = 2 * num_envs * num_steps, heads[:1], 3, 4
        suite = replace(suite, severities=(1.0,))
    if jitted:
        episodes -= episodes % min(DRAWS, episodes)  # equally many in each random world
    updates = max(steps // (num_envs * num_steps), 1)
    chunk_updates = max(updates // 60, 1) if jitted else 1  # updates in a chunk, about a second
    chunks = updates // chunk_updates
    agent = replace(agent, anneal=chunks * chunk_updates)
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())
    run_config = RunConfig(agent, seeds, rows, chunks, chunk_updates, num_envs, num_steps, episodes)
    run_config = replace(run_config, optimise=not settings.smoke)
    arms = comparison_arms(heads, agent.gamma, suite, sizes.parts)
    optional = [arm.name for arm in arms if arm.name != "none"]
    for name in settings.without:
        checked_choice("arm", name, optional)
    without = tuple(name for name in omitted_arms(settings) if name in optional)
    arms = tuple(arm for arm in arms if arm.name not in without)
    check_arms(arms, suite, num_envs)
    plan = make_plan(
        suite, run_config, [arm.name for arm in arms], sealed=settings.sealed, without=without
    )
    for arm in arms:
        refuse_training_on(RANDOM if arm.randomised else HOME, plan.splits)
    if not plan.splits.names("dev"):
        raise UserError("--sealed: no public shift is left to score; seal fewer families")
    return Design(
        suite, JaxBackend if jitted else HostBackend, run_config, arms, plan, not settings.quick
    )


def omitted_arms(settings: Settings) -> tuple[str, ...]:
    """Names of the arms to leave out: those of `without`, and with `quick` five more controls."""
    from runs.engine.custom_head import short_name

    head = short_name(settings.heads[0])
    dropped = ("random", "constant_minus", f"{head}_sham", f"{head}_constant", "lesion")
    return tuple(dict.fromkeys((*settings.without, *(dropped if settings.quick else ()))))


def folder(settings: Settings, env: str) -> Path:
    """Folder of the study of an environment."""
    return settings.out or Path("runs/logs/compare") / f"{safe_name(env)}-{identity(settings)}"


def identity(settings: Settings) -> str:
    """Fingerprint of all settings that change a result and of the files of custom heads."""
    from runs.engine.custom_head import file_digests

    leave_out = ("out", "config", "record")
    return fingerprint(settings, leave_out, also=file_digests(settings.heads))


if __name__ == "__main__":
    run_main(main)
