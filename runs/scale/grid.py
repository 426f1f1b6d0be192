"""Points of a sweep: a grid of values, a list of settings, or a random or Sobol sample."""

import csv
import hashlib
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runs.cli.settings import parse_yaml
from runs.errors import UserError

MOST = 10_000  # points of a sweep
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})(:log)?")

Point = dict[str, Any]  # name of a setting -> its value


class Range(NamedTuple):
    """Interval of numbers from which samples are drawn, uniformly or uniformly in the logarithm."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float) -> float:
        """The number at a share of the interval, in [0, 1]."""
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share


Axes = Mapping[str, Sequence[Any] | Range]


def parse_axes(words: Iterable[str]) -> dict[str, Sequence[Any] | Range]:
    """Axes of a grid from words such as `weight=.3,1,3` and `agent.lr=1e-4:1e-2:log`.

    Values are read as YAML, without type: `shifts=[ice, fog],[cones]` has two lists.

    Raises:
        UserError: for a word of another form, a name that occurs twice, or an empty interval.
    """
    axes: dict[str, Sequence[Any] | Range] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise UserError(f"--grid {word}: write it as NAME=VALUE,VALUE or NAME=LOW:HIGH[:log]")
        if name in axes:
            raise UserError(f"--grid {word}: {name} is given twice")
        if match := RANGE.fullmatch(text):
            axis = Range(float(match[1]), float(match[2]), bool(match[3]))
            if not axis.low < axis.high or (axis.log and axis.low <= 0):
                raise UserError(f"--grid {word}: expected LOW < HIGH, and LOW > 0 for a logarithm")
            axes[name] = axis
        else:
            axes[name] = parse_yaml(f"[{text}]", f"--grid {word}: {text}")
    return axes


def read_list(path: Path) -> list[Point]:
    """Points of a CSV file: a column a setting, values as YAML.

    Raises:
        UserError: if the file cannot be read, or a row has too many or too few values.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for i, row in enumerate(rows):
            if None in row or None in row.values():
                raise UserError(f"--list {path}, row {i + 1}: expected a value a column")
        where = f"--list {path}"
        return [{name: parse_yaml(text, where) for name, text in row.items()} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--list {path}: {error}") from None


def make_points(
    grid: Axes | Sequence[Point],
    samples: int = 0,
    search: str = "sobol",
    whole: Collection[str] = (),
) -> list[Point]:
    """Points of a list, of a grid (the last axis fastest), or drawn from a grid; each one once.

    Args:
        grid: the axes by name, or the points.
        samples: number of points that are drawn from the axes; 0 for all combinations. Of more
            samples the first ones are the same.
        search: "sobol", a scrambled Sobol sequence (1967), which fills the space more evenly, or
            "random".
        whole: names whose numbers are rounded if they are drawn from a range.

    Raises:
        UserError: for no axis, an axis without values, a range that is not sampled, or no point or
            more than MOST.
    """
    if search not in ("sobol", "random"):
        raise UserError(f"search {search!r}: expected sobol or random")
    if not isinstance(grid, Mapping):
        return distinct(grid)
    if not grid:
        raise UserError("--grid: name at least one setting, such as weight=.3,1,3")
    for name, axis in grid.items():
        if not isinstance(axis, Range) and not len(axis):
            raise UserError(f"--grid {name}=: give at least one value")
        if isinstance(axis, Range) and not samples:
            raise UserError(f"--grid {name}: a range LOW:HIGH is sampled; give --samples")
    if samples:
        return distinct(_drawn(grid, samples, search, whole))
    count = math.prod(len(axis) for axis in grid.values())
    if count > MOST:
        raise UserError(
            f"--grid: {count:,} points are more than {MOST:,}; give --samples to draw some of them"
        )
    products = itertools.product(*grid.values())
    return distinct(dict(zip(grid, values, strict=True)) for values in products)


def _drawn(axes: Axes, samples: int, search: str, whole: Collection[str]) -> list[Point]:
    """Points drawn from axes; raises UserError for a number of samples not in [1, MOST]."""
    import numpy as np
    from scipy.stats import qmc

    if not 1 <= samples <= MOST:
        raise UserError(f"--samples {samples}: expected 1 to {MOST:,}")
    rng = np.random.default_rng(0)
    if search == "sobol":
        sequence = qmc.Sobol(len(axes), rng=rng)
        shares = sequence.random_base2((samples - 1).bit_length())[:samples]
    else:
        shares = rng.random((samples, len(axes)))

    def value(name: str, share: float) -> Any:
        axis = axes[name]
        if isinstance(axis, Range):
            return round(axis.at(share)) if name in whole else axis.at(share)
        return axis[min(int(share * len(axis)), len(axis) - 1)]

    return [{n: value(n, float(x)) for n, x in zip(axes, row, strict=True)} for row in shares]


def distinct(points: Iterable[Point]) -> list[Point]:
    """Points without repetitions, in their order; raises UserError for none or more than MOST."""
    points = list({point_digest(point): point for point in points}.values())
    if not 1 <= len(points) <= MOST:
        raise UserError(f"a sweep of {len(points):,} settings: expected 1 to {MOST:,}")
    return points


def point_digest(point: Point) -> str:
    """First 12 hex digits of the SHA-256 of a point, whatever the order of its names."""
    return digest({name: point[name] for name in sorted(point)})


def digest(content: Any) -> str:
    """First 12 hex digits of the SHA-256 of JSON."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
