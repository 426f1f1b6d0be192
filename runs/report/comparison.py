"""Report of a finished comparison: puts tables, figures and TensorBoard curves together."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from runs.analysis.robustness import scores_by_arm
from runs.analysis.scores import check_complete, finite_rows, score_name
from runs.errors import UserError
from runs.names import RESULTS, safe_name
from runs.probes.readout_table import read_readouts
from runs.report import figures, html, tables
from runs.report.arm_style import arm_styles
from runs.report.episode_trace import load_trace
from runs.report.page import Page, markdown_table, page_text
from runs.report.tables import Table
from runs.report.tb_export import export_comparison
from runs.report.verdict import Study, verdict_sentence

WIDTH = 118  # columns of the terminal


def report_comparison(
    out: Path, rows: Sequence[dict], study: Study, record: bool = False, quiet: bool = False
) -> Path:
    """Writes all reports of a finished comparison, and prints them -> path of the HTML page.

    Readouts of signals and recorded episodes are read from the folder of the study.

    Args:
        out: folder of the study.
        rows: public score rows of all arms.
        study: what is stated beside the scores.
        record: also write table and figure to runs/results/.
        quiet: print nothing.

    Raises:
        UserError: if a score is missing or occurs twice, or every seed of every arm was stopped.
    """
    rows = finite_rows(check_complete(rows, out / "scores.csv"))
    if not rows:
        raise UserError(f"every seed was stopped; the states before are in {out / 'stopped'}")
    sizes = {"seeds": study.seeds, "steps": study.steps}
    export_comparison(out, study.env, rows, sizes, study.knobs)
    readouts = read_readouts(out)
    printed, score = tables.all_tables(rows, study, readouts), score_name(rows)
    curves = figures.severity_curves(scores_by_arm(rows, study.arms))
    draw = partial(figures.severity_figure, curves, arm_styles(study.arms), score)
    text = tables_as_markdown(printed, study, score)
    page = Page("table", text, {"": draw} if curves else {})
    page.write(out)
    if record:
        page._replace(name=f"compare-{safe_name(study.env)}").write(RESULTS)
    traces = [load_trace(out / "timelines" / f"{name}.npz") for name in ("home", "away")]
    path = html.write_page(out, study, rows, printed, readouts, list(filter(None, traces)))
    if not quiet:
        print_tables(printed)
        _print_result(out, rows, study)
    return path


def _print_result(out: Path, rows: Sequence[dict], study: Study) -> None:
    """Prints the verdict, what restricts it, and where everything is."""
    print(f"\n{verdict_sentence(rows, study)}")
    if study.watermark is not None:
        print(f"\n{study.watermark}")
    if study.without:
        print(f"\nleft out        {', '.join(study.without)}, on request")
    count, scored = study.seeds * len(study.arms), {(row["arm"], row["seed"]) for row in rows}
    print(f"\nstopped seeds   {count - len(scored)} of {count}")
    print(f"report          {out / html.NAME}")
    print(f"table, figure   {out / 'table.md'}, {out / 'table.png'}")
    print(f"scores          {out / 'scores.csv'}")
    print(f"checkpoints     {out / 'checkpoints'}")
    print(f"verify          python -m runs.verify {shlex.quote(str(out))}")
    print(f"TensorBoard     python -m runs.board {shlex.quote(str(out))}")


def print_tables(printed: Sequence[Table]) -> None:
    """Prints tables to the terminal, the first one in a frame; long headings are folded."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    # Wide enough: columns keep tables within WIDTH. Names are shown as they are, without markup.
    console = Console(width=2 * WIDTH, markup=False, emoji=False)
    for i, table in enumerate(printed):
        columns = list(table.cells.items())
        full = sum(max(map(len, (heading, *texts))) + 3 for heading, texts in columns)
        frame = {"box": box.SIMPLE_HEAD, "padding": (0, 0, 0, 1)} if i else {"box": box.HEAVY_HEAD}
        rich_table = RichTable(title=table.title, caption=table.note, **frame)
        rich_table.title_justify = rich_table.caption_justify = "left"
        for j, (heading, texts) in enumerate(columns):
            words = [heading] if full < WIDTH else heading.split()
            width = max(map(len, (*words, *texts)))
            rich_table.add_column(heading, justify="right" if j else "left", width=width)
        for row in table.cells.itertuples(index=False, name=None):
            rich_table.add_row(*row)
        console.print(rich_table, *[""] * (i < len(printed) - 1), sep="\n")


def tables_as_markdown(printed: Sequence[Table], study: Study, score: str) -> str:
    """Formats tables as Markdown, with the command that made them and the machine."""
    sizes = (
        f"{len(study.arms)} arms, {study.seeds} seeds an arm, {study.steps:,} steps a seed, "
        f"{study.episodes} episodes a point. Scores are averaged per seed first; t and "
        "Welch intervals at 95 %, not corrected for the number of arms."
    )
    if study.reading:
        sizes += f" Of observations, {study.reading}."
    if study.without:
        sizes += f" LEFT OUT ON REQUEST: {', '.join(study.without)}."
    sections = []
    for table in printed:
        text = markdown_table(list(table.cells), table.cells.to_numpy())
        sections += [f"## {table.title}", text, table.note]
    sections.insert(3, sizes)  # the title of the page says that of the first table
    return page_text(f"{study.env}: {score} by arm", sections[1:], study.command)
