"""Report of a finished comparison: tables, severity figure, HTML page, TensorBoard aggregates."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runs.analysis import stats
from runs.analysis.scores import check_complete, read_scores
from runs.engine import devices
from runs.engine.run_config import RunConfig
from runs.errors import UserError
from runs.names import safe_name
from runs.prereg import audit, plan_file, seal
from runs.prereg.plan_file import Plan
from runs.probes import readout_table
from runs.report import episode_trace, html
from runs.report.tables import Table, all_tables, finite_rows, score_name, summarise_arms
from runs.report.tb_export import export_comparison
from runs.report.verdict import verdict_sentence

WIDTH = 118  # columns of the terminal


def report_comparison(
    out: Path, rows: list[dict], run_config: RunConfig, plan: Plan, command: str, record: bool
) -> None:
    """Prints and writes all reports of a finished comparison.

    Args:
        out: folder of the study.
        rows: public score rows of all arms.
        run_config: sizes of the runs.
        plan: what was actually run, to compare with the declared plan.
        command: command line that made the study.
        record: also write to runs/results/.

    Raises:
        UserError: if every seed of every arm was stopped.
    """
    env, arms, excluded = plan.env, plan.arms, plan.without
    check_complete(rows, out / seal.SCORES["dev"])
    rows, arm_rows = finite_rows(rows), summarise_arms(rows, arms)
    if not rows:
        raise UserError(f"every seed was stopped; the states before are in {out / 'stopped'}")
    settings = {
        arm_row.arm: {
            "arm": arm_row.arm,
            "seeds": run_config.seeds,
            "steps": run_config.chunks * run_config.chunk_steps,
        }
        for arm_row in arm_rows
    }
    export_comparison(out, env, rows, settings)
    sealed = out / seal.SCORES["sealed"]
    tables = all_tables(rows, arms, env, read_scores(sealed) if sealed.exists() else [])
    readouts = readout_table.readout_table(readout_table.read_readouts(out))
    tables += [readouts] if readouts is not None else []
    text = tables_as_markdown(tables, env, score_name(rows), run_config, command, excluded)
    folders = [out] + ([Path("runs/results")] if record else [])
    for folder in folders:
        name = f"compare-{safe_name(env)}" if folder != out else "table"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        severity_figure(rows, env, score_name(rows), (folder / name).with_suffix(".png"))
    print_tables(tables)
    watermark, looks = audit.watermark(out), audit.looks_sentence(out)
    _write_html(out, rows, tables, run_config, plan, command, watermark, looks)
    stopped = sum(run_config.seeds - arm_row.seeds for arm_row in arm_rows)
    print(f"\n{verdict_sentence(rows, _declared_plan(out), looks)}")
    if watermark is not None:
        print(f"\n{watermark}")
    if excluded:
        print(f"\nleft out        {', '.join(excluded)}, on request")
    print(f"\nstopped seeds   {stopped} of {run_config.seeds * len(arm_rows)}")
    print(f"report          {out / html.NAME}")
    print(f"table, figure   {out / 'table.md'}, {out / 'table.png'}")
    print(f"scores          {out / 'scores.csv'}")
    print(f"checkpoints     {out / 'checkpoints'}")
    print(f"verify          python -m runs.verify {shlex.quote(str(out))}")
    print(f"TensorBoard     python -m runs.board {shlex.quote(str(out))}")


def _write_html(out, rows, tables, run_config, plan, command, watermark, looks) -> None:
    """Writes the HTML page of the study."""
    declared = _declared_plan(out)
    traces = [
        episode_trace.load_trace(out / "timelines" / f"{name}.npz") for name in ("home", "away")
    ]
    html.write_page(
        out,
        html.PageContent(
            env=plan.env,
            rows=rows,
            arms=plan.arms,
            tables=tables,
            plan=declared,
            run_config=run_config,
            command=command,
            without=plan.without,
            watermark=watermark,
            looks=looks,
            changes=plan_file.plan_changes(declared, plan) if declared else (),
            readouts=readout_table.read_readouts(out),
            timelines=[
                html.EpisodeFigure(title, *episode) for title, episode in filter(None, traces)
            ],
            machine=devices.describe_machine(),
        ),
    )


def _declared_plan(out: Path) -> Plan | None:
    """Plan declared before training; None if its file cannot be read."""
    try:
        return plan_file.read_plan(out / plan_file.PLAN_FILE)
    except UserError:
        return None


def print_tables(tables: Sequence[Table]) -> None:
    """Prints tables to the terminal, the first one in a frame."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(width=2 * WIDTH)  # wide enough: `_widths` keeps tables within WIDTH
    for i, table in enumerate(tables):
        frame = {"box": box.SIMPLE_HEAD, "padding": (0, 0, 0, 1)} if i else {"box": box.HEAVY_HEAD}
        rich_table = RichTable(title=table.title, caption=table.note, **frame)
        rich_table.title_justify = rich_table.caption_justify = "left"
        for heading, width in zip(table.headings, _widths(table), strict=True):
            rich_table.add_column(
                heading, justify="left" if heading == table.headings[0] else "right", width=width
            )
        for row in table.rows:
            rich_table.add_row(*row)
        console.print(rich_table, *[""] * (i < len(tables) - 1), sep="\n")


def _widths(table: Table) -> list[int]:
    """Widths of a table's columns; in too little room headings are folded, cells never."""
    cells = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    full = [max(n, len(heading)) for n, heading in zip(cells, table.headings, strict=True)]
    if sum(full) + 3 * len(full) < WIDTH:
        return full
    words = [max(map(len, heading.split())) for heading in table.headings]
    return [max(pair) for pair in zip(cells, words, strict=True)]


def tables_as_markdown(
    tables: Sequence[Table],
    env: str,
    score: str,
    run_config: RunConfig,
    command: str,
    excluded: Sequence[str] = (),
) -> str:
    """Formats tables as Markdown, with the command that made them and the machine."""
    first, *others = map(_markdown, tables)
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    sizes = (
        f"{len(tables[0].rows)} arms, {run_config.seeds} seeds an arm, "
        f"{run_config.chunks * run_config.chunk_steps:,} steps a seed, "
        f"{run_config.episodes} episodes a point. Scores are averaged per seed first; t and "
        "Welch intervals at 95 %, not corrected for the number of arms."
    )
    if excluded:
        sizes += f" LEFT OUT ON REQUEST: {', '.join(excluded)}."
    sections = [
        f"## {table.title}\n\n{text}" for table, text in zip(tables[1:], others, strict=True)
    ]
    parts = [f"# {env}: {score} by arm", first, sizes, *sections, f"`{command}`", machine]
    return "\n\n".join(parts) + "\n"


def severity_figure(rows: list[dict], env: str, score: str, path: Path) -> None:
    """Saves the severity curves, one panel per shift; bands are t intervals over seeds."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = pd.DataFrame(rows)
    shifts = [shift for shift in table["shift"].unique() if shift != "none"]
    arms = list(table["arm"].unique())
    columns = min(5, len(shifts))
    row_count = -(-len(shifts) // columns)
    size = (2.6 * columns, 2.2 * row_count + 0.35 * -(-len(arms) // 5))
    figure, axes = plt.subplots(
        row_count, columns, figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    colours = dict(zip(_heads(arms), plt.get_cmap("tab10").colors * 2, strict=False))
    for axis, shift in zip(axes.flat, shifts, strict=False):
        panel_rows = table[table["shift"].isin(["none", shift])]
        for arm in arms:
            curve = (
                panel_rows[panel_rows["arm"] == arm].groupby("severity")["score"].apply(_interval)
            )
            mean, low, high = np.array(curve.tolist()).T
            head, colour = _head_of(arm), colours[_head_of(arm)]
            style, width = STYLES[arm.removeprefix(head)], 1.6 if arm == head else 0.9
            axis.plot(curve.index, mean, style, color=colour, label=arm, linewidth=width)
            if arm == head:
                axis.fill_between(curve.index, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(shift, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes.flat)[len(shifts) :]:
        axis.axis("off")
    figure.supxlabel("severity", fontsize=10)
    figure.supylabel(score, fontsize=10)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncol=min(len(arms), 5))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _markdown(table: Table) -> str:
    """Formats a table with its note as Markdown."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in table.rows]
    lines = [table.headings, ["---"] * len(table.headings), *rows]
    return "\n".join(map(" | ".join, lines)) + f"\n\n{table.note}"


STYLES = {"": "-", "_sham": ":", "_untrained": "-.", "_constant": "--"}
"""Suffix of an arm's name -> line style; controls are thinner and have no band."""


def _head_of(arm: str) -> str:
    """Name of the head that an arm is a control of; the arm itself if it is not a control."""
    return next(
        (arm.removesuffix(suffix) for suffix in STYLES if suffix and arm.endswith(suffix)), arm
    )


def _heads(arms: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(map(_head_of, arms)))


def _interval(scores: np.ndarray) -> tuple[float, float, float]:
    if len(scores) < stats.FEWEST:
        mean = float(np.mean(scores))
        return mean, mean, mean
    return tuple(stats.mean(np.asarray(scores)))
