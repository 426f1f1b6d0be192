"""Results of `runs.genome`: bytes, R2 and gains of every genome, and comparisons of their sizes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.genomes.newborns import RULE, SHUFFLED, TEACHER, GenomeRun, is_exact, places, severities
from runs.inheritance.choices import OWN, Choices
from runs.inheritance.design import CONSTANT, VALUE, InheritDesign

FULL = {"value": VALUE, "policy": TEACHER}  # what is distilled -> carrier of the whole of it


class Size(NamedTuple):
    """What a carrier hands on.

    Attributes:
        of: "value", "policy", or "" of one that knows nothing.
        num_bytes: of its weights.
        r2: mean over parents, NaN where nothing is distilled.
        in_line: whether it is a point of the line of its kind in the figure: neither rounded nor
            pruned, or the whole.
    """

    of: str
    num_bytes: int
    r2: float
    in_line: bool


def sizes_of(run: GenomeRun) -> dict[str, Size]:
    """Carrier -> what it hands on."""
    design, spec = run.design, run.design.suite.env.spec
    width, results = design.config.agent.width, {}
    for name in design.carriers:
        results[name] = Size("", 0, np.nan, False)
    for of, outputs in (("value", 1), ("policy", spec.num_actions)):
        count = dense_bytes((spec.obs_dim, *(width, width)[: 2 * bool(width)], outputs))
        results[FULL[of]] = Size(of, count, 1.0, True)
    for name in (name for name, kind in design.carriers.items() if hasattr(kind, "genome")):
        distilled = run.distilled(name)
        kind: Any = design.carriers[name]
        of, line = kind.genome.of, is_exact(kind.genome)
        r2 = np.nan if name == SHUFFLED else float(distilled.r2.mean())
        results[name] = Size(of, distilled.num_bytes, r2, line and name not in (SHUFFLED, RULE))
    return results


def dense_bytes(layers: Sequence[int]) -> int:
    """Bytes of a network of dense layers in float32, from the number of its inputs on."""
    return 4 * sum((m + 1) * n for m, n in pairwise(layers))


# --- results --------------------------------------------------------------------------------------


class Results(NamedTuple):
    """What was measured.

    Attributes:
        areas: (carrier, body, world) -> areas under the learning curve by pair; a row each. With
            permuted actions there are fewer worlds.
        sizes: carrier -> what it hands on.
        severities: world -> severity, from home on.
        places: names of all worlds.
    """

    areas: pd.DataFrame
    sizes: dict[str, Size]
    severities: dict[str, float]
    places: list[str]

    @property
    def bodies(self) -> set[str]:
        """Bodies of newborns."""
        return set(self.areas.index.get_level_values("body"))

    def less(self, carrier: str, reference: str, body: str, place: str) -> np.ndarray:
        """Area of a carrier less that of a reference [pairs]."""
        arm, other = (self.areas.loc[(name, body, place), :] for name in (carrier, reference))
        return (arm - other).to_numpy()

    def gain(self, carrier: str, body: str, place: str) -> stats.Estimate:
        """Gain of a carrier over the chosen constant potential."""
        return stats.nan_estimate(self.less(carrier, CONSTANT, body, place))

    def by_size(self, of: str, in_line: bool = False) -> list[str]:
        """Carriers of distilled and full values, or policies, the smallest first."""
        names = [k for k, x in self.sizes.items() if x.of == of and k not in (SHUFFLED, RULE)]
        names = [name for name in names if self.sizes[name].in_line or not in_line]
        return sorted(names, key=lambda name: self.sizes[name].num_bytes)


def make_results(design: InheritDesign, table: pd.DataFrame, sizes: dict[str, Size]) -> Results:
    """Results from the table of all newborns."""
    areas = table.pivot(index=["carrier", "body", "place"], columns="pair", values="area")
    steps = {place.name: severity for place, severity in severities(design).items()}
    return Results(areas.sort_index(), sizes, steps, [place.name for place in places(design)])


def smallest_equal(results: Results, of: str, place: str) -> tuple[str, stats.Estimate] | None:
    """The smallest genome that is not worse than the whole, in the own body in a world.

    Not worse: the interval of their difference reaches 0. None if the gain of the whole over the
    constant potential is itself not above 0.

    Returns:
        (its name, its area less that of the whole).
    """
    full = FULL[of]
    if not results.gain(full, OWN, place).low > 0:
        return None
    for name in results.by_size(of):
        estimate = stats.nan_estimate(results.less(name, full, OWN, place))
        if estimate.high >= 0:
            return name, estimate
    return None


def slope_change(results: Results) -> stats.Estimate:
    """Change, from home to the furthest world, of the area that ten times the bytes of a value add.

    Least squares of the `byte_slopes` of all values of 32 bits and the critic over severity.
    """
    s = np.array(list(results.severities.values()))
    s = (s - s.mean()) / np.square(s - s.mean()).sum()
    return stats.nan_estimate(s @ byte_slopes(results, results.by_size("value", in_line=True)))


def byte_slopes(results: Results, names: Sequence[str]) -> np.ndarray:
    """Area [severities, pairs] that ten times the bytes of some values add, in the own body.

    Least squares over the logarithm of bytes, a pair at a time.
    """
    x = np.log10([results.sizes[name].num_bytes for name in names])
    x = (x - x.mean()) / np.square(x - x.mean()).sum()
    areas = np.array(
        [
            [results.areas.loc[(name, OWN, place), :] for place in results.severities]
            for name in names
        ]
    )
    return np.einsum("g,gsp->sp", x, areas)


def of_equal_numbers(results: Results, choices: Choices) -> list[str]:
    """The values of 32 bits, and the critic, with those numbers that most of them got."""
    names = results.by_size("value", in_line=True)
    numbers = [tuple(choices.chosen[name, OWN].numbers.values()) for name in names]
    most = max(numbers, key=numbers.count)
    return [name for name, own in zip(names, numbers, strict=True) if own == most]
