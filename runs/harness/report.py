"""What a comparison found: tables, a figure of severity curves, and TensorBoard's aggregates."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runs.harness import devices, stats
from runs.harness.board import safe, write_comparison
from runs.harness.calibration import normalised
from runs.harness.errors import UserError
from runs.harness.evaluate import REPORTED
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
WIDTH = 118  # of the terminal
NORMALISED = "normalised, mean over shifts"
WORST = "`worst shift` is the one with the lowest mean."
SCALE = "Normalised, 0 is a random policy and 1 a specialist of the shift (`runs.calibrate`)."
PLACES = ("home", "shifted")
HOME = "`home` is in distribution, `shifted` the mean over shifts and severities."
ENDINGS = {
    "success": "",
    "harm": "`harm`: came to some.",
    "other_goal": "`wrong goal`: failed, and had gone competently to the wrong thing.",
    "rest": "`rest`: none of these, out of time or incapable.",
}
"""How an episode may end, and what that means."""


class Table(NamedTuple):
    """What is shown, in the terminal and as Markdown.

    Attributes:
        title: what is in it.
        headings: of its columns.
        rows: cells, one for each heading.
        note: how to read it.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[list[str]]
    note: str


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


def tables(rows: list[dict], arms: Sequence[str], env: str) -> list[Table]:
    """All that the score rows have to say: who does best, what was paid for, how it ended."""
    found = comparison(rows, arms, env), proxies(rows, arms), endings(rows, arms)
    return [table for table in found if table is not None]


def comparison(rows: list[dict], arms: Sequence[str], env: str) -> Table:
    """The arms by score; where the environment was calibrated, also by what it is worth there."""
    title, note = f"score: {_score(rows)}; arms run: {len(arms)}", WORST
    lines, scaled = summarise(rows, arms), normalised(counting(rows), env)
    if scaled is None:
        return Table(title, HEADINGS, [_cells(line, _bounds) for line in lines], note)
    worth = ["-" if line.away is None else _half(line.away) for line in summarise(scaled, arms)]
    cells = [[*_cells(line, _half), last] for line, last in zip(lines, worth, strict=True)]
    return Table(title, (*HEADINGS, NORMALISED), cells, f"{note} {SCALE}")


def proxies(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """What is paid beside what is wanted; None where no hidden performance is reported."""
    means, names = _means(rows, _place), ["return", "hidden"]
    if means["hidden"].isna().all():
        return None
    left = _means(rows, str)[names].groupby(["arm", "place"]).mean()
    return Table(
        "what is paid, and what is wanted",
        ("arm", *_headings(names), "parts most: return, hidden"),
        [[arm, *_values(means[names], arm), _parting(left, arm)] for arm in arms],
        f"{HOME} `return` is the observed reward and `hidden` the true performance, each summed "
        "over an episode. `parts most`: the shift under which the shares of them that are left of "
        "home are furthest apart, and these shares.",
    )


def endings(rows: list[dict], arms: Sequence[str]) -> Table | None:
    """Failures told apart; None where neither harm nor a wrong goal is reported."""
    means = _means(rows, _place)
    told = [name for name in ENDINGS if means[name].notna().any()]
    if not {"harm", "other_goal"} & set(told):
        return None
    return Table(
        "how episodes end, in %",
        ("arm", *_headings([name.replace("other_goal", "wrong goal") for name in told])),
        [[arm, *_values(100 * means[told], arm, ".1f")] for arm in arms],
        " ".join([HOME, *(ENDINGS[name] for name in told if ENDINGS[name])]),
    )


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
    settings = {
        line.arm: {"arm": line.arm, "seeds": plan.seeds, "steps": plan.chunks * plan.chunk_steps}
        for line in lines
    }
    write_comparison(out, env, rows, settings)
    shown = tables(rows, arms, env)
    text = markdown(shown, env, _score(rows), plan, command)
    folders = [out] + ([Path("runs/results")] if record else [])
    for folder in folders:
        name = f"compare-{safe(env)}" if folder != out else "table"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        figure(rows, env, _score(rows), (folder / name).with_suffix(".png"))
    show(shown)
    stopped = sum(plan.seeds - line.seeds for line in lines)
    print(f"\nstopped seeds   {stopped} of {plan.seeds * len(lines)}")
    print(f"table, figure   {out / 'table.md'}, {out / 'table.png'}")
    print(f"scores          {out / 'scores.csv'}")
    print(f"checkpoints     {out / 'checkpoints'}")
    print(f"TensorBoard     tensorboard --logdir {out}  (every seed, hparams)")
    # Above 40 runs TensorBoard selects none and draws all of them grey: the arms by themselves.
    print(f"                tensorboard --logdir {out / 'tb' / 'compare'}  (arms, then open")
    print("                http://localhost:6006/#custom_scalars for one chart a shift)")


def show(tables: Sequence[Table]) -> None:
    """Prints tables to the terminal, the first one in a frame."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Sheet

    console = Console(width=2 * WIDTH)  # a table is as wide as its columns, which see to WIDTH
    for i, table in enumerate(tables):
        form = {"box": box.SIMPLE_HEAD, "padding": (0, 0, 0, 1)} if i else {"box": box.HEAVY_HEAD}
        sheet = Sheet(title=table.title, caption=table.note, **form)
        sheet.title_justify = sheet.caption_justify = "left"
        for heading, width in zip(table.headings, _widths(table), strict=True):
            sheet.add_column(heading, justify="left" if heading == "arm" else "right", width=width)
        for row in table.rows:
            sheet.add_row(*row)
        console.print(sheet, *[""] * (i < len(tables) - 1), sep="\n")


def _widths(table: Table) -> list[int]:
    """Of its columns; where there is no room, headings are folded, and cells never."""
    cells = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    whole = [max(n, len(heading)) for n, heading in zip(cells, table.headings, strict=True)]
    if sum(whole) + 3 * len(whole) < WIDTH:
        return whole
    words = [max(map(len, heading.split())) for heading in table.headings]
    return [max(pair) for pair in zip(cells, words, strict=True)]


def markdown(tables: Sequence[Table], env: str, score: str, plan: Plan, command: str) -> str:
    """The tables as Markdown, with the command that made them and the machine."""
    first, *others = map(_markdown, tables)
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe().items())
    sizes = (
        f"{len(tables[0].rows)} arms, {plan.seeds} seeds an arm, "
        f"{plan.chunks * plan.chunk_steps:,} steps a seed, {plan.episodes} episodes a point. "
        "Per-seed means first; t and Welch intervals at 95 %, not corrected for the number of arms."
    )
    below = [f"## {table.title}\n\n{text}" for table, text in zip(tables[1:], others, strict=True)]
    parts = [f"# {env}: {score} by arm", first, sizes, *below, f"`{command}`", machine]
    return "\n\n".join(parts) + "\n"


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


def _score(rows: list[dict]) -> str:
    """What the score is: success wherever the environment says what that is."""
    return "success" if np.isfinite([row["success"] for row in rows]).all() else "return"


def _place(shift: str) -> str:
    return PLACES[shift != "none"]


def _means(rows: list[dict], place: Callable[[str], str]) -> Any:
    """Means by arm, place (of a row's shift) and seed; `rest` is what ENDINGS leave of 1."""
    import pandas as pd

    names = ["return", "success", *REPORTED]
    table = pd.DataFrame(counting(rows), columns=["arm", "seed", "shift", *names])
    table["rest"] = 1 - table["success"] - table[["harm", "other_goal"]].sum(axis=1)
    table["rest"] = table["rest"].clip(lower=0)  # a success may come to harm
    table["place"] = table["shift"].map(place)
    return table.groupby(["arm", "place", "seed"])[[*names, "rest"]].mean()


def _headings(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name}, {place}" for place in PLACES for name in names)


def _values(means: Any, arm: str, digits: str = "") -> list[str]:
    """Each column of per-seed means in each place, as a mean and half its interval."""
    cells = []
    for place in PLACES:
        here = (arm, place) in means.index
        for name in means.columns:
            cells.append(_value(means.loc[(arm, place), name].to_numpy(), digits) if here else "-")
    return cells


def _value(seeds: np.ndarray, digits: str) -> str:
    if len(seeds) < stats.FEWEST or not np.isfinite(seeds).all():
        return f"{seeds.mean():{digits or _digits(seeds.mean())}}"
    return _half(stats.mean(seeds), digits or _digits(seeds.mean()))


def _parting(means: Any, arm: str) -> str:
    """The shift under which return and hidden performance part most, and what is left of each."""
    mine = means.loc[arm] if arm in means.index else None
    if mine is None or not (mine.loc["none"] > 0).all():
        return "-"
    left = mine / mine.loc["none"]
    shift = (left["return"] - left["hidden"]).abs().idxmax()
    paid, wanted = left.loc[shift]
    return f"{shift}: {paid:.0%}, {wanted:.0%}"


def _markdown(table: Table) -> str:
    """A table and its note."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in table.rows]
    lines = [table.headings, ["---"] * len(table.headings), *rows]
    return "\n".join(map(" | ".join, lines)) + f"\n\n{table.note}"


def _cells(line: Line, form: Callable[[Estimate, str], str]) -> list[str]:
    if line.worst is None:
        return [line.arm, "0", *["-"] * 4]
    digits = _digits(line.worst[1])
    return [
        line.arm,
        str(line.seeds),
        "-" if line.home is None else f"{line.home.value:{digits}}",
        "-" if line.away is None else form(line.away, digits),
        f"{line.worst[1]:{digits}} {line.worst[0]}",
        "-" if line.gain is None else form(line.gain, f"+{digits}"),
    ]


def _digits(value: float) -> str:
    return ".3f" if abs(value) < 10 else ".1f"


def _bounds(estimate: Estimate, digits: str) -> str:
    return f"{estimate:{digits}}"


def _half(estimate: Estimate, digits: str = ".3f") -> str:
    """The same in less room: t and Welch intervals are symmetric."""
    half = estimate.high - estimate.value
    return f"{estimate.value:{digits}} ±{half:{digits.removeprefix('+')}}"


def _interval(scores: np.ndarray) -> tuple[float, float, float]:
    if len(scores) < stats.FEWEST:
        middle = float(np.mean(scores))
        return middle, middle, middle
    return tuple(stats.mean(np.asarray(scores)))
