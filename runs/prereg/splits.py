"""Splits of a suite into training worlds, public (dev) shifts and sealed shifts.

Agents train in `train` worlds only. The shifts of `dev` families are public; every evaluation on
them is counted as a look. `sealed` families, and compositions that contain one, are in neither.
Since open code cannot hide a family, each family is sealed once in a study of its own, and the
sealed score is the mean over these rotations (`runs.rotation`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

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


def families(shifts: Mapping[str, str]) -> tuple[str, ...]:
    """Families of these shifts, each once, in their order."""
    return tuple(dict.fromkeys(part for family in shifts.values() for part in family.split("|")))


def refuse_training_on(name: str, splits: Splits) -> None:
    """Raise an error unless a world is a training world whose families are not sealed.

    Raises:
        UserError: for a public or a sealed world, or one that varies a sealed family.
    """
    which = splits.of(name)
    if which == "train":
        return
    why = f"its family {splits.worlds[name]} is sealed" if name in splits.worlds else "a shift"
    allowed = ", ".join(world for world in splits.worlds if splits.of(world) == "train") or "none"
    raise UserError(f"world {name} is {which} ({why}): train in {allowed}, or leave its arm out")
