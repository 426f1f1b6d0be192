"""Continual learning: what is kept and lost in changing worlds, and what helps on a return?

An agent is trained at home, and heads beside it. Then the world changes from stage to stage (cones,
ice, cross traffic, cones) and training goes on: policy, critic and optimiser carry over, and the
change is not observed. The task reward is on always, or rarely (in one environment of eight), or
never; signals are added to it, the last step of an episode included, and the arms are those of
`runs.reward_free`. All worlds are evaluated throughout. An agent that learns the present world may
lose the previous one; on the second visit to a world memory and signal separate: memory is what is
left of the first visit, a signal is what can teach the world anew. An interrupted run is resumed by
the same command.
"""

from dataclasses import dataclass
from functools import partial

from runs.cli.settings import EnvSettings, check_env, run_main
from runs.cli.study import Job, run_study
from runs.errors import UserError
from runs.names import checked_choice
from runs.report.page import Page

COMMAND = "python -m runs.continual"


@dataclass(frozen=True)
class Settings(EnvSettings):
    """Settings of the study.

    Attributes:
        heads: with an arm each, beside hope - fear; `my_head.py:Dread` is one of your own. The
            default `innate` is left out where the suite has no innate signal.
        seeds: runs an arm, at least 3.
        steps: environment steps a seed in each stage; 0 for .17 of those at home.
        stream: shifts at full severity, one of which comes back; by default cones, ice, cross,
            cones, or in other suites the first three shifts and the first again.
        pay: schedules of the task reward: always, rare, never.
        episodes: in each world, each evaluation; 0 for half of the usual number.
    """

    heads: tuple[str, ...] = ("fear", "hope", "curiosity", "innate")
    seeds: int = 20
    steps: int = 0
    stream: tuple[str, ...] = ()
    pay: tuple[str, ...] = ("always", "rare", "never")
    episodes: int = 0


def check(settings: Settings) -> None:
    """Check the settings as far as that needs no jax.

    Raises:
        UserError: for an unknown environment; schedules or heads that are unknown, missing or
            repeated; a number out of range; or `record` of a partial run.
    """
    check_env(settings)
    for flag in ("pay", "heads"):
        values = getattr(settings, flag)
        if not values or len(set(values)) < len(values):
            raise UserError(f"--{flag} {' '.join(values)}: name at least one, and each once")
    for schedule in settings.pay:
        checked_choice("schedule", schedule, Settings.pay)


def study(job: Job) -> Page:
    """Run every arm under every schedule of the task reward -> page."""
    from runs.continual_page import continual_page
    from runs.continual_stream import StreamRun, make_design

    design = make_design(job.settings)
    with StreamRun(design, job) as run:
        results = run.run()
    return continual_page(design, results, job)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
