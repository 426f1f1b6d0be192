"""TensorBoard files of a study, written from `metrics.jsonl` and the score rows.

    out/tb/runs/<env>/<arm>/s<seed>   a run per seed: `train/<metric>` curves, `score/<...>` points
    out/tb/compare/<env>/<arm>        a run per arm: mean, lo, hi over seeds, margin charts

These files are never read back: each can be deleted and is rewritten from its sources.

A session of the HPARAMS tab is one training run, in that seed's own directory, and the shifts are
its columns; its group is `env|arm|study`, so that a row is an arm averaged over seeds. With a
session per (arm, shift, seed) there would be more than 500 runs: then TensorBoard selects none.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from runs.analysis.stats import mean_and_bounds
from runs.names import safe_name
from runs.report.page import markdown_table
from runs.report.tb_writer import RUN_FILES, EventWriter, column_kinds

POINTS = 500
"""Maximum number of points of a curve; of more lines every 2nd, 4th, 8th ... is shown."""

CHARTS = "mean and 95 % interval over seeds (x: 100 x severity; training: environment steps)"
CORE = ("score/in_dist", "score/shift_mean", "score/shift_worst")


def read_metrics(out: Path, arm: str, until_step: float = np.inf) -> list[dict]:
    """Returns the lines of `out/metrics.jsonl` of one arm, by step, up to and with `until_step`.

    A line that a crash cut in half is skipped; of several lines of one step, which a resumed run
    writes, the last one is used.
    """
    by_step = {}
    path = Path(out) / "metrics.jsonl"
    for text in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            if line["arm"] == arm and line["step"] <= until_step:
                by_step[line["step"]] = line
        except (ValueError, KeyError, TypeError):
            continue
    return [by_step[step] for step in sorted(by_step)]


def thinning_stride(count: int) -> int:
    """Returns the smallest power of two that thins `count` lines to at most `POINTS`."""
    return 1 << max(0, (count - 1) // POINTS).bit_length()


class TrainingCurves:
    """Writer of the per-seed training curves of one study while it runs.

    Args:
        out: directory of the study, which holds `metrics.jsonl`.
        env: name of the environment.
    """

    def __init__(self, out: Path, env: str):
        """Makes no file; `restart` and `append` do."""
        self._out, self._home = Path(out), Path(out) / "tb" / "runs" / safe_name(env)
        self._count: dict[str, int] = {}
        self._events: dict[tuple[str, int], EventWriter] = {}

    def restart(self, arm: str, until_step: int) -> None:
        """Rewrites the runs of `arm` from `metrics.jsonl` up to `until_step` (0: from scratch).

        Both the cut at a checkpoint and the thinning are done by this rewrite. Thinning depends on
        the number of lines alone, so a resumed run shows what an uninterrupted one shows. An open
        TensorBoard follows the cut, unless it was started with `--load_fast=false`.
        """
        for key in [key for key in self._events if key[0] == arm]:
            self._events.pop(key).close()
        delete_files(self._home / safe_name(arm), "s*/" + RUN_FILES + ".train")
        lines = read_metrics(self._out, arm, until_step)
        self._count[arm] = len(lines)
        self._write(_thinned(lines))

    def append(self, line: dict) -> None:
        """Adds a line that is already in `metrics.jsonl`; a larger stride rewrites the curve."""
        arm = line["arm"]
        if arm not in self._count:
            self.restart(arm, -1)
        self._count[arm] += 1
        stride = thinning_stride(self._count[arm])
        if stride > thinning_stride(self._count[arm] - 1):
            self.restart(arm, line["step"])
        elif self._count[arm] % stride == 0:
            self._write([line])

    def close(self) -> None:
        """Flushes and closes every file."""
        for events in self._events.values():
            events.close()

    def _write(self, lines: Iterable[dict]) -> None:
        written = {}
        for line in lines:
            for seed in range(max((len(v) for v in line["metrics"].values()), default=0)):
                key = arm, _ = line["arm"], seed
                if key not in self._events:
                    folder = self._home / safe_name(arm) / f"s{seed}"
                    self._events[key] = EventWriter(folder, ".train")
                values = {f"train/{k}": v[seed] for k, v in line["metrics"].items()}
                self._events[key].scalars(values, line["step"])
                written[key] = self._events[key]
        for events in written.values():
            events.flush()


def export_comparison(
    out: Path,
    env: str,
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    knobs: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Writes aggregates, margin charts and sessions from score rows and `metrics.jsonl`.

    The unit is the seed: its draws (rows of equal shift and severity) are averaged first. Each
    shift's curve starts at severity 0 with the in-distribution score.

    Args:
        out: directory of the study.
        env: name of the environment.
        rows: the score table: `arm`, `seed`, `shift`, `severity`, `score`; the in-distribution rows
            have shift `none` and severity 0.
        settings: of the study, for the TEXT tab.
        knobs: arm -> settings of its agent and heads, further columns of the HPARAMS tab.
    """
    runs, compare = (Path(out) / "tb" / kind / safe_name(env) for kind in ("runs", "compare"))
    delete_files(compare, "*/" + RUN_FILES + ".compare")
    delete_files(runs, "*/s*/" + RUN_FILES + ".score")
    table = pd.DataFrame(list(rows)).astype({"seed": int, "severity": float, "score": float})
    score = table.groupby(["arm", "shift", "severity", "seed"])["score"].mean().unstack("seed")
    shifts = [shift for shift in table["shift"].unique() if shift != "none"]
    tags = {"training return": "train/return"}
    tags |= {f"score under {shift}": f"shift/{safe_name(shift)}" for shift in shifts}
    charts = {title: (f"{tag}/mean", f"{tag}/lo", f"{tag}/hi") for title, tag in tags.items()}
    text = markdown_table(["setting", "value"], [list(map(str, x)) for x in settings.items()])
    study = Path(out).resolve().name
    kinds = column_kinds([dict.fromkeys(("study", "env", "arm"), ""), *knobs.values()])
    for arm in table["arm"].unique():
        arm_scores = score.loc[arm].dropna(axis=1, how="all")
        with EventWriter(compare / safe_name(arm), ".compare") as events:
            events.margin_charts(charts, CHARTS)
            events.text("settings", text, step=0)
            lines = _thinned([x for x in read_metrics(out, arm) if "return" in x["metrics"]])
            returns = [line["metrics"]["return"] for line in lines]  # null is a stopped seed
            _curve(events, "train/return", [line["step"] for line in lines], returns)
            for shift in shifts:
                points = arm_scores.index.get_level_values("shift").isin(["none", shift])
                curve = arm_scores[points].groupby(level="severity").mean()
                steps = [round(100 * severity) for severity in curve.index]
                _curve(events, f"shift/{safe_name(shift)}", steps, curve.to_numpy())
        for seed, metrics in _sessions(arm_scores, shifts).items():
            with EventWriter(runs / safe_name(arm) / f"s{seed}", ".score") as events:
                events.scalars(metrics, step=seed)
                columns = {"study": study, "env": env, "arm": arm, **knobs.get(arm, {})}
                events.hparams(columns, list(metrics), f"{env}|{arm}|{study}", kinds)


def delete_files(folder: Path, pattern: str) -> None:
    """Deletes the files of a folder that match a glob pattern."""
    for path in list(folder.glob(pattern)):
        path.unlink()


def _thinned(lines: list[dict]) -> list[dict]:
    stride = thinning_stride(len(lines))
    return lines[stride - 1 :: stride]


def _curve(events: EventWriter, tag: str, steps: Sequence[int], values: Any) -> None:
    """Adds mean, lo and hi of `values` [N, seeds] at `steps` [N], the curves of a margin chart.

    A band of fewer than 3 seeds has no width, because TensorBoard draws no line without a band.
    """
    if len(steps):
        bounds = mean_and_bounds(np.array(values, float).T)
        for step, mean, lo, hi in zip(steps, *bounds, strict=True):
            events.scalars({f"{tag}/mean": mean, f"{tag}/lo": lo, f"{tag}/hi": hi}, step)


def _sessions(score: pd.DataFrame, shifts: Sequence[str]) -> dict[int, dict[str, float]]:
    """Returns the metrics `{seed: {tag: score}}`; a shift is averaged over severities above 0."""
    shifted = score[score.index.get_level_values("severity") > 0].groupby(level="shift").mean()
    by_shift = shifted.reindex(shifts).rename(index=lambda shift: f"score/{safe_name(shift)}")
    core = pd.DataFrame([score.loc["none"].mean(), by_shift.mean(), by_shift.min()], index=CORE)
    metrics = pd.concat([core, by_shift])
    return {int(seed): metrics[seed].to_dict() for seed in metrics.columns}
