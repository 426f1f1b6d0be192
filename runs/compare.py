"""Which feeling is worth what, when the world shifts?

Trains every arm over many seeds, scores each on every shift x severity, and compares it with the
arm that feels nothing. Writes TensorBoard logs, a tidy score file, checkpoints, a table and a
figure. Interrupted at any moment, the same command goes on where it was.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runs.cli.settings import (
    check_not_negative,
    check_recordable,
    check_seeds,
    checked_choice,
    fingerprint,
    parse_settings,
    run_main,
    shell_command,
)
from runs.errors import UserError

if TYPE_CHECKING:
    from runs.engine.comparison import Design

COMMAND = "python -m runs.compare"


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Attributes:
        env: a world of ours, such as CartPole, anybody's jitted one, such as gymnax:CartPole-v1, or
            any gymnasium id, such as LunarLander-v3.
        heads: the feelings to compare, or `my_head.py:Dread` for one's own; their controls come
            without asking.
        seeds: training runs an arm, at least 3.
        steps: environment steps a seed; 0 for as many as are usual there.
        shifts: names of the shifts to score; all of them if none is named.
        without: arms to leave out; the report says so.
        sealed: families of shifts to keep back until every agent is frozen; what they are drawn
            from is the hash of the plan and of all agents.
        episodes: scored at each point; 0 for as many as are usual there.
        out: folder of the study; by default runs/logs/compare/ENV-FINGERPRINT.
        config: a YAML file of these settings; flags go before it.
        quick: a first look: the first head beside its scrambled twin, a constant and nothing, 3
            seeds, half of the steps, 64 episodes a point, two severities; heads are not asked what
            they know.
        smoke: a run of seconds with one head, which touches everything and means nothing.
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
    """Parses, then runs; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(compare, settings, command))


def check(settings: Settings) -> None:
    """Refuses what can be refused without importing jax.

    Raises:
        UserError: for a number out of range, no head, or a head that is named twice.
    """
    check_seeds(settings)
    check_not_negative(settings, "steps", "episodes")
    check_recordable(settings)
    if not settings.heads:
        raise UserError("--heads: name at least one head")
    if len(set(settings.heads)) < len(settings.heads):
        raise UserError(f"--heads {' '.join(settings.heads)}: name each head once")


def compare(settings, command, progress, stopped) -> int:
    """The whole study in this process; the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from runs.engine.comparison import run_comparison
    from runs.report.comparison import report_comparison

    what = design(settings)
    progress.total, out = what.units, folder(settings, what.suite.name)
    rows = run_comparison(what, out, identity(settings), progress, stopped)
    if rows is None:
        return 0
    progress.close()
    report_comparison(out, rows, what.run_config, what.plan, command, settings.record)
    return 0


def design(settings: Settings) -> "Design":
    """What these settings ask for.

    Raises:
        UserError: for an unknown environment, head or shift, or a space that does not fit.
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

    ours = is_jitted(settings.env)
    try:
        suite = load_suite(settings.env) if ours else host_suite(settings.env)
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
    usual, seeds, heads = preset(settings.env, ours), settings.seeds, settings.heads
    agent, num_envs, num_steps = usual.agent, usual.num_envs, usual.num_steps
    steps, episodes = settings.steps or usual.steps, settings.episodes or usual.episodes
    if settings.quick:
        heads, seeds, steps, episodes = (
            heads[:1],
            3,
            settings.steps or steps // 2,
            min(episodes, 64),
        )
        suite = replace(suite, severities=(0.5, 1.0))
    if settings.smoke:
        num_envs, num_steps = (4, 128) if ours else (2, 32)
        steps, heads, seeds, episodes = 2 * num_envs * num_steps, heads[:1], 3, 4
        suite = replace(suite, severities=(1.0,))
    if ours:
        episodes -= episodes % min(DRAWS, episodes)  # as many in each world that is drawn
    updates = max(steps // (num_envs * num_steps), 1)
    together = max(updates // 60, 1) if ours else 1  # updates in a chunk, about a second
    chunks = updates // together
    agent = replace(agent, anneal=chunks * together)
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())
    run_config = RunConfig(agent, seeds, rows, chunks, together, num_envs, num_steps, episodes)
    run_config = replace(run_config, optimise=not settings.smoke)
    found = comparison_arms(heads, agent.gamma, suite, usual.parts)
    named = [arm.name for arm in found if arm.name != "none"]
    for name in settings.without:
        checked_choice("arm", name, named)
    without = tuple(name for name in omitted_arms(settings) if name in named)
    found = tuple(arm for arm in found if arm.name not in without)
    check_arms(found, suite, num_envs)
    plan = make_plan(
        suite, run_config, [arm.name for arm in found], sealed=settings.sealed, without=without
    )
    for arm in found:
        refuse_training_on(RANDOM if arm.randomised else HOME, plan.splits)
    if not plan.splits.names("dev"):
        raise UserError("--sealed: nothing is left to look at in public; keep back fewer families")
    return Design(
        suite, JaxBackend if ours else HostBackend, run_config, found, plan, not settings.quick
    )


def omitted_arms(settings: Settings) -> tuple[str, ...]:
    """Arms that are not run: those that were named; in a quick look also those that say least."""
    from runs.engine.custom_head import short_name

    head = short_name(settings.heads[0])
    least = ("random", "constant_minus", f"{head}_sham", f"{head}_constant", "lesion")
    return tuple(dict.fromkeys((*settings.without, *(least if settings.quick else ()))))


def folder(settings: Settings, env: str) -> Path:
    """Where the study of an environment lies."""
    from runs.report.tb_export import safe_name

    return settings.out or Path("runs/logs/compare") / f"{safe_name(env)}-{identity(settings)}"


def identity(settings: Settings) -> str:
    """What names the folder: all settings that change a result, and heads of one's own."""
    from runs.engine.custom_head import file_digests

    leave_out = ("out", "config", "record")
    return fingerprint(settings, leave_out, also=file_digests(settings.heads))


if __name__ == "__main__":
    run_main(main)
