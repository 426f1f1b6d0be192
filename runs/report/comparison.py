"""What a comparison found: tables, a figure of severity curves, and TensorBoard's aggregates."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runs.analysis import stats
from runs.analysis.scores import check_complete, read_scores
from runs.engine import devices
from runs.engine.run_config import RunConfig
from runs.errors import UserError
from runs.prereg import audit, plan_file, seal
from runs.prereg.plan_file import Plan
from runs.probes import readout_table
from runs.report import episode_trace, html
from runs.report.tables import Table, all_tables, finite_rows, score_name, summarise_arms
from runs.report.tb_export import export_comparison, safe_name
from runs.report.verdict import verdict_sentence

WIDTH = 118  # of the terminal


def report_comparison(
    out: Path, rows: list[dict], run_config: RunConfig, plan: Plan, command: str, record: bool
) -> None:
    """Prints and writes everything that is to be seen of a finished comparison.

    Args:
        out: folder of the study.
        rows: public score rows of all arms.
        run_config: sizes.
        plan: what was run, as a declaration.
        command: that made it.
        record: also write to runs/results/.

    Raises:
        UserError: if every seed of every arm was stopped.
    """
    env, arms, without = plan.env, plan.arms, plan.without
    check_complete(rows, out / seal.SCORES["dev"])
    rows, lines = finite_rows(rows), summarise_arms(rows, arms)
    if not rows:
        raise UserError(f"every seed was stopped; the states before are in {out / 'stopped'}")
    settings = {
        line.arm: {
            "arm": line.arm,
            "seeds": run_config.seeds,
            "steps": run_config.chunks * run_config.chunk_steps,
        }
        for line in lines
    }
    export_comparison(out, env, rows, settings)
    sealed = out / seal.SCORES["sealed"]
    shown = all_tables(rows, arms, env, read_scores(sealed) if sealed.exists() else [])
    known = readout_table.readout_table(readout_table.read_readouts(out))
    shown += [known] if known is not None else []
    text = tables_as_markdown(shown, env, score_name(rows), run_config, command, without)
    folders = [out] + ([Path("runs/results")] if record else [])
    for folder in folders:
        name = f"compare-{safe_name(env)}" if folder != out else "table"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        severity_figure(rows, env, score_name(rows), (folder / name).with_suffix(".png"))
    print_tables(shown)
    verified, looked = audit.watermark(out), audit.looks_sentence(out)
    _write_html(out, rows, shown, run_config, plan, command, verified, looked)
    stopped = sum(run_config.seeds - line.seeds for line in lines)
    print(f"\n{verdict_sentence(rows, _declared_plan(out), looked)}")
    if verified is not None:
        print(f"\n{verified}")
    if without:
        print(f"\nleft out        {', '.join(without)}, on request")
    print(f"\nstopped seeds   {stopped} of {run_config.seeds * len(lines)}")
    print(f"report          {out / html.NAME}")
    print(f"table, figure   {out / 'table.md'}, {out / 'table.png'}")
    print(f"scores          {out / 'scores.csv'}")
    print(f"checkpoints     {out / 'checkpoints'}")
    print(f"verify          python -m runs.verify {shlex.quote(str(out))}")
    print(f"TensorBoard     python -m runs.board {shlex.quote(str(out))}")


def _write_html(out, rows, shown, run_config, plan, command, verified, looked) -> None:
    """Writes the page of the study."""
    standing = _declared_plan(out)
    kept = [
        episode_trace.load_trace(out / "timelines" / f"{name}.npz") for name in ("home", "away")
    ]
    html.write_page(
        out,
        html.PageContent(
            env=plan.env,
            rows=rows,
            arms=plan.arms,
            tables=shown,
            plan=standing,
            run_config=run_config,
            command=command,
            without=plan.without,
            verified=verified,
            looked=looked,
            changed=plan_file.plan_changes(standing, plan) if standing else (),
            readouts=readout_table.read_readouts(out),
            timelines=[
                html.EpisodeFigure(title, *episode) for title, episode in filter(None, kept)
            ],
            machine=devices.describe_machine(),
        ),
    )


def _declared_plan(out: Path) -> Plan | None:
    """What was declared before training; None where that cannot be read."""
    try:
        return plan_file.read_plan(out / plan_file.PLAN_FILE)
    except UserError:
        return None


def print_tables(tables: Sequence[Table]) -> None:
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
            sheet.add_column(
                heading, justify="left" if heading == table.headings[0] else "right", width=width
            )
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


def tables_as_markdown(
    tables: Sequence[Table],
    env: str,
    score: str,
    run_config: RunConfig,
    command: str,
    without: Sequence[str] = (),
) -> str:
    """The tables as Markdown, with the command that made them and the machine."""
    first, *others = map(_markdown, tables)
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    sizes = (
        f"{len(tables[0].rows)} arms, {run_config.seeds} seeds an arm, "
        f"{run_config.chunks * run_config.chunk_steps:,} steps a seed, {run_config.episodes} episodes a point. "
        "Per-seed means first; t and Welch intervals at 95 %, not corrected for the number of arms."
    )
    if without:
        sizes += f" LEFT OUT ON REQUEST: {', '.join(without)}."
    below = [f"## {table.title}\n\n{text}" for table, text in zip(tables[1:], others, strict=True)]
    parts = [f"# {env}: {score} by arm", first, sizes, *below, f"`{command}`", machine]
    return "\n\n".join(parts) + "\n"


def severity_figure(rows: list[dict], env: str, score: str, path: Path) -> None:
    """Severity curves, one panel a shift; bands are t intervals over seeds."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = pd.DataFrame(rows)
    shifts = [shift for shift in table["shift"].unique() if shift != "none"]
    arms = list(table["arm"].unique())
    across = min(5, len(shifts))
    down = -(-len(shifts) // across)
    size = (2.6 * across, 2.2 * down + 0.35 * -(-len(arms) // 5))
    figure, axes = plt.subplots(
        down, across, figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    colours = dict(zip(_families(arms), plt.get_cmap("tab10").colors * 2, strict=False))
    for axis, shift in zip(axes.flat, shifts, strict=False):
        here = table[table["shift"].isin(["none", shift])]
        for arm in arms:
            curve = here[here["arm"] == arm].groupby("severity")["score"].apply(_interval)
            middle, low, high = np.array(curve.tolist()).T
            family, colour = _family(arm), colours[_family(arm)]
            style, width = STYLES[arm.removeprefix(family)], 1.6 if arm == family else 0.9
            axis.plot(curve.index, middle, style, color=colour, label=arm, linewidth=width)
            if arm == family:
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
    """A table and its note."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in table.rows]
    lines = [table.headings, ["---"] * len(table.headings), *rows]
    return "\n".join(map(" | ".join, lines)) + f"\n\n{table.note}"


STYLES = {"": "-", "_sham": ":", "_scrambled": "-.", "_constant": "--"}
"""How an arm is drawn: a head, and its controls in its colour, thinner and without a band."""


def _family(arm: str) -> str:
    """The head that an arm is a control of; the arm itself if it is of none."""
    return next((arm.removesuffix(end) for end in STYLES if end and arm.endswith(end)), arm)


def _families(arms: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(map(_family, arms)))


def _interval(scores: np.ndarray) -> tuple[float, float, float]:
    if len(scores) < stats.FEWEST:
        middle = float(np.mean(scores))
        return middle, middle, middle
    return tuple(stats.mean(np.asarray(scores)))
