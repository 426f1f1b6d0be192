"""Validity of a head: how well it and baseline signals predict harm, unshifted and under shift.

Trains an agent without pay from heads, while a head and its baselines learn from the same
experience. Then all signals are evaluated on the same episodes, in the unshifted world ("home") and
under every shift (`runs.probes.readouts`): AUROC, average precision and calibration for harm soon,
and lead time of alarms at a threshold with 1 false alarm in 200 steps at home. Baselines: the
agent's critic; a critic with the head's short horizon; the critic with progress regressed out; the
untrained head; an innate signal; the disagreement of five heads; heads from linear to 256-256,
trained online and offline; the head trained in randomised worlds. The number of random labels that
a head can memorise is compared with its AUROC under shift.

The primary contrast, declared beforehand, is the AUROC of the head less that of minus the critic,
mean over shifts. It and the others of `runs.probes.validity_contrasts.FAMILY` are Holm-adjusted
together. If interrupted, the same command resumes.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from runs.cli.settings import check_recordable, fingerprint, parse_settings, run_main, shell_command
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import design as comparison_design
from runs.errors import Interrupted, UserError
from runs.lock import hold_lock
from runs.names import safe_name

COMMAND = "python -m runs.validity"
EPISODES = 128  # at each point of a jitted world


@dataclass(frozen=True)
class Settings:
    """Command-line settings of the study.

    Attributes:
        env: a jitted world of this package, such as Drive, one of another, such as
            gymnax:CartPole-v1, or any gymnasium id, such as MiniGrid-DistShift1-v0.
        head: the head to probe, or your own, my_head.py:Dread.
        horizon: steps within which harm is predicted.
        seeds: training runs, at least 3.
        steps: environment steps a seed; 0 for as many as runs.compare takes.
        shifts: names of the shifts to evaluate; by default all of them.
        episodes: at each point; 0 for 128, or as many as runs.compare takes of a host.
        out: folder of the study; by default runs/logs/validity/ENV-FINGERPRINT.
        config: a YAML file of these settings; flags override it.
        smoke: a test run of seconds through all of the code, without meaningful results.
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
    """Parse the arguments and run the study -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for a number out of range, or `record` with a part of the study.
    """
    check_comparison(comparison(settings))
    if settings.horizon < 2:
        raise UserError(f"--horizon {settings.horizon}: must be at least 2 steps")
    check_recordable(settings, "shifts")


def comparison(settings: Settings) -> Comparison:
    """Settings of the comparison (`runs.compare`) with the same worlds, sizes and agent."""
    names = ("env", "seeds", "steps", "shifts", "smoke")
    return Comparison(
        heads=(settings.head,),
        episodes=settings.episodes,
        out=settings.out,
        **{name: getattr(settings, name) for name in names},
    )


def study(settings: Settings, command: str, progress, stopped) -> int:
    """Train, probe and report in this process -> exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from envs.host.pool import HostFailure
    from runs.engine.comparison import claim_folder
    from runs.probes.validity_report import report

    probe, trainer = make_probe(settings)
    suite, run_config = probe.suite, probe.run_config
    out = folder(settings, suite.name)
    progress.say(
        f"{suite.name}: {run_config.seeds} seeds x "
        f"{run_config.chunks * run_config.chunk_steps:,} steps, "
        f"{len(suite.points())} points x {run_config.episodes} episodes -> {out}"
    )
    try:
        with hold_lock(out):
            claim_folder(out, identity(settings))
            with closing(trainer):
                readouts = run(probe, trainer, out, progress, stopped)
            progress.close()
            targets = [out] + ([Path("runs/results")] if settings.record else [])
            report(probe, readouts, command, targets, run_config.seeds)
    except Interrupted:
        return 0
    except HostFailure as error:
        raise UserError(f"{error}; run the same command again to resume") from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    return 0


def folder(settings: Settings, env: str) -> Path:
    """Folder of the study of an environment."""
    return settings.out or Path("runs/logs/validity") / f"{safe_name(env)}-{identity(settings)}"


def identity(settings: Settings) -> str:
    """Fingerprint of all settings that change a result and of a user's head file."""
    from runs.engine.custom_head import file_digests

    return fingerprint(settings, ("out", "config", "record"), file_digests((settings.head,)))


def make_probe(settings: Settings) -> tuple[Any, Any]:
    """Build the probe and the trainer -> (`runs.probes.validity_probe.ValidityProbe`, trainer).

    Raises:
        UserError: for an unknown environment, head or shift, or a space that does not fit.
    """
    from affect import Fear
    from envs import is_jitted
    from runs.engine import arms, custom_head
    from runs.engine.presets import preset
    from runs.probes.baselines import baseline_blend
    from runs.probes.validity_probe import ValidityProbe

    design = comparison_design(comparison(settings))
    suite, run_config = design.suite, design.run_config
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
    probe = ValidityProbe(name, blend, suite, run_config, settings.horizon)
    if settings.smoke:
        probe = replace(probe, samples=256, fitting=2)
    return probe, design.trainer(suite, arm, run_config)


def run(probe, trainer, out: Path, progress, stopped) -> dict:
    """Train and probe all seeds, or resume -> readouts, each [S, ...], without seeds that stopped.

    Raises:
        Interrupted: if `stopped` returned True; finished parts are kept.
    """
    import numpy as np

    from runs.engine.training_loop import train_to_end

    is_host = hasattr(trainer, "pool")
    run_config, points = probe.run_config, len(probe.suite.points())
    progress.total = run_config.chunks + (points if is_host else run_config.seeds)
    state, alive = train_to_end(trainer, out, progress, stopped)
    if is_host:
        from runs.probes.host_validity import probe_host_seeds as probe_seeds
    else:
        from runs.probes.jax_validity import probe_seeds
    readouts = probe_seeds(probe, trainer, state, out, progress, stopped)
    finite = np.flatnonzero(alive[: run_config.seeds])
    if len(finite) < run_config.seeds:
        progress.say(f"{run_config.seeds - len(finite)} seeds became non-finite and are left out")
    return {name: np.asarray(value, float)[finite] for name, value in readouts.items()}


if __name__ == "__main__":
    run_main(main)
