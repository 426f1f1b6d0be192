"""Run of `runs.genome`: how genomes enter newborns, the sizes, and all steps in order.

parents trained -> genomes distilled -> numbers chosen -> newborns raised near home and far
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from runs.cli.settings import shared_settings
from runs.cli.study import Job
from runs.engine.seeds import take_seeds
from runs.genomes.distilled import (
    STEPS,
    CommonForm,
    Distillations,
    Genome,
    common_form,
    distil_all,
    with_senses,
)
from runs.inherit import Settings as InheritSettings
from runs.inheritance.bodies import bodies
from runs.inheritance.carrier import Carrier, Numbers
from runs.inheritance.carriers import CARRIERS, MOST_SAMPLES, PolicyTeacher, ValuePotential
from runs.inheritance.choices import OWN, Choices, choose_base, tried, tune
from runs.inheritance.claims import PERMUTED
from runs.inheritance.controls import KNOWLEDGE_FREE
from runs.inheritance.design import CONSTANT, VALUE, InheritDesign, make_design
from runs.inheritance.homes import Place
from runs.inheritance.parent import Parent
from runs.inheritance.run import Cell, InheritRun
from runs.inheritance.tuning import stages
from runs.scale.grid import digest
from runs.study_run import NO_HEADS
from runs.tree_io import leaves_digest

TEACHER, SHUFFLED, RULE = "teacher", "shuffled senses", "one rule for all"
SEVERITIES = (0.25, 0.5, 0.75, 1.0)  # of the development shift, beside home, which is 0
TRIALS, EPISODES = 8, 16
FORTY = Genome("value", "units", (2,))  # the value of forty bytes, without the scales of its layers


# --- carriers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GenomePotential(ValuePotential):
    """A distilled value as a potential; all are equal, so that they share a compiled program.

    Attributes:
        genome: the form.
        shuffled: whether it reads the observations in another order.
        shared: whether all newborns get the same one, fitted to the data of all parents.
    """

    genome: Genome = field(default=Genome("value", "linear"), compare=False)
    shuffled: bool = field(default=False, compare=False)
    shared: bool = field(default=False, compare=False)

    def value(self, inherited: CommonForm, numbers: Numbers, obs: jax.Array) -> jax.Array:
        """The distilled value [...] at obs [..., D]."""
        return inherited(obs)[..., 0]


@dataclass(frozen=True)
class GenomePolicy:
    """Policy whose logits are the outputs of a genome."""

    def policy(self, state: CommonForm, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits [..., A] at obs [..., D], and log deviations, which are 0."""
        logits = state(obs)
        return logits, jnp.zeros_like(logits)


@dataclass(frozen=True)
class GenomeTeacher(PolicyTeacher):
    """A distilled policy as a teacher; all are equal, so that they share a compiled program.

    Attributes:
        genome: the form.
    """

    genome: Genome = field(default=Genome("policy", "linear"), compare=False)

    def teacher(self, parent: Parent, inherited: CommonForm) -> tuple[GenomePolicy, CommonForm]:
        """The distilled policy."""
        return GenomePolicy(), inherited


# --- design ---------------------------------------------------------------------------------------


def genomes(senses: int, smoke: bool = False, whole: bool = True) -> list[Genome]:
    """The genomes: values of nine sizes at 32 and at 4 bits, two units at 8, 3 and 2 bits, pruned.

    Policies, whose newborns take longer, in five sizes at 32 bits and two at 4. Without `whole`
    values of six sizes at 32 bits and two units at 4, and policies of three sizes. Functions of a
    few senses are left out where an observation has no more.
    """
    two, five = (Genome("value", "features", features=count, bits=None) for count in (2, 5))
    linear, layers = Genome("value", "linear", bits=None), Genome("value", "layers", (64, 64))
    units = [Genome("value", "units", (count,), bits=None) for count in (1, 2, 4, 16, 64)]
    sizes = [two, five, linear, *units, layers._replace(bits=None)]
    taught = [x._replace(of="policy") for x in (two, linear, units[1], units[3], sizes[-1])]
    if smoke:
        return [two, FORTY, taught[1], taught[2]._replace(bits=4)]
    fewer = [FORTY._replace(bits=bits) for bits in (8, 3, 2)]
    pruned = Genome("value", "pruned", (16,), bits=None)
    small = [x._replace(bits=4) for x in taught[1:3]]
    forms = [*sizes, *(x._replace(bits=4) for x in sizes), *fewer, pruned, *taught, *small]
    if not whole:
        some = two, linear, *(units[i] for i in (0, 1, 3)), sizes[-1]
        forms = [*some, FORTY, taught[1], taught[2], taught[-1]]
    return [x for x in forms if x.form != "features" or x.features < senses]


def carrier_of(genome: Genome) -> Carrier:
    """The carrier of a genome."""
    return GenomePotential(genome) if genome.of == "value" else GenomeTeacher(genome)


def genome_design(settings: Any) -> InheritDesign:
    """The design that the settings of the command define: that of `runs.inherit`, changed.

    In full size there are 35 carriers. In the own body, 8 trials choose the numbers of each: 2
    newborns of each trial, 2 more of the best 3, 4 more of the best; then 8 pairs are raised in
    each of 6 worlds: 35 (26 + 48). With permuted actions 6 teachers choose again, and pairs of 21
    carriers are raised in 3 worlds: 6 x 26 + 21 x 24. Without numbers there is one trial of 8
    newborns, 18 less; the base reward takes 2 x 8 more. So 3,248 newborns (`planned_newborns`).
    Other suites than Drive have fewer genomes (see `genomes`), one body and one severity.

    Raises:
        UserError: for a suite without development worlds.
    """
    design = make_design(shared_settings(InheritSettings, settings))
    kinds, smoke, newborn = bodies(design.suite), settings.smoke, design.newborn_config
    forms = genomes(design.suite.env.spec.obs_dim, smoke, design.home.whole)
    full = {VALUE: CARRIERS[VALUE], TEACHER: CARRIERS[TEACHER]}
    controls = {name: KNOWLEDGE_FREE[name] for name in ("none", CONSTANT)}
    small = {
        SHUFFLED: GenomePotential(Genome("value", "units", (2 if smoke else 16,)), shuffled=True),
        RULE: GenomePotential(Genome("value", "features"), shared=True),
    }
    return replace(
        design,
        newborn_config=newborn if smoke else replace(newborn, episodes=EPISODES),
        carriers={**controls, **full, **small, **{x.name: carrier_of(x) for x in forms}},
        bodies={name: kinds[name] for name in (OWN, PERMUTED)[: 1 + design.home.whole]},
        claimed=(),
        dev_parents=2 if smoke else 8,
        trials=2 if smoke else TRIALS,
        body_trials=2 if smoke else TRIALS,
        blend=NO_HEADS,
    )


def severities(design: InheritDesign) -> dict[Place, float]:
    """World -> severity of the development shift, from home on."""
    shift = next(place for place in design.dev if place.shift != "none")
    steps = SEVERITIES if design.home.whole and design.config.optimise else (shift.severity,)
    far = {Place(shift.suite, shift.shift, severity): severity for severity in steps}
    return {Place(design.suite.name): 0.0, **far}


def places(design: InheritDesign, body: str = OWN) -> list[Place]:
    """Worlds of newborns in a body: near home to far, and those of the development.

    In another body than the own only home, the furthest, and those of the development.
    """
    near, *_, far = steps = list(severities(design))
    return list(dict.fromkeys([*(steps if body == OWN else (near, far)), *design.dev]))


def cells(design: InheritDesign, choices: Choices | None = None) -> Iterator[Cell]:
    """The newborns whose areas are compared: new parents, each carrier in each body and world."""
    pairs = range(design.dev_parents, design.parents)
    for body in design.bodies:
        newborns = [(pair, place) for place in places(design, body) for pair in pairs]
        for carrier in carriers_in(design, body):
            numbers = {} if choices is None else choices.chosen[carrier, body].numbers
            yield Cell(carrier, body, [numbers], newborns)


def carriers_in(design: InheritDesign, body: str) -> list[str]:
    """Carriers that are raised in a body: all in the own; in others all but most rounded genomes.

    Of those that are rounded or pruned only that of forty bytes is raised in another body.
    """
    forms = {name: getattr(kind, "genome", None) for name, kind in design.carriers.items()}
    left_out = {x.name for x in forms.values() if x and not is_exact(x) and x != FORTY}
    return [name for name in design.carriers if body == OWN or name not in left_out]


def is_exact(genome: Genome) -> bool:
    """Whether no weight is rounded or pruned."""
    return genome.bits is None and genome.form != "pruned"


def tuned_in(design: InheritDesign, body: str) -> list[str]:
    """Carriers whose numbers are chosen in a body: all in the own, in others those that teach.

    An untrained network's outputs are exchangeable, so that with permuted actions a newborn without
    a teacher is, in distribution, the one in the own body.
    """
    names = carriers_in(design, body)
    return [name for name in names if body == OWN or design.carriers[name].teaches]


def planned_newborns(design: InheritDesign) -> int:
    """Number of newborns of the whole study."""
    dev, count = design.dev_newborns, 0
    for body in design.bodies:
        for carrier in tuned_in(design, body):
            parts = stages(len(tried(design, carrier, body, None)[1]), dev)
            count += sum(trials * len(newborns) for trials, newborns in parts)
    return 2 * len(dev) + count + sum(cell.count for cell in cells(design))


# --- steps ----------------------------------------------------------------------------------------


class GenomeRun(InheritRun):
    """The study in its folder: that of `runs.inherit`, with genomes of the trained parents."""

    def __init__(self, design: InheritDesign, job: Job):
        super().__init__(design, job)
        self._genomes: dict[Any, Distillations] = {}

    def inherited(self, carrier: str, source: str = "") -> Any:
        """What a carrier hands on, leaves [P, ...]: genomes in their common form."""
        kind = self.design.carriers[carrier]
        if not isinstance(kind, GenomePotential | GenomeTeacher):
            return super().inherited(carrier, source)
        common = common_form(self.distilled(carrier))
        if isinstance(kind, GenomePotential) and kind.shuffled:
            size = common.first.shape[1]
            common = with_senses(common, np.random.default_rng(0).permutation(size))
        return common

    def distilled(self, carrier: str) -> Distillations:
        """The genomes of a carrier, computed or from their file."""
        kind: Any = self.design.carriers[carrier]
        shared = isinstance(kind, GenomePotential) and kind.shared
        key = kind.genome, shared
        if key not in self._genomes:
            obs, targets = self._samples(kind.genome.of)
            if shared:
                obs, targets = (x.reshape(1, -1, x.shape[-1]) for x in (obs, targets))
            steps = STEPS if self.home.optimise else 20
            content = leaves_digest((obs, targets)), list(kind.genome), steps

            def compute() -> dict[str, list]:
                return distil_all(kind.genome, obs, targets, steps).columns()

            name = f"genome, {kind.genome.name}{', shared' * shared}"
            genomes = Distillations.from_columns(self.part(name, digest(content), 0, compute))
            count = self.design.parents
            self._genomes[key] = genomes.repeated(count) if shared else genomes
        return self._genomes[key]

    def _samples(self, of: str) -> tuple[np.ndarray, np.ndarray]:
        """Observations [P, N, D] of each parent, and its values or logits there, [P, N, A]."""
        count = min(MOST_SAMPLES, *(len(obs) for obs in self.observations))
        rows = [np.linspace(0, len(obs) - 1, count).astype(int) for obs in self.observations]
        obs = np.stack([x[i] for x, i in zip(self.observations, rows, strict=True)])
        parents = take_seeds(self.parents["trained"], slice(len(obs)))
        target = value_of if of == "value" else centred_logits
        return obs, np.asarray(jax.jit(jax.vmap(target))(parents, jnp.asarray(obs)))


def value_of(parent: Parent, obs: jax.Array) -> jax.Array:
    """Value [N, 1] of a parent at obs [N, D]."""
    return parent.value(obs)[..., None]


def centred_logits(parent: Parent, obs: jax.Array) -> jax.Array:
    """Logits [N, A] of a parent at obs [N, D], less their mean, which changes no probability."""
    logits = parent.policy(obs)[0]
    return logits - logits.mean(-1, keepdims=True)


def choose(run: GenomeRun) -> Choices:
    """Choose the base reward, and the numbers of every carrier by equal trials."""
    run.base, results = choose_base(run).base, {}
    for body in run.design.bodies:
        for carrier in tuned_in(run.design, body):
            results[carrier, body] = tune(run, carrier, body, None)
    bodies_of = {body: carriers_in(run.design, body) for body in run.design.bodies}
    keys = [(carrier, body) for body, names in bodies_of.items() for carrier in names]
    chosen = {key: results.get(key, results[key[0], OWN]) for key in keys}
    numbers, areas = ({key: pair[i] for key, pair in chosen.items()} for i in (0, 1))
    return Choices(run.base, numbers, areas, {})


def raise_all(run: GenomeRun, choices: Choices) -> pd.DataFrame:
    """Raise all newborns that are compared -> a row each, with carrier and body."""
    tables = [
        run.raise_cell("raised", cell, run.home.base).assign(carrier=cell.carrier, body=cell.body)
        for cell in cells(run.design, choices)
    ]
    return pd.concat(tables, ignore_index=True)
