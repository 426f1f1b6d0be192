"""Inheritance: what should a newborn be given of what its parents have learned, in which body?

Parents learn at home. A newborn, untrained, is raised in a world that they never met, with
something of theirs: weights, a teacher, or a frozen value that is paid as a potential. Each carrier
and each knowledge-free control gets the same number of trials, in development worlds; then plan,
parents and numbers are frozen, sealed worlds are drawn, and the claims are made once, the pair of
parent and newborn being the unit. A carrier of your own is a class in a file (`--carrier`).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import arg

from runs.cli.settings import StudySettings, check, run_main
from runs.cli.study import Job, run_study
from runs.report.page import Page

if TYPE_CHECKING:
    from runs.inheritance.choices import Choices
    from runs.inheritance.design import InheritDesign

COMMAND = "python -m runs.inherit"


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the study.

    Attributes:
        env: the suite in which parents learn.
        seeds: pairs of a parent and a newborn in the claims, at least 3.
        carrier: a carrier of yours, FILE.py:NAME, which is tuned, raised and compared with the
            chosen controls and with the parents' value.
        heads: heads that learn beside the parents, as in runs.parents, and are paid as potentials.
        from_file: a trained head, FILE.safetensors or zoo:NAME, that is paid as a potential.
        table: a YAML file of arms with numbers of your choice (`runs.inheritance.table`), which are
            raised without tuning and without claims.
        newborn_envs: environments of a newborn at a time, of which it learns in every update.
        parts: the claims, and the exploratory part after them; or one of the two alone.
        choices: numbers that an earlier study has chosen, its file `-choices.csv`; they are not
            chosen again.
        base: seed of all seeds.
    """

    least = {"newborn_envs": (1, "expected at least 1")}
    env: str = "Drive"
    seeds: int = 20
    carrier: str = ""
    heads: tuple[str, ...] = ()
    from_file: Annotated[str, arg(name="from")] = ""
    table: Path | None = None
    newborn_envs: int = 16
    parts: Literal["both", "claims", "explored"] = "both"
    neutral: ClassVar = ("parts",)
    choices: Path | None = None
    base: int = 0


def study(job: Job) -> Page:
    """Run the whole study -> page."""
    from runs.inheritance.choices import OWN, choose_base, choose_numbers, read_choices
    from runs.inheritance.claims import make_claims, run_claims, verdicts
    from runs.inheritance.design import make_design
    from runs.inheritance.exploratory import explore
    from runs.inheritance.page import inherit_page
    from runs.inheritance.run import InheritRun
    from runs.inheritance.table import read_arms, run_table, table_page

    design, parts = make_design(job.settings), job.settings.parts
    known = job.settings.choices and read_choices(job.settings.choices, design)
    if job.settings.table is not None:
        arms = read_arms(job.settings.table, design)
        with InheritRun(design, job) as run:
            job.progress.total = units(design, sum(arm.cell.count for arm in arms))
            run.train_parents()
            return table_page(design, arms, run_table(run, arms), job)
    with InheritRun(design, job) as run:
        job.progress.total = units(design, planned_newborns(design, parts, known))
        success = run.train_parents()
        choices = choose_numbers(run, (OWN, *design.claimed), known or choose_base(run))
        results, explored = [], None
        if parts != "explored":
            claims = make_claims(design, choices)
            results = verdicts(claims, run_claims(run, choices, claims))
        if parts != "claims":
            choices = choose_numbers(run, design.bodies, choices)
            explored = explore(run, choices)
    return inherit_page(design, success, choices, results, explored, job)


def planned_newborns(design: "InheritDesign", parts: str, known: "Choices | None") -> int:
    """Number of newborns of some parts of the study, at most; `known` numbers need none."""
    from runs.inheritance import choices, claims, exploratory

    bodies = (choices.OWN, *design.claimed) if parts == "claims" else design.bodies
    count = choices.planned_newborns(design, bodies, known)
    if parts != "explored":
        count += claims.planned_newborns(design)
    if parts != "claims":
        count += sum(cell.count for _, cell in exploratory.cells(design))
    return count


def units(design: "InheritDesign", newborns: float, trainings: float | None = None) -> int:
    """Units of progress: updates of every newborn, and of every parent in all its `trainings`.

    By default these are its own, that on shuffled rewards, and those that are stopped.
    """
    parents, newborn = (c.chunks * c.updates for c in (design.config, design.newborn_config))
    trainings = 2 + sum(design.stops) if trainings is None else trainings
    return round(parents * design.parents * trainings + newborn * newborns)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
