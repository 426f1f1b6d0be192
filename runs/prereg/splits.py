"""Which worlds are for training, which are public, and which are kept back.

An agent trains in `train` worlds alone. The shifts of `dev` families are public: look as often as
you like, every look is counted. `sealed` families, and whatever is composed with one, are in
neither. Since open code cannot hide a family, each takes its turn at being kept back, and the
sealed score is the mean over these rotations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from runs.cli.settings import checked_choice
from runs.errors import UserError

HOME = "none"  # the world that all train in, and its family
RANDOM = "random"  # the suite's training distribution


@dataclass(frozen=True)
class Splits:
    """A split of a suite's shifts.

    Attributes:
        shifts: name of each shift -> its family, several joined by `|` for a composition.
        worlds: name of each training world -> the families that it varies.
        sealed: families that are kept back.
    """

    shifts: Mapping[str, str]
    worlds: Mapping[str, str]
    sealed: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        """The split of a shift or a training world: "train", "dev" or "sealed".

        Raises:
            UserError: for a name that is neither.
        """
        known = {**self.worlds, **self.shifts}
        if set(known[checked_choice("world", name, known)].split("|")) & set(self.sealed):
            return "sealed"
        return "dev" if name in self.shifts else "train"

    def names(self, split: str) -> tuple[str, ...]:
        """The shifts of a split, in the order of the suite."""
        return tuple(name for name in self.shifts if self.of(name) == split)


def split(
    shifts: Mapping[str, str], worlds: Mapping[str, str] | None = None, sealed: Iterable[str] = ()
) -> Splits:
    """The split of these shifts that keeps some families back.

    Args:
        shifts: name -> family.
        worlds: name of each training world -> its families; by default the one that all train in.
        sealed: families to keep back.

    Raises:
        UserError: for a family that no shift has.
    """
    for family in (sealed := tuple(sealed)):
        checked_choice("family", family, families(shifts))
    worlds = {HOME: HOME} if worlds is None else dict(worlds)
    return Splits(MappingProxyType(dict(shifts)), MappingProxyType(worlds), sealed)


def families(shifts: Mapping[str, str]) -> tuple[str, ...]:
    """The families of these shifts, each once, in their order."""
    return tuple(dict.fromkeys(one for family in shifts.values() for one in family.split("|")))


def rotations(
    shifts: Mapping[str, str], worlds: Mapping[str, str] | None = None
) -> tuple[Splits, ...]:
    """A split for each family, which keeps that one back."""
    return tuple(split(shifts, worlds, [family]) for family in families(shifts))


def sealed_score(scores: Mapping[str, Mapping[str, float]], shifts: Mapping[str, str]) -> float:
    """The mean over rotations of the mean score over what each kept back.

    Args:
        scores: family kept back -> the score under each shift of what was then chosen.
        shifts: name -> family.

    Raises:
        UserError: for a rotation or a shift that was not scored.
    """
    means = []
    for turn in rotations(shifts):
        family = turn.sealed[0]
        missing = [name for name in turn.names("sealed") if name not in scores.get(family, {})]
        if missing:
            raise UserError(f"rotation {family}: {', '.join(missing)} not scored; run it as well")
        means.append(np.mean([scores[family][name] for name in turn.names("sealed")]))
    return float(np.mean(means))


def refuse_training_on(name: str, splits: Splits) -> None:
    """Lets training worlds pass, and nothing else.

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
    return ", ".join(name for name in splits.worlds if splits.of(name) == "train") or "none"
