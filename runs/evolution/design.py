"""Design of `runs.evolve`: arms, and sizes of evolutions, from the command's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from affect import Blend, Fear, Hope
from envs.worlds.drive.sensors import SENSES
from runs.cli.settings import shared_settings
from runs.engine.config import head_epochs
from runs.errors import UserError
from runs.evolution.alphabets import CRITIC, Feelings, Genome, TwoUnits, middle, read_start
from runs.evolution.search import EvolutionStrategy, RandomSearch
from runs.inherit import Settings as InheritSettings
from runs.inheritance.carrier import Carrier
from runs.inheritance.carriers import HORIZONS
from runs.inheritance.choices import OWN, read_choices
from runs.inheritance.controls import rules
from runs.inheritance.design import VALUE, InheritDesign, make_design
from runs.inheritance.homes import Place
from runs.names import checked_choice
from runs.study_run import page_name

EPISODES = 16
FAMILY = 8  # parents of an evolution, and newborns of a member
EVOLVED, RELEARNED, RANDOM = "evolved", "relearned", "random search"
CONSTANT, REWARD, BYTES = "constant potential", "constant reward", "forty bytes"
SHUFFLED, HOME, INHERIT = "shuffled fitness", "home only", "runs.inherit"
SMOKE_ARMS = (EVOLVED, RELEARNED, CONSTANT, BYTES)


class Arm(NamedTuple):
    """How genomes are searched.

    Attributes:
        alphabet: "feelings" or "two units".
        search: class of the search.
        free: numbers that are searched; () for all.
        passed: whether heads are passed on from parents to parents; else relearned.
        shuffled: whether fitness is given to the wrong members.
        at_home: whether fitness is measured at home alone.
    """

    alphabet: str = "feelings"
    search: type[RandomSearch] = EvolutionStrategy
    free: tuple[str, ...] = ()
    passed: bool = True
    shuffled: bool = False
    at_home: bool = False


ARMS = {
    EVOLVED: Arm(),
    RELEARNED: Arm(passed=False),
    RANDOM: Arm(search=RandomSearch),
    CONSTANT: Arm(free=("shift", "reward")),
    REWARD: Arm(search=RandomSearch, free=("reward",)),
    SHUFFLED: Arm(shuffled=True),
    HOME: Arm(at_home=True),
    BYTES: Arm(alphabet="two units"),
}
"""Name -> arm. The constant potential is beside a constant reward, as in `runs.inherit`."""


@dataclass(frozen=True)
class EvolveDesign:
    """Everything that the study runs.

    Attributes:
        inherit: worlds and sizes of parents and newborns; its carriers are those of the winners.
        arms: by name.
        alphabets: name -> carrier.
        start: name of an alphabet -> the genome at which searches begin.
        given: numbers that `runs.inherit` chose for the parents' value, as a genome; None if it was
            not recorded.
        evolutions: of each arm.
        population: members of a generation.
        generations: of members.
        family: parents of an evolution; each has one newborn of a member.
    """

    inherit: InheritDesign
    arms: Mapping[str, Arm]
    alphabets: Mapping[str, Any]
    start: Mapping[str, Genome]
    given: Genome | None
    evolutions: int
    population: int
    generations: int
    family: int

    @property
    def places(self) -> list[Place]:
        """Worlds of a generation: home, those of the development, and further ones."""
        home = self.inherit.home
        return list(dict.fromkeys([*home.dev, *home.shown]))

    @property
    def home(self) -> Place:
        """The parents' own world."""
        return Place(self.inherit.suite.name)

    @property
    def senses(self) -> tuple[str, ...]:
        """Names of what is observed."""
        count = self.inherit.suite.env.spec.obs_dim
        is_drive = self.inherit.suite.name == "Drive"
        return SENSES if is_drive else tuple(f"obs[{i}]" for i in range(count))

    def free(self, arm: str) -> dict[str, Any]:
        """Intervals of the numbers that an arm searches."""
        knobs = self.alphabets[self.arms[arm].alphabet].knobs
        return {
            name: axis for name, axis in knobs.items() if name in (self.arms[arm].free or knobs)
        }

    def newborns(self, evolution: int, at_home: bool = False) -> list[tuple[int, Place]]:
        """(parent, world) of the newborns of a member: one of each parent, the worlds in turn."""
        places = [self.home] if at_home else self.places
        first = evolution * self.family
        return [(first + i, places[i % len(places)]) for i in range(self.family)]


def winner(arm: str, evolution: int) -> str:
    """Name of the winner of an evolution, and of its carrier."""
    return f"{arm} {evolution + 1}"


def evolve_design(settings: Any) -> EvolveDesign:
    """The design that the settings of the command define.

    One evolution of the default size raises 8 x (16 + 1) + 1 genomes with 8 newborns each, 1,096
    newborns, which live as long as `runs.evolution.generations.life` says: at 1 s a whole life at
    most 18 minutes, beside 9 generations of its 8 parents.

    Raises:
        UserError: for an unknown suite or arm, a start out of bounds, or numbers of `runs.inherit`
            that cannot be read.
    """
    smoke = settings.smoke
    design = make_design(shared_settings(InheritSettings, settings))
    spec, family = design.suite.env.spec, 2 if smoke else FAMILY
    looming = rules(design.suite).get("looming")
    alphabets: dict[str, Any] = {
        "feelings": Feelings(looming and looming.rule),
        "two units": TwoUnits(spec.obs_dim),
    }
    names = settings.arms or (SMOKE_ARMS if smoke else tuple(ARMS))
    arms = {name: ARMS[checked_choice("arm", name, ARMS)] for name in names}
    start = {name: middle(carrier.knobs) for name, carrier in alphabets.items()}
    start["feelings"] = read_start(settings.start, alphabets["feelings"].knobs)
    given = given_genome(settings.choices, design, start["feelings"])
    carriers: dict[str, Carrier] = {
        winner(name, i): alphabets[arm.alphabet]
        for name, arm in arms.items()
        for i in range(settings.evolutions)
    }
    hopes = {f"hope_{n}": (1.0, Hope(horizon=n)) for n in HORIZONS}
    episodes = {} if smoke else {"episodes": EPISODES}
    inherit = replace(
        design,
        newborn_config=replace(design.newborn_config, **episodes),
        carriers=carriers | {INHERIT: alphabets["feelings"]},
        bodies={OWN: design.bodies[OWN]},
        claimed=(),
        dev_parents=settings.evolutions * family,
        blend=Blend(**hopes, fear=(1.0, Fear())).with_epochs(head_epochs(design.config)),
        stops=(),
    )
    return EvolveDesign(
        inherit=inherit,
        arms=arms,
        alphabets=alphabets,
        start=start,
        given=given,
        evolutions=settings.evolutions,
        population=4 if smoke else settings.population,
        generations=2 if smoke else settings.generations,
        family=family,
    )


def given_genome(path: Path | None, design: InheritDesign, start: Genome) -> Genome | None:
    """Numbers of the parents' value in a file of `runs.inherit`, as a genome of feelings.

    By default the recorded file of the suite; None if there is none.

    Raises:
        UserError: for a file that cannot be read, or without the parents' value.
    """
    results = Path(__file__).parents[1] / "results"
    path = path or results / f"{page_name('inherit', design.suite.name)}-choices.csv"
    if path.parent == results and not path.exists():
        return None
    choices = read_choices(path, design)
    numbers = choices.numbers(VALUE, OWN)
    if numbers is None or not np.isfinite([*numbers.values(), choices.base]).all():
        raise UserError(f"--choices {path}: no finite numbers of the parents' value in their body")
    constant = choices.base * (1 - design.config.agent.gamma)
    return dict.fromkeys(start, 0.0) | numbers | {"horizon": CRITIC, "reward": constant}
