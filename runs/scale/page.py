"""Reports of a sweep: tidy CSV, page with the best setting, figure, HPARAMS, and ledger entries."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runs.analysis.stats import Estimate
from runs.engine.arms import named_arms
from runs.engine.knobs import knob_values
from runs.names import safe_name
from runs.prereg import ledger
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_line, new_panels, save_figure
from runs.report.tb_export import CORE, delete_files
from runs.report.tb_writer import RUN_FILES, EventWriter, column_kinds
from runs.scale.cell import STUDY, read_done
from runs.scale.grid import point_digest
from runs.scale.table import Best, SweepResult, read_results, settings_table

NAME = "sweep"  # of the files of a page
SHOWN = 20  # settings in the table of the page
SESSIONS = 500  # of the HPARAMS tab, at most: TensorBoard selects no run among more


def write_reports(contrast: Sequence[str], result: SweepResult, command: str) -> str:
    """Write all reports of an experiment's sweep into its folder -> text of the page.

    Args:
        contrast: the declared score, (arm, reference) or (arm,); empty for that of the experiment.
        result: of the sweep.
        command: that made the sweep.
    """
    contrast = result.space.contrast(contrast)
    table = settings_table(result.points).merge(result.estimates(contrast), on="point")
    enter_looks(result)
    export_sessions(result)
    names = [name for name in table if any(name in point for point in result.points)]
    sections = [best_text(result.best(contrast), contrast), best_table(table, names)]
    draw = partial(figure, table, names, " less ".join(contrast))
    return _write(result, sections, result.table, command, {"": draw})


def report_findings(result: SweepResult, command: str) -> str:
    """Write table and page of what a study states at every point -> text of the page."""
    findings = pd.concat(read_results(result.folders, None), ignore_index=True)
    findings["folder"] = [str(folder / STUDY) for folder in result.folders]
    table = settings_table(result.points).merge(findings, on="point").drop(columns="point")
    rows = [list(map(str, row)) for row in table.itertuples(index=False)]
    return _write(result, [markdown_table(list(table), rows)], table, command)


def _write(
    result: SweepResult,
    sections: Sequence[str],
    table: pd.DataFrame,
    command: str,
    figures: Any = (),
) -> str:
    """Write the page of a sweep with its table and figures -> its text, and where the files are."""
    text = page_text("Sweep", sections, command)
    Page(NAME, text, dict(figures), tables={"": table.to_csv(index=False)}).write(result.out)
    return f"{text}\npage, table   {result.out}/{NAME}.*"


def best_text(best: Best, contrast: Sequence[str]) -> str:
    """Sentences: the best setting, and what is left of its score less the optimism of looking."""
    setting = ", ".join(f"{name} = {value}" for name, value in best.point.items())
    left = best.estimate.value - best.optimism
    return (
        f"Best of {best.looks}: {setting}, with {' less '.join(contrast)} = {best.estimate} in the "
        f"mean over public shifts. The best of {best.looks} settings that do nothing gains "
        f"{best.optimism:.3f} by chance, if their errors are independent; less that, {left:+.3f}. "
        "It is an upper bound where settings share an arm, and only a guide where a search chose "
        "points by earlier scores, as Optuna does. The interval is that of a single look. A claim "
        "needs new seeds, on sealed shifts."
    )


def best_table(table: pd.DataFrame, names: Sequence[str]) -> str:
    """Markdown table of the SHOWN best settings."""
    best = table.sort_values("value", ascending=False, kind="stable").head(SHOWN)
    scores = map(Estimate, best["value"], best["low"], best["high"])
    columns = [*(best[name] for name in names), map(format, scores), best["seeds"]]
    rows = [list(map(str, row)) for row in zip(*columns, strict=True)]
    return markdown_table([*names, "score [95 %]", "seeds"], rows)


def figure(table: pd.DataFrame, names: Sequence[str], label: str, path: Path) -> None:
    """Draw a heat map of the score over two settings, or else a curve for each setting.

    A curve is over the best of all values of the other settings.
    """
    varied = [name for name in names if table[name].map(str).nunique() > 1]
    if len(varied) == 2 and not table.duplicated(varied).any():
        sheet, [panel] = new_panels(1, 1, (5.0, 4.0))
        grid = table.pivot(index=varied[0], columns=varied[1], values="value")
        panel.imshow(grid.to_numpy(), cmap="viridis", aspect="auto")
        panel.set_xticks(range(grid.shape[1]), map(str, grid.columns))
        panel.set_yticks(range(grid.shape[0]), map(str, grid.index))
        panel.set(xlabel=varied[1], ylabel=varied[0], title=label)
        for (i, j), value in np.ndenumerate(grid.to_numpy()):
            panel.text(j, i, f"{value:+.2f}", ha="center", va="center", color="white", fontsize=8)
    else:
        sheet, panels = new_panels(max(len(varied), 1), 3, (3.4, 2.8))
        for panel, name in zip(panels, varied or names[:1], strict=True):
            numeric = all(isinstance(x, int | float) and x is not True for x in table[name])
            best = table.loc[table.groupby(table[name].map(str))["value"].idxmax()]
            best = best.sort_values(name) if numeric else best
            x = best[name].to_numpy() if numeric else best[name].map(str).to_numpy()
            bounds = best[["value", "low", "high"]].to_numpy()
            draw_line(panel, x, bounds, label, "#1f5fa8", marker="o")
            panel.set(xlabel=name, ylabel=label)
            if numeric and x.min() > 0 and x.max() > 20 * x.min():
                panel.set_xscale("log")
    save_figure(sheet, path)


def export_sessions(result: SweepResult) -> None:
    """Write a session of TensorBoard's HPARAMS tab for each setting and arm.

    Its columns are the settings, and all knobs of the agent and the heads; its metrics the means
    over seeds of the score at home, over shifts and under the worst one. Of more than SESSIONS,
    those with the highest mean over shifts are shown.
    """
    folder = result.out / "tb" / NAME
    delete_files(folder, f"*/{RUN_FILES}.{NAME}")
    means = result.table.groupby(["point", "arm"])[["home", "shifts", "worst"]].mean()
    means = means.sort_values("shifts", ascending=False, kind="stable").head(SESSIONS)
    columns = {}
    for point in result.points:
        experiment, name = result.space.at(point), point_digest(point)
        arms = named_arms(experiment.arms)
        for arm in (arm for arm in arms if (name, arm.name) in means.index):
            knobs = knob_values(experiment.run_config.agent, arm.blend)
            fixed = {"env": experiment.suite.name, "arm": arm.name}
            columns[name, arm.name] = {**fixed, **knobs, **point}
    kinds = column_kinds(columns.values())
    for (point, arm), values in means.iterrows():
        with EventWriter(folder / f"{point}-{safe_name(arm)}", f".{NAME}") as events:
            events.scalars(dict(zip(CORE, values, strict=True)), step=0)
            events.hparams(columns[point, arm], CORE, f"{point}|{arm}", kinds)


def enter_looks(result: SweepResult) -> None:
    """Enter a look in the sweep's ledger for each setting, unless it is there.

    Cells write no ledger; the driver enters what it has checked. Settings with equal results are
    one look.
    """
    path, plan = result.out / ledger.NAME, result.space.experiment.plan
    entered = {(entry.plan, entry.result) for entry in ledger.read_entries(path)}
    done = {folder: read_done(folder) for folder in result.folders}
    looks = []
    for point in result.points:
        digest = point_digest(point)
        keys = [(arm, variant) for (name, arm), variant in result.sources.items() if name == digest]
        folders = [folder for key in keys for folder in result.folders_of[key]]
        names = [plan.hash, *(variant for _, variant in keys), *(folder.name for folder in folders)]
        results = "".join(done[folder]["sha256"] for folder in folders)
        own, scores = (
            hashlib.sha256(text.encode()).hexdigest() for text in ("".join(names), results)
        )
        if (own, scores) not in entered:
            entered.add((own, scores))
            frozen = {folder.name: done[folder]["checkpoint"] for folder in folders}
            looks.append(ledger.Look("dev", plan.suite, own, frozen, plan.seeds, scores))
    ledger.append_entries(path, looks)
