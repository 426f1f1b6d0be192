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

from dataclasses import dataclass
from functools import partial

from runs.cli.settings import EnvSettings, check_env, check_not_negative, run_main
from runs.cli.study import Job, run_study
from runs.errors import UserError
from runs.report.page import Page

COMMAND = "python -m runs.reward_free"


@dataclass(frozen=True)
class Settings(EnvSettings):
    """Settings of the study.

    Attributes:
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
        tune: choose step sizes and rival on the dev shifts, with other seeds; with --record the
            study uses them from then on.
    """

    heads: tuple[str, ...] = ("fear", "hope", "curiosity", "innate")
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
    tune: bool = False


def check(settings: Settings) -> None:
    """Check the settings as far as that needs no jax.

    Raises:
        UserError: for an unknown environment, a number out of range, or `record` of a partial run.
    """
    check_env(settings)
    check_not_negative(settings, "lr")
    if settings.weight <= 0:
        raise UserError(f"--weight {settings.weight}: signals need a weight above 0")


def study(job: Job) -> Page:
    """Run the whole study, or choose step sizes and rival -> page."""
    from runs.reward_free_design import make_design
    from runs.reward_free_page import reward_free_page
    from runs.reward_free_run import RewardFreeRun
    from runs.reward_free_tune import tune

    if job.settings.tune:
        return tune(job)
    design = make_design(job.settings)
    with RewardFreeRun(design, job) as run:
        results, noise = run.run()
    return reward_free_page(design, results, noise, job)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
