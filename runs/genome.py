"""Genome: how many bytes of a trained value or policy do new agents need, near home and far away?

The values and policies of parents are distilled into two numbers, linear functions and networks of
1 to 64-64 units, with weights of 2 to 32 bits. A value is paid to newborns as a potential, a policy
teaches them; every genome gets numbers of its own by the same trials, as do the controls: nothing,
a constant potential, a value of shuffled senses, one rule of two senses for all. Newborns have the
parents' body or permuted actions, and are raised at home and ever further from it.

Stated before the run: forty bytes are equivalent to the whole critic with new parents; and the
further from home, the smaller the best genome.
"""

from dataclasses import dataclass
from functools import partial

from runs.cli.settings import StudySettings, check, run_main
from runs.cli.study import Job, run_study
from runs.report.page import Page

COMMAND = "python -m runs.genome"


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the study.

    Attributes:
        env: the suite in which parents learn, of `runs.inheritance.homes`.
        seeds: pairs of a parent and a newborn that are compared, at least 3.
        base: seed of all seeds.
    """

    env: str = "Drive"
    seeds: int = 8
    base: int = 0


def study(job: Job) -> Page:
    """Run the whole study -> page."""
    from runs.genomes.newborns import GenomeRun, choose, genome_design, planned_newborns, raise_all
    from runs.genomes.page import genome_page
    from runs.inherit import units

    design = genome_design(job.settings)
    with GenomeRun(design, job) as run:
        job.progress.total = units(design, planned_newborns(design))
        success = run.train_parents()
        choices = choose(run)
        table = raise_all(run, choices)
        return genome_page(run, success, choices, table, job)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
