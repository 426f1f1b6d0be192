"""Report of a validity probe: finding, tables, a CSV file of all numbers, and two figures."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runs.engine import devices
from runs.names import safe_name
from runs.probes.baselines import SIZES
from runs.probes.validity_contrasts import (
    PILOT_SHIFTS,
    BaselineContrast,
    ValidityResult,
    contrasts,
    estimate,
    finding,
)
from runs.probes.validity_probe import ValidityProbe

METRICS = ("auroc", "precision", "lead", "caught", "alarms")
NOTE = (
    "AUROC and average precision (AP) of harm within {horizon} steps, at every step that did not "
    "end its episode; per-seed means over the severities of a shift, then over shifts, then over "
    "seeds, t intervals at 95 %. Lead: steps from the first alarm within the horizon to the harm, "
    "0 without one; caught: share of harms with an alarm; false alarms: share of the steps without "
    "harm within the horizon. An alarm is a step above the level that 1 such step in 200 exceeds "
    "at home. Differences are paired by seed; p values of paired t tests, Holm-adjusted over the "
    "family declared beforehand (rows with a p value), with minus the critic as the primary "
    "contrast; the rest is exploratory. All heads were trained on the same experience of one agent "
    "without pay from heads, with {steps:,} gradient steps; `_offline` heads as many on "
    "{samples:,} steps of the final policy at home, `_random` heads in randomised worlds, both "
    "newly initialised. `minus_short_critic`: minus a critic with the head's horizon, 64-64, and "
    "with 16 units; `minus_critic_residual`: without its linear fit on progress at home; "
    "`disagreement`: standard deviation of five heads of 16 units."
)


def report(
    probe: ValidityProbe, readouts: dict, command: str, folders: Sequence[Path], seeds: int
) -> None:
    """Print the finding and the tables, and write tables, CSV and figures to folders.

    Args:
        probe: that was run.
        readouts: of all seeds, each [S, ...].
        command: that ran it.
        folders: to write to.
        seeds: that were trained.
    """
    from runs.probes.validity_figures import memory_figure, shift_figure

    result = ValidityResult(probe.head, probe.suite.points(), readouts)
    family = contrasts(result)
    text = markdown(probe, result, family, command, seeds)
    print(text)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"validity-{safe_name(probe.suite.name)}"
        (folder / f"{name}.md").write_text(text)
        write_csv(result, folder / f"{name}.csv")
        shift_figure(result, probe.suite.name, folder / f"{name}.png")
        memory_figure(result, probe.suite.name, folder / f"{name}-memory.png")
    print(f"table, scores, figures   {folders[-1]}")


def markdown(
    probe: ValidityProbe,
    result: ValidityResult,
    family: Sequence[BaselineContrast],
    command: str,
    seeds: int,
) -> str:
    """Report as Markdown: the finding, the tables, the command and the machine."""
    env, run_config = probe.suite.name, probe.run_config
    name = f"validity-{safe_name(env)}"
    updates = run_config.chunks * run_config.updates
    note = NOTE.format(
        horizon=probe.horizon,
        steps=updates * probe.blend.epochs * probe.blend.parts,
        samples=probe.batches * run_config.num_envs * run_config.num_steps,
    )
    harmed = result.values("", "harmed")
    sizes = f"Harm follows within the horizon in {np.nanmean(harmed[:, 0]):.3f} of steps at home "
    sizes += f"and in {np.nanmean(harmed[:, 1:]):.3f} under shift. "
    sizes += f"{seeds} seeds x {run_config.chunks * run_config.chunk_steps:,} steps, "
    sizes += f"{run_config.episodes} episodes a point."
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    body = [
        f"# {env}: validity of {result.head} under shift",
        finding(env, result, family),
        f"![AUROC by shift, and reliability]({name}.png)",
        _table(*ranking_table(result, family)),
        sizes + " " + note,
        "## By shift: AUROC",
        _table(*shift_table(result)),
        *_pilot(result),
        "## Calibration",
        _table(*calibration_table(result)),
        "Predicted and observed: the target of `Fear`, gamma^k with harm in k steps; Brier score: "
        "harm within the horizon.",
        "## Memory",
        f"![Memory and validity]({name}-memory.png)",
        _table(*memory_table(result)),
        "Random labels of observations at home: the share memorised after the same number of "
        "gradient steps, and the AUROC of the predictions; beside them the AUROC of harm of the "
        "same network as a fear head, trained online and offline.",
        f"`{command}`\n\n{machine}",
    ]
    return "\n\n".join(body) + "\n"


def ranking_table(
    result: ValidityResult, family: Sequence[BaselineContrast]
) -> tuple[list[str], list[list[str]]]:
    """Table (headings, rows) with one row per signal, sorted by AUROC under shift."""
    headings = ["signal", "AUROC at home", "AUROC over shifts", "worst shift", "AP home, shifted"]
    headings += ["lead home, shifted", "caught home, shifted", "false alarms home, shifted"]
    headings += [f"{result.head} minus signal", "p (Holm)"]
    declared, rows = {item.baseline: item for item in family}, []
    order = sorted(
        result.signals, key=lambda name: -np.nan_to_num(estimate(result.over_shifts(name)).value)
    )
    for name in order:
        item = declared.get(name)
        worst = min(result.shifts, key=lambda shift: _low(result, shift, name))
        pairs = [_pair(result, name, metric) for metric in METRICS[1:]]
        rows.append(
            [
                f"**{name}**" if name == result.head else name,
                f"{estimate(result.at_home(name)).value:.3f}",
                f"{estimate(result.over_shifts(name)):.3f}",
                f"{estimate(result.under_shift(worst, name)).value:.3f} {worst}",
                *pairs,
                "-"
                if name == result.head
                else f"{estimate(result.over_shifts(result.head) - result.over_shifts(name)):+.3f}",
                "-" if item is None else f"{item.p_value:.3g}",
            ]
        )
    return headings, rows


def shift_table(result: ValidityResult) -> tuple[list[str], list[list[str]]]:
    """Table (headings, rows) of the AUROC of each signal under each shift, mean over severities."""
    signals = [name for name in result.signals if not name.endswith(("_offline", "_16", "_64_64"))]
    rows = [["none", *(f"{estimate(result.at_home(name)).value:.3f}" for name in signals)]]
    for shift in result.shifts:
        cells = (f"{estimate(result.under_shift(shift, name)).value:.3f}" for name in signals)
        rows.append([shift, *cells])
    return ["shift", *signals], rows


def calibration_table(result: ValidityResult) -> tuple[list[str], list[list[str]]]:
    """Table (headings, rows) of predicted and observed harm and Brier score per probability."""
    headings = [
        "head",
        "predicted at home",
        "observed",
        "predicted, shifted",
        "observed",
        "Brier home, shifted",
    ]
    near = estimate(result.values("", "nearness")[:, 0]).value
    far = estimate(result.over_shifts("", "nearness")).value
    rows = []
    for name in result.signals:
        if f"{name}/expected" in result.readouts:
            home, shifted = (
                estimate(x(name, "expected")) for x in (result.at_home, result.over_shifts)
            )
            cells = f"{home:.3f}", f"{near:.3f}", f"{shifted:.3f}", f"{far:.3f}"
            rows.append([name, *cells, _pair(result, name, "brier")])
    return headings, rows


def memory_table(result: ValidityResult) -> tuple[list[str], list[list[str]]]:
    """Table (headings, rows) of memorised random labels and AUROC, per head size."""
    headings = ["size", "labels memorised", "their AUROC", "online home, shifted"]
    headings += ["offline home, shifted"]
    rows = []
    for i, name in enumerate(SIZES):
        fitted, ranked = (estimate(result.readouts["memory"][:, i, k]) for k in (0, 1))
        pairs = [_pair(result, signal, "auroc") for signal in (name, f"{name}_offline")]
        rows.append([name, f"{fitted:.3f}", f"{ranked.value:.3f}", *pairs])
    return headings, rows


def write_csv(result: ValidityResult, path: Path) -> None:
    """Write the mean over seeds, with t interval, of each signal's metrics at every point."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("signal", "shift", "family", "severity", "question", "mean", "low", "high"))
        for name in result.signals:
            extra = ("expected", "brier") if f"{name}/expected" in result.readouts else ()
            for metric in METRICS + extra:
                values = result.values(name, metric)
                for i, point in enumerate(result.points):
                    cells = (f"{x:.4g}" for x in estimate(values[:, i]))
                    rows.writerow((name, *point, metric, *cells))


def _pilot(result: ValidityResult) -> list[str]:
    """Sentence with the mean AUROC over the pilot's six shifts at severity 1, if they were run."""
    if not set(PILOT_SHIFTS) <= set(result.shifts):
        return []
    means = []
    for name in (result.head, "minus_critic", "innate", "fear_linear"):
        if name in result.signals:
            values = np.stack(
                [result.under_shift(shift, name, severity=1.0) for shift in PILOT_SHIFTS], 1
            )
            means.append(f"{name} {estimate(values.mean(1)):.3f}")
    return [f"{', '.join(PILOT_SHIFTS)} at severity 1, mean of the six: {'; '.join(means)}."]


def _pair(result: ValidityResult, name: str, metric: str) -> str:
    home, shifted = (estimate(x(name, metric)).value for x in (result.at_home, result.over_shifts))
    return f"{home:.3f}, {shifted:.3f}"


def _low(result: ValidityResult, shift: str, name: str) -> float:
    value = estimate(result.under_shift(shift, name)).value
    return value if np.isfinite(value) else np.inf


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", " and ") for cell in row] for row in (headings, *rows)]
    lines = [cells[0], ["---"] * len(headings), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
