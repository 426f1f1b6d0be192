"""Does the feeling stay true under shift, and what else would have known?

Trains one agent that feels nothing while a head and all its rivals learn beside it from the same
experience. Then all of them meet the same episodes at home and under every shift, and are asked
whether harm comes soon (`runs.probes.readouts`): AUROC, average precision, calibration, and steps
of warning at a false-alarm rate of 1 in 200 that is fixed at home. The rivals: the agent's critic;
a critic with the head's short horizon; the critic with progress regressed out; the head untrained;
what is innate; the disagreement of five heads; heads from linear to 256-256, trained beside the
agent and afterwards; the head trained in randomised worlds. A head's memory, how many random labels
it can learn by heart, stands against its validity under shift.

The primary contrast, declared beforehand, is the head less minus the critic: AUROC, mean over
shifts. It and the others of `runs.probes.validity_contrasts.FAMILY` are one family for Holm. Interrupted, the
same command goes on.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from runs.cli.settings import check_recordable, fingerprint, parse_settings, run_main, shell_command
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import design as compared
from runs.errors import UserError

COMMAND = "python -m runs.validity"
EPISODES = 128  # at each point of a jitted world


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        env: a world of ours, such as Drive, anybody's jitted one, such as gymnax:CartPole-v1, or
            any gymnasium id, such as MiniGrid-DistShift1-v0.
        head: the feeling to examine, or one's own, my_head.py:Dread.
        horizon: steps within which harm has to come.
        seeds: training runs, at least 3.
        steps: environment steps a seed; 0 for as many as runs.compare takes.
        shifts: names of the shifts to examine under; all of them if none is named.
        episodes: at each point; 0 for 128, or as many as runs.compare takes of a host.
        out: folder of the study; by default runs/logs/validity/ENV-FINGERPRINT.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of seconds that touches everything and means nothing.
        record: also write table, scores and figures to runs/results/.
    """

    env: str = "Drive"
    head: str = "fear"
    horizon: int = 10
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
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Refuses what can be refused without importing jax.

    Raises:
        UserError: for a number out of range, or a part that is recorded.
    """
    check_comparison(comparison(settings))
    if settings.horizon < 2:
        raise UserError(f"--horizon {settings.horizon}: must be at least 2 steps")
    check_recordable(settings, "shifts")


def comparison(settings: Settings) -> Comparison:
    """The comparison whose worlds, sizes and agent these are."""
    named = ("env", "seeds", "steps", "shifts", "smoke")
    return Comparison(
        heads=(settings.head,),
        episodes=settings.episodes,
        out=settings.out,
        **{name: getattr(settings, name) for name in named},
    )


def study(settings: Settings, command: str, progress, stopped) -> int:
    """Training, examination and report in this process; the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from envs.host.pool import HostFailure
    from runs.cli.interrupt import Interrupted
    from runs.engine.comparison import claim_folder
    from runs.lock import hold_lock
    from runs.probes.validity_report import report

    examination, trainer = make_probe(settings)
    suite, run_config = examination.suite, examination.run_config
    out = folder(settings, suite.name)
    progress.say(
        f"{suite.name}: {run_config.seeds} seeds x {run_config.chunks * run_config.chunk_steps:,} steps, "
        f"{len(suite.points())} points x {run_config.episodes} episodes -> {out}"
    )
    try:
        with hold_lock(out):
            claim_folder(out, identity(settings))
            with closing(trainer):
                found = run(examination, trainer, out, progress, stopped)
            progress.close()
            targets = [out] + ([Path("runs/results")] if settings.record else [])
            report(examination, found, command, targets, run_config.seeds)
    except Interrupted:
        return 0
    except HostFailure as error:
        raise UserError(f"{error}; the same command then goes on") from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    return 0


def folder(settings: Settings, env: str) -> Path:
    """Where the study of an environment lies."""
    from runs.report.tb_export import safe_name

    return settings.out or Path("runs/logs/validity") / f"{safe_name(env)}-{identity(settings)}"


def identity(settings: Settings) -> str:
    """What names the folder: all settings that change a result, and a head of one's own."""
    from runs.engine.custom_head import file_digests

    return fingerprint(settings, ("out", "config", "record"), file_digests((settings.head,)))


def make_probe(settings: Settings) -> tuple[Any, Any]:
    """What will be run -> (`runs.probes.validity_probe.ValidityProbe`, its trainer).

    Raises:
        UserError: for an unknown environment, head or shift, or a space that does not fit.
    """
    from affect import Fear
    from envs import is_jitted
    from runs.engine import arms, custom_head
    from runs.engine.presets import preset
    from runs.probes.baselines import baseline_blend
    from runs.probes.validity_probe import ValidityProbe

    what = compared(comparison(settings))
    suite, run_config = what.suite, what.run_config
    if not (settings.episodes or settings.smoke):
        run_config = replace(run_config, episodes=min(run_config.episodes, EPISODES))
    name = custom_head.short_name(settings.head)
    factory = arms.weighted_head(settings.head, run_config.agent.gamma, suite)[1]
    if settings.head == "fear":
        factory = partial(Fear, horizon=settings.horizon)
    parts = preset(settings.env, is_jitted(settings.env)).parts
    blend = baseline_blend(name, factory, settings.horizon, parts)
    arm = arms.Arm("beside", blend)
    arms.check_arms((arm,), suite, run_config.num_envs)
    examination = ValidityProbe(name, blend, suite, run_config, settings.horizon)
    if settings.smoke:
        examination = replace(examination, samples=256, fitting=2)
    return examination, what.trainer(suite, arm, run_config)


def run(examination, trainer, out: Path, progress, stopped) -> dict:
    """Trains and examines all seeds, or goes on with it -> what was told, each [S, ...].

    Raises:
        Interrupted: if it was asked to stop; what is done is kept.
    """
    import numpy as np

    from runs.engine.training_loop import train_to_end

    hosted = hasattr(trainer, "pool")
    run_config, points = examination.run_config, len(examination.suite.points())
    progress.total = run_config.chunks + (points if hosted else run_config.seeds)
    learned, alive = train_to_end(trainer, out, progress, stopped)
    if hosted:
        pass
    else:
        from runs.probes.jax_validity import probe_seeds
    told = probe_seeds(examination, trainer, learned, out, progress, stopped)
    left = np.flatnonzero(alive[: run_config.seeds])
    if len(left) < run_config.seeds:
        progress.say(f"{run_config.seeds - len(left)} seeds stopped being numbers and are left out")
    return {name: np.asarray(value, float)[left] for name, value in told.items()}


if __name__ == "__main__":
    run_main(main)
