"""TensorBoard files of a study, written from `metrics.jsonl` and the score rows.

    out/tb/runs/<env>/<arm>/s<seed>   a run per seed: `train/<metric>` curves, `score/<...>` points
    out/tb/compare/<env>/<arm>        a run per arm: mean, lo, hi over seeds, margin charts

These files are never read back: each can be deleted and is rewritten from its sources. Names are
made safe for paths and run names, so an arm may be named `constant+0.01` and an environment
`ALE/Pong-v5`.

A session of the HPARAMS tab is one training run, so it is in that seed's own directory, and the
shifts are its columns (in-distribution, mean and worst of the shifts, then each shift). Its group
is `env|arm|study`: a row is an arm averaged over seeds. A session per (arm, shift, seed) would
need 2,160 directories for nine arms, twelve shifts and twenty seeds. They load within a second, but
TensorBoard selects no run at all if there are more than 500 (40 in the older tabs), so every
chart would start empty.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from runs.names import safe_name
from runs.report.tb_writer import RUN_FILES, EventWriter

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


def mean_and_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 95 % t interval over seeds.

    Args:
      values: float [N, seeds]; NaN is a missing seed.

    Returns:
      mean, lo and hi, each [N]. NaN without a seed; with one seed lo = hi = mean, a band of no
      width, because TensorBoard draws no line without a band.
    """
    from scipy.stats import t

    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    divisor = np.maximum(count, 1)
    mean = np.where(count > 0, np.where(finite, values, 0.0).sum(axis=1) / divisor, np.nan)
    spread = np.where(finite, values - mean[:, None], 0.0)
    freedom = np.maximum(count - 1, 1)
    error = np.sqrt((spread**2).sum(axis=1) / freedom / divisor)
    half = np.where(count > 1, t.ppf(0.975, freedom) * error, 0.0)
    return mean, mean - half, mean + half


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
        stride = thinning_stride(len(lines))
        self._write(lines[stride - 1 :: stride])

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
                key = line["arm"], seed
                if key not in self._events:
                    self._events[key] = EventWriter(
                        self._home / safe_name(key[0]) / f"s{seed}", ".train"
                    )
                values = {f"train/{k}": v[seed] for k, v in line["metrics"].items()}
                self._events[key].scalars(values, line["step"])
                written[key] = self._events[key]
        for events in written.values():
            events.flush()


def export_comparison(
    out: Path, env: str, rows: Sequence[Mapping[str, Any]], hparams: Mapping[str, Mapping[str, Any]]
) -> None:
    """Writes aggregates, margin charts and hparams from score rows and `metrics.jsonl`.

    The unit is the seed: its draws (rows of equal shift and severity) are averaged first. Each
    shift's curve starts at severity 0 with the in-distribution score.

    Args:
      out: directory of the study.
      env: name of the environment.
      rows: the score table: `arm`, `seed`, `shift`, `severity`, `score`; the in-distribution rows
        have shift `none` and severity 0.
      hparams: scalar settings of each arm. Those that differ between arms become columns, beside
        the names of study, environment and arm; all of them are in the TEXT tab. A TensorBoard
        that is open keeps an older table until it is started again.
    """
    import pandas as pd

    runs, compare = (Path(out) / "tb" / kind / safe_name(env) for kind in ("runs", "compare"))
    delete_files(compare, "*/" + RUN_FILES + ".compare")
    delete_files(runs, "*/s*/" + RUN_FILES + ".score")
    table = pd.DataFrame(list(rows)).astype({"seed": int, "severity": float, "score": float})
    score = table.groupby(["arm", "shift", "severity", "seed"])["score"].mean().unstack("seed")
    shifts = [shift for shift in table["shift"].unique() if shift != "none"]
    tags = {"training return": "train/return"}
    tags |= {f"score under {shift}": f"shift/{safe_name(shift)}" for shift in shifts}
    charts = {title: (f"{tag}/mean", f"{tag}/lo", f"{tag}/hi") for title, tag in tags.items()}
    arms = table["arm"].unique()
    study = Path(out).resolve().name
    columns = _columns(study, env, {arm: hparams.get(arm, {}) for arm in arms})
    for arm in arms:
        arm_scores = score.loc[arm].dropna(axis=1, how="all")
        with EventWriter(compare / safe_name(arm), ".compare") as events:
            events.margin_charts(charts, CHARTS)
            events.text("settings", _markdown(hparams.get(arm, {})), step=0)
            _training(events, out, arm)
            for shift in shifts:
                levels = arm_scores[
                    arm_scores.index.get_level_values("shift").isin(["none", shift])
                ]
                curve = levels.groupby(level="severity").mean()
                steps = [round(100 * severity) for severity in curve.index]
                _curve(events, f"shift/{safe_name(shift)}", steps, curve.to_numpy())
        for seed, metrics in _sessions(arm_scores, shifts).items():
            with EventWriter(runs / safe_name(arm) / f"s{seed}", ".score") as events:
                events.scalars(metrics, step=seed)
                events.hparams(columns[arm], list(metrics), group=f"{env}|{arm}|{study}")


def delete_files(folder: Path, pattern: str) -> None:
    """Deletes the files of a folder that match a glob pattern."""
    for path in list(folder.glob(pattern)):
        path.unlink()


def _curve(events: EventWriter, tag: str, steps: Sequence[int], values: np.ndarray) -> None:
    """Adds mean, lo and hi of `values` [N, seeds] at `steps` [N], the curves of a margin chart."""
    for step, mean, lo, hi in zip(steps, *mean_and_interval(values), strict=True):
        events.scalars({f"{tag}/mean": mean, f"{tag}/lo": lo, f"{tag}/hi": hi}, step)


def _training(events: EventWriter, out: Path, arm: str) -> None:
    """Adds the training return of an arm over seeds, thinned like the curves of the seeds."""
    lines = [line for line in read_metrics(out, arm) if "return" in line["metrics"]]
    stride = thinning_stride(len(lines))
    lines = lines[stride - 1 :: stride]
    if lines:
        returns = np.array([line["metrics"]["return"] for line in lines], float)  # null is NaN
        _curve(events, "train/return", [line["step"] for line in lines], returns)


def _columns(
    study: str, env: str, hparams: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Returns each arm's hparams: names, and the settings that differ, with one type per column.

    TensorBoard takes the columns of all rows from one of them, and shows only five at first.
    """
    rows = {arm: {"study": study, "env": env, "arm": arm} for arm in hparams}
    for name in dict.fromkeys(name for values in hparams.values() for name in values):
        column = {arm: values.get(name, "-") for arm, values in hparams.items()}
        numeric = all(isinstance(value, Real) for value in column.values())
        if len({repr(value) for value in column.values()}) > 1:
            for arm, value in column.items():
                rows[arm][name] = value if numeric else str(value)
    return rows


def _markdown(settings: Mapping[str, Any]) -> str:
    """Returns a Markdown table of all settings of an arm."""
    return "\n".join(["setting | value", "--- | ---", *(f"{k} | {v}" for k, v in settings.items())])


def _sessions(score: Any, shifts: Sequence[str]) -> dict[int, dict[str, float]]:
    """Returns the metrics `{seed: {tag: score}}`; a shift is averaged over severities above 0."""
    level = score.index.get_level_values
    means = {s: score[(level("shift") == s) & (level("severity") > 0)].mean() for s in shifts}
    nominal = score[level("shift") == "none"].mean()
    sessions = {}
    for seed in score.columns:
        by_shift = {f"score/{safe_name(shift)}": means[shift][seed] for shift in shifts}
        worst = np.array(list(by_shift.values()) or [np.nan])
        core = dict(zip(CORE, (nominal[seed], worst.mean(), worst.min()), strict=True))
        sessions[int(seed)] = core | by_shift
    return sessions
