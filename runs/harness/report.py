"""What a comparison found: a table, a figure of severity curves, and TensorBoard's aggregates."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runs.harness import devices, stats
from runs.harness.board import safe, write_comparison
from runs.harness.errors import UserError
from runs.harness.plan import Plan
from runs.harness.stats import Estimate

HEADINGS = (
    "arm",
    "seeds",
    "in distribution",
    "mean over shifts",
    "worst shift",
    "difference to none [95 %]",
)


class Line(NamedTuple):
    """One arm of the table.

    Attributes:
        arm: its name.
        seeds: that count: neither stopped nor paid what is not a number.
        home: in-distribution score.
        away: mean over shifts and severities.
        worst: the shift whose mean over severities is lowest, and that mean.
        gain: difference of `away` to the arm `none`.

    An estimate is None where fewer than 3 seeds count, the worst shift where none does.
    """

    arm: str
    seeds: int
    home: Estimate | None
    away: Estimate | None
    worst: tuple[str, float] | None
    gain: Estimate | None


def counting(rows: list[dict]) -> list[dict]:
    """The score rows of the seeds whose every score is a number."""
    lost = {(row["arm"], row["seed"]) for row in rows if not np.isfinite(row["score"])}
    return [row for row in rows if (row["arm"], row["seed"]) not in lost]


def summarise(rows: list[dict], arms: Sequence[str]) -> list[Line]:
    """The table, from score rows. The unit is the seed: its points are averaged first."""
    import pandas as pd

    table = pd.DataFrame(counting(rows), columns=["arm", "seed", "shift", "score"])
    shifted = table["shift"] != "none"
    away = table[shifted].groupby(["arm", "seed"])["score"].mean()
    home = table[~shifted].groupby(["arm", "seed"])["score"].mean()
    shifts = table[shifted].groupby(["arm", "shift"])["score"].mean()
    seeds = {arm: away[away.index.get_level_values("arm") == arm].to_numpy() for arm in arms}
    lines = []
    for arm, mine in seeds.items():
        if not len(mine):
            lines.append(Line(arm, 0, None, None, None, None))
            continue
        enough = len(mine) >= stats.FEWEST
        against = arm != "none" and enough and len(seeds.get("none", ())) >= stats.FEWEST
        lines.append(
            Line(
                arm,
                len(mine),
                stats.mean(home.loc[arm].to_numpy()) if enough else None,
                stats.mean(mine) if enough else None,
                (shifts.loc[arm].idxmin(), float(shifts.loc[arm].min())),
                stats.difference(mine, seeds["none"]) if against else None,
            )
        )
    return lines


def report(
    out: Path,
    env: str,
    rows: list[dict],
    plan: Plan,
    arms: Sequence[str],
    command: str,
    record: bool,
) -> None:
    """Prints and writes everything that is to be seen of a finished comparison.

    Raises:
        UserError: if every seed of every arm was stopped.
    """
    rows, lines = counting(rows), summarise(rows, arms)
    if not rows:
        raise UserError(f"every seed was stopped; the states before are in {out / 'stopped'}")
    score = "success" if np.isfinite([row["success"] for row in rows]).all() else "return"
    settings = {
        line.arm: {"arm": line.arm, "seeds": plan.seeds, "steps": plan.chunks * plan.chunk_steps}
        for line in lines
    }
    write_comparison(out, env, rows, settings)
    text = markdown(lines, env, score, plan, command)
    folders = [out] + ([Path("runs/results")] if record else [])
    for folder in folders:
        name = f"compare-{safe(env)}" if folder != out else "table"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        figure(rows, env, score, (folder / name).with_suffix(".png"))
    show(lines, score)
    stopped = sum(plan.seeds - line.seeds for line in lines)
    print(f"\nstopped seeds   {stopped} of {plan.seeds * len(lines)}")
    print(f"table, figure   {out / 'table.md'}, {out / 'table.png'}")
    print(f"scores          {out / 'scores.csv'}")
    print(f"checkpoints     {out / 'checkpoints'}")
    print(f"TensorBoard     tensorboard --logdir {out}  (every seed, hparams)")
    # Above 40 runs TensorBoard selects none and draws all of them grey: the arms by themselves.
    print(f"                tensorboard --logdir {out / 'tb' / 'compare'}  (arms, then open")
    print("                http://localhost:6006/#custom_scalars for one chart a shift)")


def show(lines: list[Line], score: str) -> None:
    """Prints the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"score: {score}", title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for line in lines:
        table.add_row(*_cells(line))
    Console(width=118).print(table)


def markdown(lines: list[Line], env: str, score: str, plan: Plan, command: str) -> str:
    """The table as Markdown, with the command that made it and the machine it was made on."""
    head = HEADINGS
    body = [" | ".join(_cells(line)) for line in lines]
    table = "\n".join([" | ".join(head), " | ".join("---" for _ in head), *body])
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe().items())
    return (
        f"# {env}: {score} by arm\n\n{table}\n\n"
        f"{plan.seeds} seeds an arm, {plan.chunks * plan.chunk_steps:,} steps a seed, "
        f"{plan.episodes} episodes a point. Per-seed means first; t and Welch intervals at 95 %, "
        "not corrected for the number of arms. `worst shift` is the one with the lowest mean.\n\n"
        f"`{command}`\n\n{machine}\n"
    )


def figure(rows: list[dict], env: str, score: str, path: Path) -> None:
    """Severity curves, one panel a shift, with t intervals over seeds."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = pd.DataFrame(rows)
    shifts = [shift for shift in table["shift"].unique() if shift != "none"]
    arms = list(table["arm"].unique())
    across = min(5, len(shifts))
    down = -(-len(shifts) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(2.6 * across, 2.2 * down + 0.9), sharey=True, squeeze=False
    )
    colours = plt.get_cmap("tab10").colors
    for axis, shift in zip(axes.flat, shifts, strict=False):
        here = table[table["shift"].isin(["none", shift])]
        for arm, colour in zip(arms, colours * 2, strict=False):
            curve = here[here["arm"] == arm].groupby("severity")["score"].apply(_interval)
            middle, low, high = np.array(curve.tolist()).T
            style = "-" if arm in ("none", "random", "fear", "hope", "curiosity") else "--"
            axis.plot(curve.index, middle, style, color=colour, label=arm, linewidth=1.4)
            axis.fill_between(curve.index, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.set_title(shift, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes.flat)[len(shifts) :]:
        axis.axis("off")
    figure.supxlabel("severity", fontsize=10)
    figure.supylabel(score, fontsize=10)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=min(len(arms), 5), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.6 / (2.2 * down + 0.9)))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _cells(line: Line) -> list[str]:
    if line.worst is None:
        return [line.arm, "0", *["-"] * 4]
    digits = ".3f" if abs(line.worst[1]) < 10 else ".1f"
    sign = f"+{digits}"
    return [
        line.arm,
        str(line.seeds),
        "-" if line.home is None else f"{line.home.value:{digits}}",
        "-" if line.away is None else f"{line.away:{digits}}",
        f"{line.worst[1]:{digits}} {line.worst[0]}",
        "-" if line.gain is None else f"{line.gain:{sign}}",
    ]


def _interval(scores: np.ndarray) -> tuple[float, float, float]:
    if len(scores) < stats.FEWEST:
        middle = float(np.mean(scores))
        return middle, middle, middle
    return tuple(stats.mean(np.asarray(scores)))
