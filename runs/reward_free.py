"""Learning where nobody pays: can a feeling teach in a world that pays nothing?

An agent learns at home, and heads learn beside it without being heard. Then it is put into a
shifted world at full severity, with the task reward switched off, its heads frozen, its critic and
optimiser new, and goes on learning from what it feels alone. Afterwards it is scored by the reward
that it never saw, there and at home.

An invariant potential, one that is 0 beyond the end, would teach nothing here: over any episode it
adds up to -phi(first obs), whatever was done. So the potential of the terminal observation is paid
too, and an episode adds up to gamma^T phi(last obs) less phi(first obs): how it ended, by feeling.

Of each family of shifts there is one, the one with the most room between who never met it and who
learned there (`runs.calibrate`). In Drive layout and actuator (cones, delay) are public: each arm's
step size and the best control are chosen there (`--tune --record`, with other seeds), before the
plan of the claim is written. Social, dynamics and sensor (aggressive, ice, fog) are sealed: drawn
once, after the plan was registered and every arm frozen (`python -m runs.verify`). Interrupted, the
same command goes on.
"""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runs.adaptation.suite_lookup import HEADS, check_env
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

COMMAND = "python -m runs.reward_free"
RESULTS = Path("runs/results")


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        env: a world of ours, such as Drive, anybody's jitted one, such as gymnax:CartPole-v1, or
            any gymnasium id, such as CartPole-v1; a host takes as long as its steps, which is said.
        heads: paid alone, beside hope - fear; `my_head.py:Dread` is one's own. Of the usual ones
            innate is left out where nothing is.
        seeds: learners, at least 3.
        steps: environment steps a seed at home; 0 for those of `runs.compare`.
        further: and in each shifted world; 0 for .48 of them (104,000 in Drive).
        lr: step size there, of every arm; 0 for what was chosen for each on the dev shifts.
        weight: of all feelings.
        dev: public shifts; none for the usual ones: of a suite other than Drive the first shift of
            each family in the first half of its families.
        sealed: shifts whose families are kept back; none for the usual ones, those of the others.
        rival: the control that hope - fear is declared against; none for the one that was best on
            the dev shifts.
        episodes: scored at each point; 0 for the usual number.
        base: seed of all seeds.
        out: folder of the study.
        config: a YAML file of these settings; flags go before it.
        tune: choose step sizes and rival on the dev shifts, with other seeds; with --record the
            study itself uses them from then on.
        smoke: a run of a minute that touches everything and means nothing.
        record: also write tables and figures to runs/results/.
    """

    env: str = "Drive"
    heads: tuple[str, ...] = HEADS
    seeds: int = 20
    steps: int = 0
    further: int = 0
    lr: float = 0.0
    weight: float = 1.0
    dev: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    rival: str = ""
    episodes: int = 0
    base: int = 0
    out: Path | None = None
    config: Path | None = None
    tune: bool = False
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
        UserError: for an environment that is unknown, a number out of range, or a part that is
            recorded.
    """
    check_env(settings.env)
    check_seeds(settings)
    check_not_negative(settings, "steps", "further", "episodes", "lr")
    if settings.weight <= 0:
        raise UserError(f"--weight {settings.weight}: a feeling has a weight above 0")
    check_recordable(settings)


def study(settings, command, progress, stopped) -> int:
    """The whole study in this process; the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from envs.host.pool import HostFailure
    from runs.adaptation.reward_free_design import make_design
    from runs.adaptation.reward_free_study import RewardFreeStudy
    from runs.adaptation.tune import tune_step_sizes, write_choices
    from runs.cli.interrupt import Interrupted
    from runs.lock import hold_lock

    out = folder(settings)
    try:
        with hold_lock(out):
            if settings.tune:
                text, choices = tune_step_sizes(settings, out, progress, stopped)
                for target in [out] + ([RESULTS] if settings.record else []):
                    write_choices(target, settings.env, text, choices)
                progress.close()
                print(text)
                return 0
            what = make_design(settings)
            ran = RewardFreeStudy(what, out, progress, stopped)
            with closing(what.home):
                found, levels = ran.run()
    except Interrupted:
        return 0
    except HostFailure as error:
        raise UserError(f"{error}; the same command then goes on") from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    progress.close()
    from runs.adaptation.reward_free_page import write_page

    targets = [out] + ([RESULTS] if settings.record else [])
    for target in targets:
        text = write_page(target, ran, found, levels, command)
    print(text)
    print(f"table, figures   {targets[-1]}/unpaid*; python -m runs.verify {out}")
    return 0


def folder(settings: Settings) -> Path:
    """Where the study lies: named by all settings that change a result."""
    from runs.engine.custom_head import file_digests
    from runs.report.tb_export import safe_name

    if settings.out is not None:
        return settings.out
    mark = fingerprint(settings, leave_out=("out", "config", "record"))
    mark = "-".join((mark, *file_digests(settings.heads)))
    if not settings.tune:
        from runs.adaptation.reward_free_design import choices_digest

        mark = f"{mark}-{choices_digest(settings.env)}"
    return Path("runs/logs/unpaid") / f"{safe_name(settings.env)}-{mark}"


if __name__ == "__main__":
    run_main(main)
