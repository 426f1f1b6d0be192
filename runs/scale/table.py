"""Tidy table of a sweep, a row per setting, arm and seed; the best setting and its optimism."""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.analysis.stats import Estimate
from runs.errors import UserError
from runs.experiment import Experiment
from runs.scale.cell import Cell, read_result
from runs.scale.grid import Point, point_digest
from runs.scale.space import Space

BATCH = 500  # cells that are parsed at once
KEY = ["variant", "arm", "seed"]
TEXTS = ("variant", "arm", "shift", "point", "finding")  # columns that are no numbers


class Best(NamedTuple):
    """The best of the settings that were tried.

    Attributes:
        point: the setting.
        estimate: of its score, with the 95 % interval of a single look.
        looks: settings with results of their own.
        optimism: gain expected of the best of so many settings that do nothing, in units of the
            score, if their errors are independent; an upper bound where they share a reference
            arm or training runs, and only a guide where points were chosen by earlier scores.
    """

    point: Point
    estimate: Estimate
    looks: int
    optimism: float


class SweepResult:
    """Result of a finished sweep, read from its folder.

    Args:
        out: the folder.
        space: of the settings.
        points: of the sweep.
        cells: into which it was divided.
        sources: (digest of a point, arm) -> variant (`runs.scale.division.divide`).
        temporary: the folder that `out` is, to be deleted with the result; None otherwise.
    """

    def __init__(
        self,
        out: Path,
        space: Space,
        points: Sequence[Point],
        cells: Sequence[Cell],
        sources: Mapping[tuple[str, str], str],
        temporary: Any = None,
    ):
        self.out, self.space, self.points = out, space, points
        self.cells, self.sources = cells, sources
        self.folders = [out / "cells" / cell.name for cell in cells]
        self.folders_of: dict[tuple[str, str], list[Path]] = {}  # (arm, variant) -> its cells
        for cell, folder in zip(cells, self.folders, strict=True):
            for variant in cell.variants:
                self.folders_of.setdefault((cell.arm, variant), []).append(folder)
        self._temporary = temporary

    def without(self, failed: Collection[Path]) -> "SweepResult":
        """The result without the points of which a cell in these folders failed."""
        lost = {
            key for key, folders in self.folders_of.items() if not set(folders).isdisjoint(failed)
        }
        names = {name for (name, arm), variant in self.sources.items() if (arm, variant) in lost}
        points = [point for point in self.points if point_digest(point) not in names]
        cells = [c for c, f in zip(self.cells, self.folders, strict=True) if f not in failed]
        return SweepResult(self.out, self.space, points, cells, self.sources, self._temporary)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per setting, arm and seed: a column per setting, and `home`, `shifts`, `worst`.

        These are the mean score unshifted, over all shifted points, and under the worst shift; NaN
        for a seed with a score that is not finite.
        """
        seeds = pd.concat(map(seed_table, read_results(self.folders)), ignore_index=True)
        return tidy_table(seeds, self.points, self.sources)

    def estimates(self, contrast: Sequence[str] = ()) -> pd.DataFrame:
        """Score of a contrast at every setting: value, low, high, error and number of seeds.

        It is the difference of two arms in the mean over shifts (Welch), or the mean of one arm.
        Raises UserError for an unknown arm, or if no setting has enough seeds.
        """
        contrast = self.space.contrast(contrast)
        if not self.points:
            raise UserError("no setting was run: every one failed; see the files `failed` of cells")
        kept = self.table[self.table["arm"].isin(contrast) & self.table["shifts"].notna()]
        scores = {key: group.to_numpy() for key, group in kept.groupby(["point", "arm"])["shifts"]}
        rows = []
        for name in map(point_digest, self.points):
            sides = [scores.get((name, arm), np.empty(0)) for arm in contrast]
            if min(map(len, sides)) >= stats.FEWEST:
                estimate = stats.difference(*sides) if len(sides) == 2 else stats.mean(*sides)
                zeros = [np.zeros_like(sides[0])] * (2 - len(sides))
                error = float(stats.difference_error(*sides, *zeros))
                seeds = min(map(len, sides))
                rows.append({"point": name, **estimate._asdict(), "error": error, "seeds": seeds})
        if not rows:
            raise UserError(f"no setting has {stats.FEWEST} finite seeds in {', '.join(contrast)}")
        return pd.DataFrame(rows)

    def values(self, contrast: Sequence[str] = ()) -> dict[str, float]:
        """Score of a contrast by digest of the point; none where it has too few seeds."""
        if not self.points:
            return {}
        estimates = self.estimates(contrast)
        return dict(zip(estimates["point"], estimates["value"], strict=True))

    def best(self, contrast: Sequence[str] = ()) -> Best:
        """The setting with the highest declared score; raises UserError as `estimates` does."""
        contrast = self.space.contrast(contrast)
        estimates = self.estimates(contrast)
        row = estimates.loc[estimates["value"].idxmax()]
        point = next(point for point in self.points if point_digest(point) == row["point"])
        names = estimates["point"]
        looks = len({tuple(self.sources[name, arm] for arm in contrast) for name in names})
        optimism = stats.optimism(looks) * row["error"] if looks > 1 else 0.0
        return Best(point, Estimate(row["value"], row["low"], row["high"]), looks, optimism)

    def claim(
        self, base: int, out: Path | str | None = None, contrast: Sequence[str] = ()
    ) -> Experiment:
        """The experiment that tests the best setting by a contrast, on what was sealed.

        Args:
            base: seed of its seeds, another than that of the sweep; raises UserError otherwise.
            out: its folder.
            contrast: by which the setting was chosen, the primary one of its plan.
        """
        contrast = self.space.contrast(contrast)
        experiment = self.space.at(self.best(contrast).point)
        if base == experiment.base:
            raise UserError(f"base {base}: the setting was chosen with these seeds; give another")
        primary = contrast if len(contrast) == 2 else None
        return replace(experiment, base=base, out=out, primary=primary)


def read_results(
    folders: Sequence[Path], columns: Sequence[str] | None = (*KEY, "shift", "severity", "score")
) -> Iterator[pd.DataFrame]:
    """Columns (None: all) of the results of cells, BATCH cells at a time.

    Raises:
        UserError: for a cell that is not done, or whose result does not match its checksum.
    """
    for first in range(0, len(folders), BATCH):
        texts = []
        for folder in folders[first : first + BATCH]:
            if (text := read_result(folder)) is None:
                raise UserError(f"{folder} is not done or was changed: run the sweep again")
            texts.append(text)
        lines = [texts[0], *(text[text.index(b"\n") + 1 :] for text in texts[1:])]
        file = io.BytesIO(b"".join(lines))
        options = {"usecols": columns, "keep_default_na": False, "na_values": ["nan"]}
        yield pd.read_csv(file, dtype=dict.fromkeys(TEXTS, str), **options)


def seed_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Score rows reduced to a row per variant, arm and seed: `home`, `shifts` and `worst`."""
    score = rows["score"].astype(float)
    rows = rows.assign(score=score, finite=np.isfinite(score))
    at_home = rows["shift"] == "none"
    home = rows[at_home].groupby(KEY)["score"].mean()
    shifted = rows[~at_home]
    means = shifted.groupby(KEY)["score"].mean()
    worst = shifted.groupby([*KEY, "shift"])["score"].mean().groupby(KEY).min()
    table = pd.DataFrame({"home": home, "shifts": means, "worst": worst})
    return table.where(rows.groupby(KEY)["finite"].all()).reset_index()


def settings_table(points: Sequence[Point]) -> pd.DataFrame:
    """A row per point: its digest, `point`, and its settings."""
    return pd.DataFrame([{"point": point_digest(point), **point} for point in points])


def tidy_table(
    seeds: pd.DataFrame, points: Sequence[Point], sources: Mapping[tuple[str, str], str]
) -> pd.DataFrame:
    """Rows of `seed_table` for every point and arm, with the settings of the point."""
    keys = pd.DataFrame([(*key, source) for key, source in sources.items()])
    keys.columns = pd.Index(["point", "arm", "variant"])
    table = settings_table(points).merge(keys, on="point").merge(seeds, on=["variant", "arm"])
    return table.drop(columns="variant")
