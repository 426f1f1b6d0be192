"""The teenager: what is a feeling worth to somebody who learns to drive, and then meets the world?

Every arm of `runs.compare` learns to drive in light traffic, in `Drive`, where it mostly works out,
and in `Timid`, where a learner brakes and never arrives unless something makes it explore. Then it
meets cones, ice, fog and pushy drivers. Learning is counted in hours driven (5 steps a second);
failures are told apart: who crashed, and who never arrived. A head's merit is what it adds to the
constant +(1 - gamma) that it stands on: a constant needs no feeling. Interrupted, the same command
goes on; both halves are studies of `runs.compare`, in its folders.
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
CONTROLS = ("_sham", "_scrambled", "_constant", "lesion")  # not drawn as curves
OUTCOMES = {"success": "#4c9f70", "crash": "#c8553d", "late": "#b9bec7"}


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        heads: the feelings to study; their controls come without asking.
        seeds: training runs an arm, at least 3.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of about a minute, which touches everything and means nothing.
        record: write to runs/results/ and not to runs/logs/first_drive/.
    """

    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 20
    config: Path | None = None
    smoke: bool = False
    record: bool = False


class ArmSummary(NamedTuple):
    """What one arm came to in one world; estimates are over seeds.

    Attributes:
        arm: its name.
        hours: driven until half of the episodes of a chunk arrive, the median seed's; infinite if
            fewer than half of the seeds ever got there.
        home: success in distribution.
        away: success, mean over shifts and severities.
        crash: share of episodes that ended in a crash there.
        late: share that neither crashed nor arrived there.
        gain: `away`, less that of feeling nothing; None for that arm.
    """

    arm: str
    hours: float
    home: Any
    away: Any
    crash: Any
    late: Any
    gain: Any


def main(argv: list[str]) -> int:
    """Parses, then runs; the exit code."""
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
    """Both comparisons, and what they say together; the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from runs.analysis.contrasts import compared_heads, head_contrasts
    from runs.engine.comparison import run_comparison
    from runs.report.tables import finite_rows
    from runs.report.tb_export import read_metrics

    designs = {world: design(part) for world, part in parts.items()}
    progress.total = sum(what.units for what in designs.values())
    scores, curves, before = {}, {}, 0
    for world, what in designs.items():
        out = folder(parts[world], world)
        rows = run_comparison(what, out, identity(parts[world]), progress, stopped, before)
        if rows is None:
            return 0
        scores[world] = finite_rows(rows)
        curves[world] = {arm.name: arrival_curve(read_metrics(out, arm.name)) for arm in what.arms}
        before += what.units
    progress.close()
    lines = {world: summarise(scores[world], curves[world]) for world in parts}
    success = {world: partial(successes, rows) for world, rows in scores.items()}
    found = head_contrasts(success, compared_heads(curves[WORLDS[0]]))
    text = markdown(lines, found, designs, command)
    to = Path("runs/results" if settings.record else "runs/logs/first_drive")
    to.mkdir(parents=True, exist_ok=True)
    (to / "first_drive.md").write_text(text)
    figure(lines, curves, to / "first_drive.png")
    for world in parts:
        outcomes(scores[world], world, to / f"first_drive-{world}.png")
    print(text)
    print(f"table, figures   {to}/first_drive.md, {to}/first_drive*.png")
    return 0


# --- what was found -------------------------------------------------------------------------------


def arrival_curve(lines: Sequence[dict]) -> tuple[Any, Any]:
    """Hours driven [N] and share of arrivals [N, S] from the lines of an arm's training."""
    import numpy as np

    hours = np.array([line["step"] / STEPS_AN_HOUR for line in lines])
    each = [[np.nan if x is None else x for x in line["metrics"]["success"]] for line in lines]
    return hours, np.array(each, float)


def hours_until(hours: Any, success: Any, level: float = LEARNED) -> float:
    """Hours [N] until arrivals [N, S] reach a level, the median seed's; infinite if it never is."""
    import numpy as np

    reached = success >= level
    first = np.where(reached.any(0), hours[reached.argmax(0)], np.inf)
    return float(np.sort(first)[(len(first) - 1) // 2])


def per_seed(rows: Sequence[dict], arm: str, away: bool = True):
    """Success, crashes and delays of an arm, [S] each: means of its seeds over shifts, or home."""
    import pandas as pd

    table = pd.DataFrame([row for row in rows if row["arm"] == arm])
    means = table[(table["shift"] != "none") == away].groupby("seed")[["success", "harm"]].mean()
    success, crash = means["success"].to_numpy(), means["harm"].to_numpy()
    return {"success": success, "crash": crash, "late": 1 - success - crash}


def successes(rows: Sequence[dict], arm: str):
    """Success over shifts of an arm, [S]."""
    return per_seed(rows, arm)["success"]


def summarise(rows: Sequence[dict], curves: Mapping[str, tuple]) -> list[ArmSummary]:
    """A line an arm, in the order of the curves."""
    from runs.analysis import stats

    nothing, lines = successes(rows, "none"), []
    for arm, curve in curves.items():
        away, home = per_seed(rows, arm), per_seed(rows, arm, away=False)["success"]
        gain = None if arm == "none" else stats.difference(away["success"], nothing)
        shares = (stats.mean(away[outcome]) for outcome in OUTCOMES)
        lines.append(ArmSummary(arm, hours_until(*curve), stats.mean(home), *shares, gain))
    return lines


def markdown(
    lines: Mapping[str, Sequence[ArmSummary]], found: Sequence[Any], designs: Mapping, command: str
) -> str:
    """The finding, the contrasts, a table a world, and what made them."""
    from runs.analysis.contrasts import contrast_sentence
    from runs.engine import devices

    head = "arm | hours until half arrive | at home | over shifts | crashes | never arrive | "
    head += "difference to none"
    body = ["# The first drive", contrast_sentence(found)]
    rows = ["world | head | constant + head less constant | p (Holm) | head less its sham | "]
    rows[0] += "head less its scrambled twin"
    rows.append(" | ".join(["---"] * 6))
    for one in found:
        cells = one.env, one.head, f"{one.on_constant:+.3f}", f"{one.p_value:.3f}"
        over = f"{one.over_sham:+.3f}", f"{one.over_scrambled:+.3f}"
        rows.append(" | ".join((*cells, *over)))
    body.append("\n".join(rows))
    for world, arms in lines.items():
        run_config, points = designs[world].run_config, len(designs[world].suite.points()) - 1
        table = [head, " | ".join(["---"] * 7)]
        for line in arms:
            hours = f"{line.hours:.1f}" if line.hours < 1e9 else "never"
            shares = (f"{share.value:.3f}" for share in (line.crash, line.late))
            gain = "-" if line.gain is None else f"{line.gain:+.3f}"
            cells = line.arm, hours, f"{line.home.value:.3f}", f"{line.away:.3f}", *shares, gain
            table.append(" | ".join(cells))
        body.append(f"## {world}\n\n" + "\n".join(table))
        body.append(
            f"{len(arms)} arms, {run_config.seeds} seeds each, {run_config.chunks * run_config.chunk_steps:,} steps "
            f"({run_config.chunks * run_config.chunk_steps / STEPS_AN_HOUR:.0f} hours driven) a seed, "
            f"{run_config.episodes} episodes at each of {points} shifted points."
        )
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    body.append(
        "Success is arriving. Per-seed means first; t and Welch intervals at 95 %. The first "
        "table's contrasts were declared, and its p-values are Holm-adjusted over all its rows; "
        "the others are not adjusted. A scrambled twin has random frozen weights: what it does as "
        "well was not the feeling's doing. A lesion feels, and its agent does not hear of it: "
        "it is `none`, bit for bit."
    )
    body.append(f"`{command}`\n\n{machine}")
    return "\n\n".join(body) + "\n"


# --- pictures -------------------------------------------------------------------------------------


def figure(lines: Mapping[str, Sequence[ArmSummary]], curves: Mapping, path: Path) -> None:
    """Learning in hours driven above, every arm's success over shifts below; a column a world."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axes = plt.subplots(
        2, len(lines), figsize=(5.6 * len(lines), 9.5), height_ratios=(1, 1.5), squeeze=False
    )
    colours = plt.get_cmap("tab10").colors
    for column, (world, found) in enumerate(lines.items()):
        top, below = axes[:, column]
        shown = [arm for arm in curves[world] if not arm.endswith(CONTROLS)]
        for arm, colour in zip(shown, colours, strict=False):
            hours, success = curves[world][arm]
            middle = np.nanmean(success, 1)
            half = 1.96 * np.nanstd(success, 1, ddof=1) / np.sqrt(success.shape[1])
            top.plot(hours, middle, color=colour, label=arm, linewidth=1.5)
            top.fill_between(hours, middle - half, middle + half, color=colour, alpha=0.15, lw=0)
        top.set(title=world, xlabel="hours driven", ylabel="share that arrives", ylim=(0, 1))
        top.legend(frameon=False, fontsize=8)
        names = [line.arm for line in found][::-1]
        for y, line in enumerate(reversed(found)):
            colour = colours[shown.index(line.arm) % 10] if line.arm in shown else "#8a8f98"
            below.plot([line.away.low, line.away.high], [y, y], color=colour, linewidth=2)
            below.plot(line.away.value, y, "o", color=colour, markersize=5)
        below.axvline(found[0].away.value, color="#c9ccd1", linewidth=1, zorder=0)
        below.set(yticks=range(len(names)), yticklabels=names, xlabel="success over shifts (95 %)")
        for axis in (top, below):
            axis.spines[["top", "right"]].set_visible(False)
    drawn.tight_layout()
    drawn.savefig(path, dpi=100)
    plt.close(drawn)


def outcomes(rows: Sequence[dict], world: str, path: Path) -> None:
    """Arrivals, crashes and delays by severity: a row an arm, a column a shift."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = pd.DataFrame(rows)
    arms = list(dict.fromkeys(table["arm"]))
    shifts = [shift for shift in dict.fromkeys(table["shift"]) if shift != "none"]
    means = table.groupby(["arm", "shift", "severity"])[["success", "harm"]].mean()
    size = (0.95 * len(shifts) + 1.6, 0.62 * len(arms) + 1.2)
    drawn, axes = plt.subplots(
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
    drawn.legend(handles, names, loc="lower center", ncol=3, frameon=False, fontsize=9)
    drawn.suptitle(f"{world}: outcome by severity, 0 to 1 from left to right", fontsize=10)
    drawn.tight_layout(rect=(0, 0.03, 1, 1), h_pad=0.3, w_pad=0.3)
    drawn.savefig(path, dpi=100)
    plt.close(drawn)


if __name__ == "__main__":
    run_main(main)
