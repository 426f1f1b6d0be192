"""Evolution: which inherited value and rewards does CMA-ES select, and does learning find the same?

A genome is eight numbers: scale, shift and horizon of a value that is inherited, and weights of
fear, an innate signal, curiosity, satiation and a constant reward; or the forty bytes of a value of
two units, which nobody has learned. An evolution strategy (Hansen & Ostermeier, 2001) selects it by
the area under the learning curves of newborns in the worlds of a generation. Genomes are inherited
as by Darwin: they change by selection alone. Heads are inherited as by Lamarck: what parents have
learned goes on learning in the next generation; in the variant `relearned` every generation learns
them anew and only the genome passes on. Parents learn from the task's reward alone, so that all
arms share them.

Stated before the run: selection finds a large scale and a shift below 0, since a newborn learns
fastest where every state seems bad until it is near success; and it leaves fear, curiosity and
satiation near 0. It is refuted if the evolved genome is not above the best constant potential in
sealed families, whose shift alone needs no parents, or not above a random search of its budget.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runs.cli.settings import StudySettings, run_main
from runs.cli.settings import check as check_shared
from runs.cli.study import Job, run_study
from runs.errors import UserError
from runs.report.page import Page

COMMAND = "python -m runs.evolve"
MOST_GENERATIONS = 500


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the study.

    Attributes:
        env: the suite in which parents learn, of `runs.inheritance.homes`.
        evolutions: of each arm, at least 3.
        population: members of a generation, at least 4.
        generations: of members.
        seeds: pairs of a parent and a newborn in the sealed claims, at least 3.
        arms: of `runs.evolution.design.ARMS`, `evolved` among them; none for all.
        start: numbers at which searches begin, such as scale=2,shift=-1; the others pay nothing.
        life: chunks of a newborn's life during evolution, of 13; 0 to measure after how many arms
            differ most.
        choices: numbers that `runs.inherit` has chosen, its file `-choices.csv`; by default those
            that were recorded.
        base: seed of all seeds.
    """

    env: str = "Drive"
    evolutions: int = 5
    population: int = 16
    generations: int = 8
    seeds: int = 12
    arms: tuple[str, ...] = ()
    start: str = ""
    life: int = 0
    choices: Path | None = None
    base: int = 0


def check(settings: Settings) -> None:
    """Check the settings as far as that needs no jax.

    Raises:
        UserError: for a size that is too small or too large, arms without `evolved`, `record` of a
            smoke run, or a missing library.
    """
    check_shared(settings)
    for name, least, most, why in (
        ("evolutions", 3, 999, "an interval needs at least 3"),
        ("population", 4, 999, "selection needs at least 4 members"),
        ("generations", 1, MOST_GENERATIONS, f"expected 1 to {MOST_GENERATIONS}"),
        ("life", 0, 13, "expected 0 to 13 chunks"),
    ):
        number = getattr(settings, name)
        if not least <= number <= most:
            raise UserError(f"--{name} {number}: {why}")
    if settings.arms and "evolved" not in settings.arms:
        raise UserError(f"--arms {' '.join(settings.arms)}: add evolved, which the others are for")
    from runs.evolution.search import import_cma

    import_cma()


def study(job: Job) -> Page:
    """Run the whole study -> page."""
    from runs.evolution.design import evolve_design
    from runs.evolution.generations import EvolveRun, evolve_all, make_claims, planned_newborns
    from runs.evolution.page import evolve_page
    from runs.inherit import units
    from runs.inheritance.claims import run_claims, verdicts

    design = evolve_design(job.settings)
    with EvolveRun(design, job) as run:
        trainings = design.generations * len({arm.passed for arm in design.arms.values()} | {True})
        newborns = planned_newborns(design)
        job.progress.total = units(design.inherit, newborns, 1 + trainings)
        run.train_lineages()
        run.chunks = min(job.settings.life, design.inherit.newborn_config.chunks)
        run.chunks = run.chunks or run.measure_life()
        generations, winners = evolve_all(run)
        claims, results = make_claims(design), []
        if claims:
            relearned = run.lineages.get((False, design.generations))
            others = {} if relearned is None else {"relearned parents": relearned}
            results = verdicts(claims, run_claims(run, winners, claims, others))
        return evolve_page(run, generations, winners, results, job)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
