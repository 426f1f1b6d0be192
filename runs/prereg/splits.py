"""Splits of a suite into training worlds, public (dev) shifts and sealed shifts.

Agents train in `train` worlds only. The shifts of `dev` families are public; every evaluation on
them is counted as a look. `sealed` families, and compositions that contain one, are in neither.
Since open code cannot hide a family, each family is sealed once in its own study, and the sealed
score is the mean over these rotations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from runs.errors import UserError
from runs.names import checked_choice

HOME = "none"  # name and family of the unshifted world, in which all arms train
RANDOM = "random"  # the suite's training distribution


@dataclass(frozen=True)
class Splits:
    """Assignment of a suite's shifts and training worlds to train, dev and sealed.

    Attributes:
        shifts: name of each shift -> its family, several joined by `|` for a composition.
        worlds: name of each training world -> the families that it varies.
        sealed: families that are held out.
    """

    shifts: Mapping[str, str]
    worlds: Mapping[str, str]
    sealed: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        """Split of a shift or a training world: "train", "dev" or "sealed".

        Raises:
            UserError: for a name that is neither a shift nor a training world.
        """
        family_of = {**self.worlds, **self.shifts}
        if set(family_of[checked_choice("world", name, family_of)].split("|")) & set(self.sealed):
            return "sealed"
        return "dev" if name in self.shifts else "train"

    def names(self, split: str) -> tuple[str, ...]:
        """Names of the shifts of a split, in the order of the suite."""
        return tuple(name for name in self.shifts if self.of(name) == split)


def split(
    shifts: Mapping[str, str], worlds: Mapping[str, str] | None = None, sealed: Iterable[str] = ()
) -> Splits:
    """Make the splits of a suite's shifts with some families sealed.

    Args:
        shifts: name -> family.
        worlds: name of each training world -> its families; by default only the unshifted world.
        sealed: families to hold out.

    Raises:
        UserError: for a family that no shift has.
    """
    for family in (sealed := tuple(sealed)):
        checked_choice("family", family, families(shifts))
    worlds = {HOME: HOME} if worlds is None else dict(worlds)
    return Splits(MappingProxyType(dict(shifts)), MappingProxyType(worlds), sealed)


def families(shifts: Mapping[str, str]) -> tuple[str, ...]:
    """Families of these shifts, each once, in their order."""
    return tuple(dict.fromkeys(part for family in shifts.values() for part in family.split("|")))


def rotations(
    shifts: Mapping[str, str], worlds: Mapping[str, str] | None = None
) -> tuple[Splits, ...]:
    """One `Splits` per family, with only that family sealed."""
    return tuple(split(shifts, worlds, [family]) for family in families(shifts))


def sealed_score(scores: Mapping[str, Mapping[str, float]], shifts: Mapping[str, str]) -> float:
    """Mean over rotations of the mean score over the shifts that each rotation sealed.

    Args:
        scores: sealed family -> score under each shift.
        shifts: name -> family.

    Raises:
        UserError: for a rotation or a shift without a score.
    """
    means = []
    for rotation in rotations(shifts):
        family = rotation.sealed[0]
        missing = [name for name in rotation.names("sealed") if name not in scores.get(family, {})]
        if missing:
            raise UserError(f"rotation {family}: {', '.join(missing)} not scored; run it as well")
        means.append(np.mean([scores[family][name] for name in rotation.names("sealed")]))
    return float(np.mean(means))


def refuse_training_on(name: str, splits: Splits) -> None:
    """Raise an error unless a world is a training world whose families are not sealed.

    Raises:
        UserError: for a public or a sealed world, or one that varies a sealed family.
    """
    which = splits.of(name)
    if which == "train":
        return
    why = f"its family {splits.worlds[name]} is sealed" if name in splits.worlds else "a shift"
    raise UserError(
        f"world {name} is {which} ({why}): train in {_train(splits)}, or leave its arm out"
    )


def _train(splits: Splits) -> str:
    """Names of the permitted training worlds, joined for a message."""
    return ", ".join(name for name in splits.worlds if splits.of(name) == "train") or "none"
