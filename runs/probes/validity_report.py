"""What is to be seen of an examination: finding, tables, every number as CSV, and two figures."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runs.engine import devices
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
from runs.report.tb_export import safe_name

TABLES = ("auroc", "precision", "lead", "caught", "alarms")
NOTED = (
    "AUROC and average precision (AP) of harm within {horizon} steps, asked at every step that did "
    "not end its episode; means a seed over the severities of a shift, then over shifts, then over "
    "seeds, t intervals at 95 %. Warning: steps from the first alarm within the horizon to the "
    "harm, 0 where none came; caught: share of harms with one; false alarms: share of the steps "
    "without harm to come. An alarm is a step above the level that 1 calm step in 200 exceeds at "
    "home. Differences are paired, seed by seed; p values of paired t tests, Holm over all for "
    "which there is one, a family declared beforehand, with minus the critic as the primary "
    "contrast; the rest is exploratory. All heads saw the same experience beside one agent that "
    "felt nothing, with {steps:,} gradient steps; "
    "`_offline` ones saw {samples:,} steps of the final policy at home as often as that, `_random` "
    "ones in randomised worlds, both from weights of their own. `minus_short_critic`: TD of the "
    "reward at the head's horizon, 64-64, and with 16 units; `minus_critic_residual`: less its "
    "least squares on progress at home; `disagreement`: deviation of five heads of 16 units."
)


def report(
    examination: ValidityProbe, found: dict, command: str, folders: Sequence[Path], seeds: int
) -> None:
    """Prints the finding and the tables, and writes everything.

    Args:
        examination: that was held.
        found: what was told, each [S, ...].
        command: that made it.
        folders: to write to.
        seeds: that were trained.
    """
    from runs.probes.validity_figures import memory_figure, shift_figure

    told = ValidityResult(examination.head, examination.suite.points(), found)
    family = contrasts(told)
    text = markdown(examination, told, family, command, seeds)
    print(text)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"validity-{safe_name(examination.suite.name)}"
        (folder / f"{name}.md").write_text(text)
        write_csv(told, folder / f"{name}.csv")
        shift_figure(told, examination.suite.name, folder / f"{name}.png")
        memory_figure(told, examination.suite.name, folder / f"{name}-memory.png")
    print(f"table, scores, figures   {folders[-1]}")


def markdown(
    examination: ValidityProbe,
    told: ValidityResult,
    family: Sequence[BaselineContrast],
    command: str,
    seeds: int,
) -> str:
    """The finding, the tables, and what made them."""
    env, run_config = examination.suite.name, examination.run_config
    name = f"validity-{safe_name(env)}"
    updates = run_config.chunks * run_config.updates
    note = NOTED.format(
        horizon=examination.horizon,
        steps=updates * examination.blend.epochs * examination.blend.parts,
        samples=examination.batches * run_config.num_envs * run_config.num_steps,
    )
    harms = told.of("", "harmed")
    told_at = f"Harm lies within the horizon of {np.nanmean(harms[:, 0]):.3f} of the steps at home "
    told_at += f"and of {np.nanmean(harms[:, 1:]):.3f} elsewhere. "
    told_at += f"{seeds} seeds x {run_config.chunks * run_config.chunk_steps:,} steps, {run_config.episodes} episodes"
    told_at += " a point."
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    body = [
        f"# {env}: does {told.head} stay true under shift?",
        finding(env, told, family),
        f"![AUROC by shift, and reliability]({name}.png)",
        _table(*ranking_table(told, family)),
        told_at + " " + note,
        "## By shift: AUROC",
        _table(*shift_table(told)),
        *_pilot(told),
        "## Calibration",
        _table(*calibration_table(told)),
        "Foreseen and observed are what `Fear` predicts, gamma^k with harm in k steps; Brier is of "
        "harm within the horizon.",
        "## Memory",
        f"![Memory and validity]({name}-memory.png)",
        _table(*memory_table(told)),
        "Random labels of observations at home: the share learned by heart after as many gradient "
        "steps for all, and the AUROC of what is then said; beside it the validity of the same "
        "network as a fear, trained beside the agent and afterwards.",
        f"`{command}`\n\n{machine}",
    ]
    return "\n\n".join(body) + "\n"


def ranking_table(
    told: ValidityResult, family: Sequence[BaselineContrast]
) -> tuple[list[str], list[list[str]]]:
    """A line a signal, best under shift first."""
    heads = ["signal", "AUROC at home", "AUROC over shifts", "worst shift", "AP home, away"]
    heads += ["warning home, away", "caught home, away", "false alarms home, away"]
    heads += [f"{told.head} less it", "p (Holm)"]
    plan, rows = {one.rival: one for one in family}, []
    order = sorted(told.signals, key=lambda name: -np.nan_to_num(estimate(told.away(name)).value))
    for name in order:
        one = plan.get(name)
        worst = min(told.shifts, key=lambda shift: _low(told, shift, name))
        pairs = [_pair(told, name, question) for question in TABLES[1:]]
        rows.append(
            [
                f"**{name}**" if name == told.head else name,
                f"{estimate(told.at_home(name)).value:.3f}",
                f"{estimate(told.away(name)):.3f}",
                f"{estimate(told.under(worst, name)).value:.3f} {worst}",
                *pairs,
                "-"
                if name == told.head
                else f"{estimate(told.away(told.head) - told.away(name)):+.3f}",
                "-" if one is None else f"{one.p_value:.3g}",
            ]
        )
    return heads, rows


def shift_table(told: ValidityResult) -> tuple[list[str], list[list[str]]]:
    """A line a shift: the AUROC of each declared rival, mean over severities."""
    chosen = [name for name in told.signals if not name.endswith(("_offline", "_16", "_64_64"))]
    rows = [["none", *(f"{estimate(told.at_home(name)).value:.3f}" for name in chosen)]]
    for shift in told.shifts:
        each = (f"{estimate(told.under(shift, name)).value:.3f}" for name in chosen)
        rows.append([shift, *each])
    return ["shift", *chosen], rows


def calibration_table(told: ValidityResult) -> tuple[list[str], list[list[str]]]:
    """A line a probability: foreseen and observed, and Brier's score, at home and away."""
    heads = [
        "head",
        "foreseen at home",
        "observed",
        "foreseen away",
        "observed",
        "Brier home, away",
    ]
    near = estimate(told.of("", "nearness")[:, 0]).value
    far = estimate(told.away("", "nearness")).value
    rows = []
    for name in told.signals:
        if f"{name}/expected" in told.told:
            home, away = (estimate(x(name, "expected")) for x in (told.at_home, told.away))
            cells = f"{home:.3f}", f"{near:.3f}", f"{away:.3f}", f"{far:.3f}"
            rows.append([name, *cells, _pair(told, name, "brier")])
    return heads, rows


def memory_table(told: ValidityResult) -> tuple[list[str], list[list[str]]]:
    """A line a size: what it memorises, and how true it stays."""
    heads = ["size", "random labels learned", "their AUROC", "online home, away"]
    heads += ["offline home, away"]
    rows = []
    for i, name in enumerate(SIZES):
        fitted, ranked = (estimate(told.told["memory"][:, i, k]) for k in (0, 1))
        pairs = [_pair(told, each, "auroc") for each in (name, f"{name}_offline")]
        rows.append([name, f"{fitted:.3f}", f"{ranked.value:.3f}", *pairs])
    return heads, rows


def write_csv(told: ValidityResult, path: Path) -> None:
    """Every signal at every point: means over seeds with t intervals."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("signal", "shift", "family", "severity", "question", "mean", "low", "high"))
        for name in told.signals:
            more = ("expected", "brier") if f"{name}/expected" in told.told else ()
            for question in TABLES + more:
                each = told.of(name, question)
                for i, point in enumerate(told.points):
                    cells = (f"{x:.4g}" for x in estimate(each[:, i]))
                    rows.writerow((name, *point, question, *cells))


def _pilot(told: ValidityResult) -> list[str]:
    """The six shifts of the pilot at severity 1, where they are there."""
    if not set(PILOT_SHIFTS) <= set(told.shifts):
        return []
    said = []
    for name in (told.head, "minus_critic", "innate", "fear_linear"):
        if name in told.signals:
            each = np.stack([told.under(shift, name, severity=1.0) for shift in PILOT_SHIFTS], 1)
            said.append(f"{name} {estimate(each.mean(1)):.3f}")
    return [f"{', '.join(PILOT_SHIFTS)} at severity 1, mean of the six: {'; '.join(said)}."]


def _pair(told: ValidityResult, name: str, question: str) -> str:
    home, away = (estimate(x(name, question)).value for x in (told.at_home, told.away))
    return f"{home:.3f}, {away:.3f}"


def _low(told: ValidityResult, shift: str, name: str) -> float:
    value = estimate(told.under(shift, name)).value
    return value if np.isfinite(value) else np.inf


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", " and ") for cell in row] for row in (heads, *rows)]
    lines = [cells[0], ["---"] * len(heads), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
