"""Where parents learn, where numbers are chosen, and which worlds are sealed, by suite."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from envs import load_sealed_suite, load_suite, sealed_families
from envs.normalised import Normalised
from envs.suite import Suite
from envs.worlds.drive.any_drive import any_suite


class Place(NamedTuple):
    """A world in which newborns are raised: of a suite, under a shift; its home without one."""

    suite: str
    shift: str = "none"
    severity: float = 1.0

    @property
    def name(self) -> str:
        """As in tables, such as cross or cross .5; home worlds go by the name of their suite."""
        if self.shift == "none":
            return self.suite
        return self.shift + ("" if self.severity == 1 else f" {self.severity:g}")


@dataclass(frozen=True)
class Home:
    """The suite of parents, and the worlds of their newborns.

    Attributes:
        make: returns suites by name, with all their shifts; the first one is the parents'.
        dev: worlds in which numbers are chosen.
        shown: further worlds, of the exploratory part.
        held_out: shifts that are sealed; () where the suite has a sealed part of its own.
        longer: training of parents, as a multiple of that of Drive.
        trials: for each carrier in the parents' own body; a third as many in other bodies.
        whole: whether `runs.genome` raises genomes of all forms, at all severities, in two bodies.
    """

    make: Callable[[], Mapping[str, Suite]]
    dev: tuple[Place, ...]
    shown: tuple[Place, ...]
    held_out: tuple[str, ...] = ()
    longer: float = 1.0
    trials: int = 12
    whole: bool = False

    def suites(self) -> dict[str, Suite]:
        """Suites by name, without the shifts that are held out."""
        return {name: self._part(suite, False) for name, suite in self.make().items()}

    def sealed_shifts(self, name: str) -> dict[str, str]:
        """Family of each sealed shift by its name, for the plan that precedes a sealed draw."""
        if not self.held_out:
            return sealed_families(name)
        return {shift.name: shift.family for shift in self._part(self.make()[name], True).shifts}

    def sealed_suite(self, name: str, digest: str) -> Suite:
        """Suite of the sealed shifts alone, for a study that has drawn its sealed worlds."""
        if not self.held_out:
            return load_sealed_suite(name, digest)
        return self._part(self.make()[name], True)

    def _part(self, suite: Suite, held_out: bool) -> Suite:
        """The suite with only the shifts that are held out, or with only the others."""
        kept = tuple(s for s in suite.shifts if (s.name in self.held_out) == held_out)
        return replace(suite, shifts=kept)


def drive_suites() -> dict[str, Suite]:
    """Drive and Timid as worlds of one environment."""
    return {name: any_suite(name) for name in ("Drive", "Timid")}


FOUR_ROOMS = "gymnax:FourRooms-misc"


def four_rooms() -> dict[str, Suite]:
    """Four rooms of gymnax in 80 steps instead of 500, so that chance seldom reaches the goal."""
    from envs.adapters.gymnax import Gymnax

    env = Gymnax(FOUR_ROOMS.partition(":")[2], horizon=80)
    return {FOUR_ROOMS: replace(load_suite(FOUR_ROOMS), env=env)}


def one_suite(
    name: str, unit: float = 1.0, returns: tuple[float, float] | None = None
) -> dict[str, Suite]:
    """A suite of `envs.load_suite` by its name, its returns as success where they have bounds.

    Args:
        name: of the suite.
        unit: by which rewards are divided.
        returns: that count as success 0 and 1; None to keep the suite's own success.
    """
    suite = load_suite(name)
    if returns is not None:
        suite = replace(suite, env=Normalised(suite.env, unit, *returns))
    return {name: suite}


HOMES = {
    "Drive": Home(
        drive_suites,
        dev=(Place("Timid"), Place("Drive", "cross")),
        shown=(Place("Drive"), Place("Drive", "cones", 0.75)),
        trials=24,
        whole=True,
    ),
    "Acrobot": Home(
        partial(one_suite, "Acrobot", 100.0, (-500.0, -70.0)),
        dev=(Place("Acrobot", "mass"), Place("Acrobot", "mass", 0.5)),
        shown=(Place("Acrobot"), Place("Acrobot", "noise")),
        held_out=("torque", "extrapolation"),
    ),
    "DeepSea": Home(
        partial(one_suite, "DeepSea"),
        dev=(Place("DeepSea", "slip", 0.25), Place("DeepSea", "toll")),
        shown=(Place("DeepSea"), Place("DeepSea", "flip")),
        held_out=("currents",),
    ),
    "Keys": Home(
        partial(one_suite, "Keys"),
        dev=(Place("Keys", "unseen"), Place("Keys", "unseen", 0.5)),
        shown=(Place("Keys"), Place("Keys", "flip")),
        held_out=("more_keys",),
    ),
    FOUR_ROOMS: Home(
        four_rooms,
        dev=(Place(FOUR_ROOMS, "slip", 0.5), Place(FOUR_ROOMS, "flip")),
        shown=(Place(FOUR_ROOMS), Place(FOUR_ROOMS, "noise")),
        held_out=("delay", "dropout"),
        longer=2.0,
    ),
}
"""Suite -> where its parents and newborns learn.

Said before any newborn was raised: in DeepSea the policy is harder than the value, since which
action goes right was drawn for every cell, while the value rises along the diagonal; in Acrobot it
is the other way round, since torque along a joint's speed is nearly optimal, while the value grows
with the energy and falls with the steps that are left. MountainCar is left out: parents do not
reach its goal in four times the training of Drive's.
"""
