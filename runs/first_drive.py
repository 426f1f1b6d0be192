"""Learning to drive: which heads speed up learning, and which raise success under shift?

Every arm of `runs.compare` learns to drive in light traffic, in `Drive`, where most agents learn to
arrive, and in `Timid`, where agents learn to brake and never arrive unless they explore. It is then
scored under shift: cones, ice, fog, aggressive drivers and more. Learning time is counted in hours
driven (5 steps per second); failures are split into crashes and episodes that never arrive. A
head's effect is that of the head beside a constant +(1 - gamma), less that of the constant alone.
The same command resumes an interrupted run; both worlds are studies of `runs.compare`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runs.cli.settings import check_recordable, parse_settings, run_main, shell_command
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import design, folder, identity

COMMAND = "python -m runs.first_drive"
WORLDS = ("Drive", "Timid")
STEPS_AN_HOUR = 5 * 3600
LEARNED = 0.5  # share of a chunk's episodes that arrive
CONTROLS = ("_sham", "_untrained", "_constant", "lesion")  # not drawn as curves
OUTCOMES = {"success": "#4c9f70", "crash": "#c8553d", "late": "#b9bec7"}


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        heads: names of the heads to study; their controls are added.
        seeds: training runs per arm, at least 3.
        config: a YAML file of these settings; flags override it.
        smoke: a run of about a minute to test the code; its numbers mean nothing.
        record: write to runs/results/ instead of runs/logs/first_drive/.
    """

    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 20
    config: Path | None = None
    smoke: bool = False
    record: bool = False


class ArmSummary(NamedTuple):
    """Results of one arm in one world; estimates are over seeds.

    Attributes:
        arm: name of the arm.
        hours: driven until half of the episodes of a chunk arrive, median over seeds; infinite if
            fewer than half of the seeds reach that.
        home: success without shift.
        away: success under shift, mean over shifts and severities.
        crash: share of episodes under shift that end in a crash.
        late: share of episodes under shift that neither crash nor arrive.
        gain: `away` less that of the arm `none`; None for `none` itself.
    """

    arm: str
    hours: float
    home: Any
    away: Any
    crash: Any
    late: Any
    gain: Any


def main(argv: list[str]) -> int:
    """Run the study -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check_recordable(settings)
    parts = {
        world: Comparison(world, settings.heads, settings.seeds, smoke=settings.smoke)
        for world in WORLDS
    }
    check_comparison(parts[WORLDS[0]])
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, parts, command))


def study(settings, parts: Mapping[str, Comparison], command: str, progress, stopped) -> int:
    """Run the comparison in both worlds, contrast the heads, write the report -> exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from runs.analysis.contrasts import compared_heads, head_contrasts
    from runs.engine.comparison import run_comparison
    from runs.report.tables import finite_rows
    from runs.report.tb_export import read_metrics

    designs = {world: design(part) for world, part in parts.items()}
    progress.total = sum(job.units for job in designs.values())
    scores, curves, units_done = {}, {}, 0
    for world, job in designs.items():
        out = folder(parts[world], world)
        rows = run_comparison(job, out, identity(parts[world]), progress, stopped, units_done)
        if rows is None:
            return 0
        scores[world] = finite_rows(rows)
        curves[world] = {arm.name: arrival_curve(read_metrics(out, arm.name)) for arm in job.arms}
        units_done += job.units
    progress.close()
    lines = {world: summarise(scores[world], curves[world]) for world in parts}
    success = {world: partial(successes, rows) for world, rows in scores.items()}
    contrasts = head_contrasts(success, compared_heads(curves[WORLDS[0]]))
    text = markdown(lines, contrasts, designs, command)
    target = Path("runs/results" if settings.record else "runs/logs/first_drive")
    target.mkdir(parents=True, exist_ok=True)
    (target / "first_drive.md").write_text(text)
    figure(lines, curves, target / "first_drive.png")
    for world in parts:
        outcomes(scores[world], world, target / f"first_drive-{world}.png")
    print(text)
    print(f"table, figures   {target}/first_drive.md, {target}/first_drive*.png")
    return 0


# --- results --------------------------------------------------------------------------------------


def arrival_curve(lines: Sequence[dict]) -> tuple[Any, Any]:
    """Hours driven [N] and share of arrivals [N, S] from the metrics lines of an arm."""
    import numpy as np

    hours = np.array([line["step"] / STEPS_AN_HOUR for line in lines])
    success = [[np.nan if x is None else x for x in line["metrics"]["success"]] for line in lines]
    return hours, np.array(success, float)


def hours_until(hours: Any, success: Any, level: float = LEARNED) -> float:
    """Hours [N] until arrivals [N, S] reach a level, median over seeds; infinite if never."""
    import numpy as np

    reached = success >= level
    first = np.where(reached.any(0), hours[reached.argmax(0)], np.inf)
    return float(np.sort(first)[(len(first) - 1) // 2])


def per_seed(rows: Sequence[dict], arm: str, away: bool = True):
    """Success, crash and late share [S] of an arm, means under shift (`away`) or without shift."""
    import pandas as pd

    table = pd.DataFrame([row for row in rows if row["arm"] == arm])
    means = table[(table["shift"] != "none") == away].groupby("seed")[["success", "harm"]].mean()
    success, crash = means["success"].to_numpy(), means["harm"].to_numpy()
    return {"success": success, "crash": crash, "late": 1 - success - crash}


def successes(rows: Sequence[dict], arm: str):
    """Success of an arm under shift [S], mean over shifts and severities."""
    return per_seed(rows, arm)["success"]


def summarise(rows: Sequence[dict], curves: Mapping[str, tuple]) -> list[ArmSummary]:
    """Summary of every arm, in the order of the curves."""
    from runs.analysis import stats

    none_success, lines = successes(rows, "none"), []
    for arm, curve in curves.items():
        away, home = per_seed(rows, arm), per_seed(rows, arm, away=False)["success"]
        gain = None if arm == "none" else stats.difference(away["success"], none_success)
        shares = (stats.mean(away[outcome]) for outcome in OUTCOMES)
        lines.append(ArmSummary(arm, hours_until(*curve), stats.mean(home), *shares, gain))
    return lines


def markdown(
    lines: Mapping[str, Sequence[ArmSummary]],
    contrasts: Sequence[Any],
    designs: Mapping,
    command: str,
) -> str:
    """Markdown report: contrasts, a table per world, command and machine."""
    from runs.analysis.contrasts import contrast_sentence
    from runs.engine import devices

    heading = "arm | hours until half arrive | at home | over shifts | crashes | never arrive | "
    heading += "difference to none"
    body = ["# Learning to drive", contrast_sentence(contrasts)]
    rows = ["world | head | constant + head less constant | p (Holm) | head less its sham | "]
    rows[0] += "head less its untrained control"
    rows.append(" | ".join(["---"] * 6))
    for row in contrasts:
        cells = row.env, row.head, f"{row.on_constant:+.3f}", f"{row.p_value:.3f}"
        over = f"{row.over_sham:+.3f}", f"{row.over_untrained:+.3f}"
        rows.append(" | ".join((*cells, *over)))
    body.append("\n".join(rows))
    for world, arms in lines.items():
        run_config, points = designs[world].run_config, len(designs[world].suite.points()) - 1
        table = [heading, " | ".join(["---"] * 7)]
        for line in arms:
            hours = f"{line.hours:.1f}" if line.hours < 1e9 else "never"
            shares = (f"{share.value:.3f}" for share in (line.crash, line.late))
            gain = "-" if line.gain is None else f"{line.gain:+.3f}"
            cells = line.arm, hours, f"{line.home.value:.3f}", f"{line.away:.3f}", *shares, gain
            table.append(" | ".join(cells))
        body.append(f"## {world}\n\n" + "\n".join(table))
        body.append(
            f"{len(arms)} arms, {run_config.seeds} seeds each, "
            f"{run_config.chunks * run_config.chunk_steps:,} steps "
            f"({run_config.chunks * run_config.chunk_steps / STEPS_AN_HOUR:.0f} hours driven) a "
            f"seed, {run_config.episodes} episodes at each of {points} shifted points."
        )
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    body.append(
        "Success is arriving. Per-seed means first; t and Welch intervals at 95 %. The first "
        "table's contrasts were declared, and its p-values are Holm-adjusted over all its rows; "
        "the others are not adjusted. An untrained head has random frozen weights: a gain that it "
        "has as well is not due to what the head learned. A lesioned head trains and pays nothing: "
        "the agent is that of `none`, bit for bit."
    )
    body.append(f"`{command}`\n\n{machine}")
    return "\n\n".join(body) + "\n"


# --- figures --------------------------------------------------------------------------------------


def figure(lines: Mapping[str, Sequence[ArmSummary]], curves: Mapping, path: Path) -> None:
    """Draw learning curves by hours driven, and every arm's success under shift, per world."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sheet, axes = plt.subplots(
        2, len(lines), figsize=(5.6 * len(lines), 9.5), height_ratios=(1, 1.5), squeeze=False
    )
    colours = plt.get_cmap("tab10").colors
    for column, (world, summaries) in enumerate(lines.items()):
        upper, lower = axes[:, column]
        shown = [arm for arm in curves[world] if not arm.endswith(CONTROLS)]
        for arm, colour in zip(shown, colours, strict=False):
            hours, success = curves[world][arm]
            middle = np.nanmean(success, 1)
            half = 1.96 * np.nanstd(success, 1, ddof=1) / np.sqrt(success.shape[1])
            upper.plot(hours, middle, color=colour, label=arm, linewidth=1.5)
            upper.fill_between(hours, middle - half, middle + half, color=colour, alpha=0.15, lw=0)
        upper.set(title=world, xlabel="hours driven", ylabel="share that arrives", ylim=(0, 1))
        upper.legend(frameon=False, fontsize=8)
        names = [line.arm for line in summaries][::-1]
        for y, line in enumerate(reversed(summaries)):
            colour = colours[shown.index(line.arm) % 10] if line.arm in shown else "#8a8f98"
            lower.plot([line.away.low, line.away.high], [y, y], color=colour, linewidth=2)
            lower.plot(line.away.value, y, "o", color=colour, markersize=5)
        lower.axvline(summaries[0].away.value, color="#c9ccd1", linewidth=1, zorder=0)
        lower.set(yticks=range(len(names)), yticklabels=names, xlabel="success over shifts (95 %)")
        for axis in (upper, lower):
            axis.spines[["top", "right"]].set_visible(False)
    sheet.tight_layout()
    sheet.savefig(path, dpi=100)
    plt.close(sheet)


def outcomes(rows: Sequence[dict], world: str, path: Path) -> None:
    """Draw shares of arrivals, crashes and late episodes by severity, arms x shifts."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = pd.DataFrame(rows)
    arms = list(dict.fromkeys(table["arm"]))
    shifts = [shift for shift in dict.fromkeys(table["shift"]) if shift != "none"]
    means = table.groupby(["arm", "shift", "severity"])[["success", "harm"]].mean()
    size = (0.95 * len(shifts) + 1.6, 0.62 * len(arms) + 1.2)
    sheet, axes = plt.subplots(
        len(arms), len(shifts), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for i, arm in enumerate(arms):
        for j, shift in enumerate(shifts):
            axis = axes[i, j]
            curve = pd.concat([means.loc[arm, "none"], means.loc[arm, shift]])
            late = 1 - curve["success"] - curve["harm"]
            axis.stackplot(
                *(curve.index, curve["success"], late, curve["harm"]),
                colors=[OUTCOMES[name] for name in ("success", "late", "crash")],
            )
            axis.set(xticks=[], yticks=[], xlim=(0, curve.index.max()), ylim=(0, 1))
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(shift.replace("|", "\n| "), fontsize=8)
            if j == 0:
                axis.set_ylabel(arm, rotation=0, ha="right", va="center", fontsize=8)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in OUTCOMES.values()]
    names = ["arrives", "crashes", "never arrives"]
    sheet.legend(handles, names, loc="lower center", ncol=3, frameon=False, fontsize=9)
    sheet.suptitle(f"{world}: outcome by severity, 0 to 1 from left to right", fontsize=10)
    sheet.tight_layout(rect=(0, 0.03, 1, 1), h_pad=0.3, w_pad=0.3)
    sheet.savefig(path, dpi=100)
    plt.close(sheet)


if __name__ == "__main__":
    run_main(main)
