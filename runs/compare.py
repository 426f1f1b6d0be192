"""Which feeling is worth what, when the world shifts?

Trains every arm over many seeds, scores each on every shift x severity, and compares it with the
arm that feels nothing. Writes TensorBoard logs, a tidy score file, checkpoints, a table and a
figure. Interrupted at any moment, the same command goes on where it was.
"""

import os
import shlex
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from runs.harness.config import choose, exit_cleanly, fingerprint, parse
from runs.harness.errors import UserError

COMMAND = "python -m runs.compare"


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Attributes:
        env: a world of ours, such as CartPole, or any gymnasium id, such as LunarLander-v3.
        heads: the feelings to compare; the first one gets a sham and a scrambled control.
        seeds: training runs an arm, at least 3.
        steps: environment steps a seed; 0 for 500,000 in our worlds, 100,000 on the host.
        shifts: names of the shifts to score; all of them if none is named.
        episodes: scored at each point; 0 for 256 in our worlds, 8 on the host.
        out: folder of the study; by default runs/logs/compare/ENV-FINGERPRINT.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of seconds with one head, which touches everything and means nothing.
        record: also write the table and the figure to runs/results/.
    """

    env: str = "CartPole"
    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 20
    steps: int = 0
    shifts: tuple[str, ...] = ()
    episodes: int = 0
    out: Path | None = None
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Parses, then runs; the exit code."""
    settings = parse(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.harness.watch import Progress, run_interruptibly

    progress = Progress(total=1)
    command = f"{COMMAND} {shlex.join(argv)}".strip()

    def farewell() -> str:
        progress.close()
        return f"stopped; what was done is kept. Go on with:\n  {command}"

    try:
        return run_interruptibly(
            lambda stopped: compare(settings, command, progress, stopped), farewell
        )
    finally:
        progress.close()


def check(settings: Settings) -> None:
    """Refuses what can be refused without importing jax.

    Raises:
        UserError: for a number out of range, no head, or a head that is named twice.
    """
    if settings.seeds < 3:
        raise UserError(f"--seeds {settings.seeds}: an interval needs at least 3 seeds")
    for name in ("steps", "episodes"):
        if getattr(settings, name) < 0:
            raise UserError(f"--{name} {getattr(settings, name)}: must not be negative")
    if not settings.heads:
        raise UserError("--heads: name at least one head")
    if len(set(settings.heads)) < len(settings.heads):
        raise UserError(f"--heads {' '.join(settings.heads)}: name each head once")


def compare(settings, command, progress, stopped) -> int:
    """The whole study in this process; the exit code."""
    from runs.harness import devices

    devices.prepare()
    from envs.host_pool import HostFailure
    from runs.harness.board import safe
    from runs.harness.lock import hold
    from runs.harness.report import report
    from runs.harness.study import Study
    from runs.harness.watch import Interrupted

    suite, trainer, plan, arms = design(settings)
    name = f"{safe(suite.name)}-{identity(settings)}"
    out = settings.out or Path("runs/logs/compare") / name
    with hold(out):
        claim(out, settings)
        units = plan.chunks + len(suite.points())
        progress.total = len(arms) * units
        progress.say(
            f"{suite.name}: {len(arms)} arms x {plan.seeds} seeds x "
            f"{plan.chunks * plan.chunk_steps:,} steps, {len(suite.points())} points -> {out}"
        )
        rows = []
        for i, arm in enumerate(arms):
            study = Study(
                out,
                suite.name,
                plan,
                progress.say,
                lambda name, done, now, i=i: progress.advance(name, i * units + done, now),
                stopped,
            )
            try:
                with closing(trainer(suite, arm, plan)) as running:
                    rows += study.run(running)
            except Interrupted:
                return 0
            except HostFailure as error:
                raise UserError(
                    f"arm {arm.name}: {error}; the same command then goes on"
                ) from error
            except OSError as error:
                cause = f"{error.filename or out}: {error.strerror or error}"
                raise UserError(f"{cause}; mend it, then the same command goes on") from error
        progress.close()
        report(out, suite.name, rows, plan, [arm.name for arm in arms], command, settings.record)
    return 0


def design(settings: Settings):
    """What will be run -> (suite, kind of trainer, plan, arms).

    Raises:
        UserError: for an unknown environment, head or shift, or a space that does not fit.
    """
    import jax

    from agents.ppo import PPO
    from envs import SUITES, load_suite
    from envs.host import suite as host_suite
    from runs.harness.arms import HEADS, arms, refuse
    from runs.harness.hosted import Hosted
    from runs.harness.jitted import DRAWS, Jitted
    from runs.harness.plan import Plan

    ours = settings.env in SUITES
    try:
        suite = load_suite(settings.env) if ours else host_suite(settings.env)
    except ValueError as error:
        raise UserError(str(error)) from None
    for name in settings.heads:
        choose("head", name, HEADS)
    if settings.shifts:
        names = [choose("shift", name, [s.name for s in suite.shifts]) for name in settings.shifts]
        suite = replace(suite, shifts=tuple(s for s in suite.shifts if s.name in names))
    num_envs, num_steps = (4, 128) if ours else (8, 128)
    steps = settings.steps or (500_000 if ours else 100_000)
    seeds, episodes = settings.seeds, settings.episodes or (256 if ours else 8)
    if settings.smoke:
        num_envs, num_steps = (4, 128) if ours else (2, 32)
        steps, seeds, episodes = 2 * num_envs * num_steps, 3, 4
        settings = replace(settings, heads=settings.heads[:1])
        suite = replace(suite, severities=(1.0,))
    if ours:
        episodes -= episodes % min(DRAWS, episodes)  # as many in each world that is drawn
    updates = max(steps // (num_envs * num_steps), 1)
    together = max(updates // 60, 1) if ours else 1  # updates in a chunk, about a second
    chunks = updates // together
    # On the host steps are dear and runs are short, so each of them learns more.
    agent = PPO(anneal=chunks * together, normalise=not ours, lr=2.5e-4 if ours else 1e-3)
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())
    plan = Plan(agent, seeds, rows, chunks, together, num_envs, num_steps, episodes)
    plan = replace(plan, optimise=not settings.smoke)
    found = arms(settings.heads, agent.gamma, suite)
    refuse(found, suite, num_envs)
    return suite, Jitted if ours else Hosted, plan, found


def identity(settings: Settings) -> str:
    """What names the folder: all settings that change a result."""
    return fingerprint(settings, leave_out=("out", "config", "record"))


def claim(out: Path, settings: Settings) -> None:
    """Marks the folder as this study's.

    Raises:
        UserError: if it is another study's.
    """
    mark = out / "identity"
    if not mark.exists():
        beside = out / "identity.part"
        beside.write_text(identity(settings))
        os.replace(beside, mark)
    elif mark.read_text() != identity(settings):
        raise UserError(
            f"{out} holds a study with other settings; choose another --out, or delete it"
        )


if __name__ == "__main__":
    exit_cleanly(main)
