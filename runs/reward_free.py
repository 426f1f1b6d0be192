"""Training without task reward in shifted worlds: can a head's signal alone improve an agent?

An agent is trained at home on the task reward, and heads beside it, without effect on the agent.
Then training goes on in a shifted world at full severity, on signals alone: the task reward is off,
the heads are frozen, critic and optimiser are new. Afterwards the agent is evaluated by the task
reward, there and at home.

An invariant potential, one that is 0 beyond the end, would teach nothing here: over any episode it
sums to -phi(first obs), whatever the actions. So the potential of the terminal observation is added
too, and an episode sums to gamma^T phi(last obs) less phi(first obs): the head's value of its end.

There is one shift of each family, the one with the most room between an agent that was never
trained in it and one that was (`runs.calibrate`). In Drive layout and actuator (cones, delay) are
public: each arm's step size and the best control are chosen there (`--tune --record`, with other
seeds), before the plan is registered. Social, dynamics and sensor (aggressive, ice, fog) are
sealed: drawn once, after the plan was registered and every arm frozen (`python -m runs.verify`). An
interrupted run is resumed by the same command.
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
from runs.errors import Interrupted, UserError
from runs.lock import hold_lock
from runs.names import safe_name

COMMAND = "python -m runs.reward_free"
RESULTS = Path("runs/results")


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        env: a built-in suite, such as Drive, another jitted one, such as gymnax:CartPole-v1, or
            any gymnasium id, such as CartPole-v1; of a host environment the time that its steps
            take is printed first.
        heads: with an arm each, beside hope - fear; `my_head.py:Dread` is one of your own. The
            default `innate` is left out where the suite has no innate signal.
        seeds: learners, at least 3.
        steps: environment steps a seed at home; 0 for those of `runs.compare`.
        further: steps in each shifted world; 0 for .48 of those at home (104,000 in Drive).
        lr: step size there, of every arm; 0 for the one chosen for each arm on the dev shifts.
        weight: of all signals.
        dev: public shifts; by default cones and delay in Drive, in other suites the first shift of
            each family in the first half of the families.
        sealed: shifts whose families are kept back; by default those of the other families.
        rival: the control of the primary contrast with hope - fear; by default the best one on the
            dev shifts.
        episodes: evaluated at each point; 0 for the usual number.
        base: seed of all seeds.
        out: folder of the study.
        config: a YAML file of these settings; flags go before it.
        tune: choose step sizes and rival on the dev shifts, with other seeds; with --record the
            study uses them from then on.
        smoke: a test run of a minute through all code, whose results mean nothing.
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
    """Parse the flags and run the study; returns the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Check the settings as far as that needs no jax.

    Raises:
        UserError: for an unknown environment, a number out of range, or `record` of a partial run.
    """
    check_env(settings.env)
    check_seeds(settings)
    check_not_negative(settings, "steps", "further", "episodes", "lr")
    if settings.weight <= 0:
        raise UserError(f"--weight {settings.weight}: signals need a weight above 0")
    check_recordable(settings)


def study(settings, command, progress, stopped) -> int:
    """Run the whole study, or `--tune`, in this process; returns the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from envs.host.pool import HostFailure
    from runs.adaptation.reward_free_design import make_design
    from runs.adaptation.reward_free_study import RewardFreeStudy
    from runs.adaptation.tune import tune_step_sizes, write_choices

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
            design = make_design(settings)
            runner = RewardFreeStudy(design, out, progress, stopped)
            with closing(design.home):
                parts, levels = runner.run()
    except Interrupted:
        return 0
    except HostFailure as error:
        raise UserError(f"{error}; then repeat the command to resume") from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    progress.close()
    from runs.adaptation.reward_free_page import write_page

    targets = [out] + ([RESULTS] if settings.record else [])
    for target in targets:
        text = write_page(target, runner, parts, levels, command)
    print(text)
    print(f"table, figures   {targets[-1]}/reward_free*; python -m runs.verify {out}")
    return 0


def folder(settings: Settings) -> Path:
    """Folder of the study, named by all settings that change a result."""
    from runs.engine.custom_head import file_digests

    if settings.out is not None:
        return settings.out
    mark = fingerprint(settings, leave_out=("out", "config", "record"))
    mark = "-".join((mark, *file_digests(settings.heads)))
    if not settings.tune:
        from runs.adaptation.reward_free_design import choices_digest

        mark = f"{mark}-{choices_digest(settings.env)}"
    return Path("runs/logs/reward_free") / f"{safe_name(settings.env)}-{mark}"


if __name__ == "__main__":
    run_main(main)
