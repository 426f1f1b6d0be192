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
mean over shifts. It and the others of `runs.validity_page.FAMILY` are Holm-adjusted together. If
interrupted, the same command resumes.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from runs.cli.settings import EnvSettings, run_main, shared_settings
from runs.cli.settings import check as check_shared
from runs.cli.study import Job, run_study
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import make_experiment
from runs.lock import replacing
from runs.names import safe_name
from runs.report.page import Page, page_text

COMMAND = "python -m runs.validity"
EPISODES = 128  # at each point of a jitted world
ARM = "beside"  # name of the one arm: no head pays the agent


@dataclass(frozen=True)
class Settings(EnvSettings):
    """Command-line settings of the study.

    Attributes:
        head: the head to probe, or your own, my_head.py:Dread.
        horizon: steps within which harm is predicted.
        seeds: training runs, at least 3.
        steps: environment steps a seed; 0 for as many as runs.compare takes.
        shifts: names of the shifts to evaluate; by default all of them.
        episodes: at each point; 0 for 128, or as many as runs.compare takes of a host.
    """

    narrowed_by = ("shifts",)
    least = {"horizon": (2, "must be at least 2 steps")}
    head: str = "fear"
    horizon: int = 10
    seeds: int = 20
    steps: int = 0
    shifts: tuple[str, ...] = ()
    episodes: int = 0


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for a number out of range, or `record` with a part of the study.
    """
    check_comparison(shared_settings(Comparison, settings, heads=(settings.head,)))
    check_shared(settings)


def study(job: Job) -> Page:
    """Train the agents, probe the head and its baselines, and report."""
    from runs import validity_page

    experiment, probe = make_probe(job.settings)
    suite, run_config = probe.suite, probe.run_config
    readouts = probe_seeds(job, experiment, probe)
    points, name = suite.points(), f"validity-{safe_name(suite.name)}"
    result = validity_page.ValidityResult(suite.name, probe.head, points, readouts)
    sections = validity_page.sections(
        result,
        name,
        f"{run_config.seeds} seeds x {run_config.steps:,} steps, {run_config.episodes} episodes "
        "a point.",
        probe.horizon,
        run_config.chunks * run_config.updates * probe.blend.epochs,
        probe.batches * run_config.batch_steps,
    )
    title = f"{suite.name}: validity of {probe.head} under shift"
    text = page_text(title, sections, job.command)
    tables = {"": validity_page.csv_text(result)}
    return Page(name, text, validity_page.figures(result), tables=tables)


def make_probe(settings: Settings) -> tuple[Any, Any]:
    """Experiment with the one arm ARM, and its `runs.probes.validity_probe.ValidityProbe`.

    Raises:
        UserError: for an unknown environment, head or shift, or a space that does not fit.
    """
    from affect import Fear
    from runs.engine import arms, custom_head
    from runs.engine.trial import try_heads
    from runs.probes.baselines import baseline_blend
    from runs.probes.validity_probe import ValidityProbe

    experiment = make_experiment(shared_settings(Comparison, settings, heads=(settings.head,)))
    suite, name = experiment.suite, custom_head.short_name(settings.head)
    factory = arms.weighted_head(settings.head, suite)[1]
    if settings.head == "fear":
        factory = partial(Fear, horizon=settings.horizon)
    blend = baseline_blend(name, factory, settings.horizon)
    episodes = experiment.run_config.episodes
    if not (settings.episodes or settings.smoke):
        episodes = min(episodes, EPISODES)
    experiment = replace(experiment, arms={ARM: blend}, episodes=episodes)
    try_heads(experiment.all_arms, suite, experiment.run_config)
    blend = experiment.phases[ARM].blend
    probe = ValidityProbe(name, blend, suite, experiment.run_config, settings.horizon)
    return experiment, replace(probe, samples=256, fitting=2) if settings.smoke else probe


def probe_seeds(job: Job, experiment: Any, probe: Any) -> dict[str, Any]:
    """Train and probe all seeds, or load their readouts -> each [S, ...], without stopped seeds.

    Raises:
        Interrupted: if the user requested a stop; a checkpoint is saved.
    """
    import numpy as np

    from runs.arm_runner import ArmRunner, Reporter
    from runs.tree_io import read_npz

    path, run_config, points = job.out / "readouts.npz", probe.run_config, probe.suite.points()
    if path.exists():
        return read_npz(path)
    progress, (arm,), phase = job.progress, experiment.all_arms, experiment.phases[ARM]
    progress.total = run_config.chunks + len(points)
    progress.say(
        f"{probe.suite.name}: {run_config.seeds} seeds x {run_config.steps:,} steps, "
        f"{len(points)} points x {run_config.episodes} episodes -> {job.out}"
    )

    def on_point(done: int) -> None:
        progress.advance("probing", run_config.chunks + done)

    with closing(experiment.make_backend()) as backend:
        reporter = Reporter(progress.say, progress.advance, job.stopped)
        trained = ArmRunner(job.out, probe.suite, backend, reporter).train(arm, phase)
        readouts = probe.readouts(backend, phase, trained.state, job.stopped, on_point)
    finite = np.flatnonzero(trained.alive[: run_config.seeds])
    readouts = {name: np.asarray(value, float)[finite] for name, value in readouts.items()}
    with replacing(path) as part:
        np.savez(part, **readouts)
    return readouts


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
