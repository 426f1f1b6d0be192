"""Train agents at home with heads beside them that do not pay: what newborns can inherit.

There is one arm, `parent`: an agent on the task's reward alone, and every head of `--heads` behind
a lesion, so that it learns from the same experience and changes nothing. `python -m runs.export`
makes files of the heads and of the agent's critic; `python -m runs.zoo` makes those of
`affect.zoo`.
"""

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from runs.cli.settings import run_main
from runs.cli.study import Job, run_study
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import make_experiment as make_comparison
from runs.compare import run_experiment
from runs.errors import UserError

if TYPE_CHECKING:
    from affect import HeadFactory
    from envs.suite import Suite
    from runs.experiment import Experiment

COMMAND = "python -m runs.parents"
ARM = "parent"
WITH_HORIZON = re.compile(r"(hope|fear)-(\d+)")


@dataclass(frozen=True)
class Settings(Comparison):
    """Settings of the training of parents: those of a comparison.

    Attributes:
        heads: beside the agent: as of runs.compare, or with a horizon, such as hope-20; none for
            the critic alone.
        seeds: training runs, at least 3.
        episodes: scored at each point.
    """

    heads: tuple[str, ...] = ()
    seeds: int = 3
    episodes: int = 16


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for a number out of range, a head named twice, or a page to record.
    """
    if settings.record:
        raise UserError("--record: parents have no result to record; runs.export makes files")
    check_comparison(replace(settings, heads=settings.heads or ("hope",)))


def study(job: Job) -> None:
    """Train, score and report the one arm."""
    run_experiment(make_experiment(job.settings), job)


def make_experiment(settings: Settings) -> "Experiment":
    """The experiment of one arm that these settings define.

    Raises:
        UserError: for an unknown environment or head, or an unsupported space.
    """
    from affect import Blend, Lesion
    from runs.engine.custom_head import short_name

    experiment = make_comparison(replace(settings, heads=("hope",)))
    heads = {
        short_name(name).replace("-", "_"): (1.0, Lesion(head_beside(name, experiment.suite)))
        for name in settings.heads
    }
    return replace(experiment, arms={ARM: Blend(**heads)}, without=(), recordings=False)


def head_beside(name: str, suite: "Suite") -> "HeadFactory":
    """The head of a name, such as hope-20, fear or my_head.py:Dread.

    Raises:
        UserError: for an unknown head, or a horizon below 1.
    """
    from affect import Fear, Hope
    from runs.engine.arms import weighted_head

    horizon = WITH_HORIZON.fullmatch(name)
    if horizon is None:
        return weighted_head(name, suite)[1]
    try:
        return {"hope": Hope, "fear": Fear}[horizon[1]](horizon=int(horizon[2]))
    except ValueError as error:
        raise UserError(f"--heads {name}: {error}") from None


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
