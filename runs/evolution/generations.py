"""Generations of `runs.evolve`: parents, searches, newborns, and the sealed claims of the winners.

    parents of all generations -> length of lives -> every arm, evolution and generation -> claims

Each of these is a part of the study with a file, or checkpoints, of its own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from runs.cli.study import Job
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.seeds import Stream, seed_keys, stream_key
from runs.errors import UserError
from runs.evolution.alphabets import Genome, checked, genome_at, middle, point_of
from runs.evolution.design import (
    BYTES,
    CONSTANT,
    EVOLVED,
    HOME,
    INHERIT,
    RANDOM,
    RELEARNED,
    SHUFFLED,
    EvolveDesign,
    winner,
)
from runs.inheritance.choices import OWN, Choices, areas_of
from runs.inheritance.claims import Arm as ClaimArm
from runs.inheritance.claims import Claim
from runs.inheritance.parent import Parent, make_parent
from runs.inheritance.run import Cell, InheritRun, drawn_key
from runs.inheritance.tuning import choose
from runs.signal_arms import AT_HOME

PASSED, RELEARN = ("policy",), ("agent", "heads")  # what parents begin anew
CHECKED = 0  # draw of the newborns that show how good a favourite is; no search is told of them
PILOT = ({}, {"shift": -1.0, "reward": 0.01}, {"shift": -1.0, "reward": 0.01, "scale": 2.0})
"""Genomes that say how long a life must be: nothing, constants, and the parents' value."""


class EvolveRun(InheritRun):
    """The study in its folder: that of `runs.inherit`, with parents of several generations.

    Attributes:
        study: what is run.
        lineages: (whether heads are passed on, generation) -> [P] of `Parent`.
        success: the same -> success of these parents at home.
        generation: of the parents whose newborns are raised.
        chunks: of a life.
    """

    def __init__(self, study: EvolveDesign, job: Job):
        super().__init__(study.inherit, job)
        self.study, self.generation, self.chunks = study, 0, 0
        self.lineages: dict[tuple[bool, int], Parent] = {}
        self.success: dict[tuple[bool, int], float] = {}

    # --- parents ----------------------------------------------------------------------------------

    def train_lineages(self) -> None:
        """Train the parents of all generations at home, or restore them.

        Those of the next generation have new policies; critic and heads go on learning if they are
        passed on, and begin anew if they are relearned.

        Raises:
            UserError: if parents fail at home.
        """
        founders = self._train(None, 0, PASSED, "founders")
        for passed in sorted({arm.passed for arm in self.study.arms.values()} | {True}):
            learner, renew = founders, PASSED if passed else RELEARN
            self._keep(passed, 0, founders)
            for generation in range(1, self.study.generations + 1):
                name = f"parents {'passed' if passed else 'relearned'} {generation}"
                learner = self._train(learner, generation, renew, name)
                self._keep(passed, generation, learner)
        self.parents["trained"] = self.lineages[True, self.study.generations]

    def _train(self, before: Any, generation: int, renew: tuple[str, ...], name: str) -> Any:
        """Learners [P] of a generation at home, from those `before`; None for untrained ones."""
        home, blend = self.home, self.design.blend
        pool = world_pool(flat_worlds(self._home_points().worlds, [0]))
        sizes = home.chunks, home.updates, home.agent
        phase = Phase(pool, *sizes, blend, AT_HOME.mix(blend), renew=renew)
        start = None
        if before is not None:
            key = drawn_key(stream_key(home.base, Stream.LATER_PHASES), [generation])
            start = partial(self.backend.enter, before, phase, seed_keys(key, range(home.rows)))
        return self.train(name, phase, start, self.out / "parents" / name).state.learner

    def _keep(self, passed: bool, generation: int, learner: Any) -> None:
        """Keep the parents in learners, and their success at home."""
        key, info = (passed, generation), self.design.suite.env.spec.info
        self.success[key] = float(self.home_success(learner).mean())
        self.lineages[key] = make_parent(self.home.agent, learner, info)

    def inherited(self, carrier: str, source: str = "") -> Parent:
        """Parents [P] of the present generation, in the lineage of the arm of a winner."""
        del source
        arm = self.study.arms.get(carrier.rpartition(" ")[0])
        return self.lineages[arm is None or arm.passed, self.generation]

    # --- newborns ---------------------------------------------------------------------------------

    def areas(
        self, name: str, evolution: int, draw: int, genomes: Sequence[Genome], at_home: bool = False
    ) -> np.ndarray:
        """Areas [genomes, family] under the learning curves of newborns, of a carrier's `name`."""
        table = self.raise_genomes(name, evolution, draw, genomes, at_home)
        return areas_of([table], np.arange(len(genomes)))

    def raise_genomes(
        self, name: str, evolution: int, draw: int, genomes: Sequence[Genome], at_home: bool = False
    ) -> pd.DataFrame:
        """Raise the family of each genome, of present parents -> a row a newborn."""
        newborns, indices = self.study.newborns(evolution, at_home), (evolution, draw)
        cell = Cell(name, OWN, list(genomes), newborns, draw=indices, chunks=self.chunks)
        kind = ("checked" if draw == CHECKED else "members") if self.chunks else "whole lives"
        key = drawn_key(stream_key(self.home.base, Stream.GENERATIONS), indices)
        return self.raise_cell(f"{kind} {evolution + 1}.{self.generation}", cell, key)

    def measure_life(self) -> int:
        """Chunks of a life after which the areas of PILOT differ most, beside their spread."""
        nothing = middle(self.study.alphabets["feelings"].knobs)
        genomes = [nothing | genome for genome in PILOT]
        table = self.raise_genomes(INHERIT, 0, CHECKED, genomes)
        curves = table[[name for name in table if name.startswith("curve_")]].to_numpy()
        return life(curves.reshape(len(genomes), -1, curves.shape[-1]))


def life(curves: np.ndarray) -> int:
    """Number of chunks after which areas differ most between arms, in units of their spread.

    Args:
        curves: [arms, newborns, chunks] share of episodes that succeeded.
    """
    areas = curves.cumsum(-1) / (1 + np.arange(curves.shape[-1]))
    between, within = areas.mean(1).std(0), areas.std(1).mean(0)
    return int((between / np.maximum(within, 1e-3)).argmax()) + 1


# --- evolutions -----------------------------------------------------------------------------------


def evolve(run: EvolveRun, name: str, evolution: int) -> tuple[list[dict[str, Any]], Genome]:
    """One evolution of an arm -> (a row a generation, its winner).

    Before each generation, and after the last, the favourite of the search is checked on newborns
    that all arms share and that no search is told of.

    Raises:
        UserError: if no newborn of a generation has finite numbers.
    """
    study, rows = run.study, []
    arm, free, carrier = study.arms[name], study.free(name), winner(name, evolution)
    knobs = study.alphabets[arm.alphabet].knobs
    start = middle(knobs) if arm.free else study.start[arm.alphabet]  # others pay nothing
    seed = (study.inherit.config.base, evolution)
    search = arm.search(point_of(start, free), study.population, seed)
    rng = np.random.default_rng((*seed, 1))  # of permutations
    for run.generation in range(study.generations + 1):
        favourite = genome_at(search.favourite, start, free)
        row = {"arm": name, "evolution": evolution, "generation": run.generation}
        areas = run.areas(carrier, evolution, CHECKED, [favourite])[0]
        rows.append(row | {"areas": areas, "genome": favourite})
        if run.generation == study.generations:
            break
        members = [genome_at(point, start, free) for point in search.ask()]
        members = [checked(x, knobs, f"{carrier}, generation {run.generation}") for x in members]
        areas = run.areas(carrier, evolution, 1 + run.generation, members, arm.at_home)
        fitness = fitness_of(areas, f"{carrier}, generation {run.generation}")
        search.tell(rng.permutation(fitness) if arm.shuffled else fitness)
    return rows, favourite


def fitness_of(areas: np.ndarray, where: str) -> np.ndarray:
    """Mean area [members] of areas [members, family]; a newborn without finite numbers has 0.

    Raises:
        UserError: if no newborn of any member has finite numbers.
    """
    if not np.isfinite(areas).any():
        raise UserError(
            f"{where}: no newborn has finite numbers, so that no fitness can be told apart: "
            f"begin elsewhere with --start, or take another --base"
        )
    return np.nan_to_num(areas).mean(1)


def evolve_all(run: EvolveRun) -> tuple[pd.DataFrame, Choices]:
    """All evolutions of all arms -> (a row a generation, the winners as choices)."""
    study, rows, chosen, areas = run.study, [], {}, {}
    for name in study.arms:
        for evolution in range(study.evolutions):
            history, genome = evolve(run, name, evolution)
            key, of_last = (winner(name, evolution), OWN), history[-1]["areas"]
            tried = study.generations * study.population
            chosen[key] = choose([genome], of_last[None], study.free(name), tried)
            areas[key] = of_last
            rows += history
    run.generation, genomes = study.generations, [study.given]
    if study.given is not None:
        of_given = [run.areas(INHERIT, i, CHECKED, genomes)[0] for i in range(study.evolutions)]
        areas[INHERIT, OWN] = np.mean(of_given, 0)
        chosen[INHERIT, OWN] = choose(genomes, areas[INHERIT, OWN][None], {}, 0)
    return pd.DataFrame(rows), Choices(0.0, chosen, areas, {})


# --- claims ---------------------------------------------------------------------------------------

REASONS = {
    CONSTANT: ("parents know how near success is", "what is selected is the shift alone"),
    RANDOM: ("later generations build on earlier ones", "as many random genomes do as well"),
    INHERIT: ("selection finds more than trials of two numbers", "the two numbers do as well"),
    RELEARNED: ("heads that learn for generations know more", "relearned heads serve as well"),
    HOME: ("what is selected in many worlds serves in others", "selection at home serves as well"),
    BYTES: ("parents that learn find what selection alone does not", "selection finds as much"),
    SHUFFLED: ("fitness carries what is selected", "shuffled fitness does as well"),
}
"""Reference of the evolved genome -> (why it should be better, what would refute that)."""


def make_claims(study: EvolveDesign) -> list[Claim]:
    """The claims: winners of the first arm less those of each other; an arm is the mean of its own.

    Numbers of `runs.inherit`, where they are known, are an arm too.
    """
    names = {name: [winner(name, i) for i in range(study.evolutions)] for name in study.arms}
    if study.given is not None:
        names[INHERIT] = [INHERIT]
    arms = {k: ClaimArm(k, tuple((one, OWN) for one in v)) for k, v in names.items()}
    return [Claim(arms[EVOLVED], arms[k], *reason) for k, reason in REASONS.items() if k in arms]


def planned_newborns(study: EvolveDesign) -> float:
    """Newborns of the whole study, in lives of full length."""
    genomes = study.generations * (study.population + 1) + 1
    evolved = len(study.arms) * study.evolutions * genomes * study.family
    arms = (len(study.arms) * study.evolutions + 1) * 3 * study.inherit.pairs
    return evolved * 0.5 + arms
