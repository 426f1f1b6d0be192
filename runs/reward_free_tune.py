"""Tune step sizes, and pick the control that is then best, on dev shifts with seeds of its own."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd

from runs.analysis import stats
from runs.cli.study import Job
from runs.lock import replace_file
from runs.report.page import Page, markdown_table, page_text
from runs.reward_free_design import CONTROLS, choices_path, make_design
from runs.reward_free_page import seed_scores
from runs.reward_free_run import RewardFreeRun
from runs.study_run import finite_seeds

STEP_SIZES = (1e-3, 3e-4)
SEED_OFFSET = 1_000  # seeds of the choice less those of the study


def tune(job: Job) -> Page:
    """Train every arm on the dev shifts at each of STEP_SIZES, and choose -> page.

    Each arm gets the step size with the higher score away, controls and ceiling included: one step
    size that suits a single arm would decide the contrast. The rival is the control that then
    scores highest. The choices are written to the folder of the study and, with `--record`, to
    RESULTS, where `reward_free_design.read_choices` reads them.

    Raises:
        Interrupted: if a stop is requested; finished parts are kept.
        UserError: if fewer than 3 seeds are finite in every arm.
    """
    design, results = make_design(job.settings), train_at_step_sizes(job)
    names = [arm.name for arm in design.arms]
    away, home = (
        {rate: seed_scores(table, design.dev, f"score_{place}") for rate, table in results.items()}
        for place in ("away", "home")
    )
    rates = {arm: max(STEP_SIZES, key=lambda rate: away[rate][arm].mean()) for arm in names}
    controls = [arm for arm in names if arm in CONTROLS]
    rival = max(controls, key=lambda arm: away[rates[arm]][arm].mean())
    columns: dict[str, list] = {"arm": names}
    for rate in STEP_SIZES:
        columns[f"away, {rate:g}"] = [f"{stats.mean(away[rate][arm]):.3f}" for arm in names]
    for rate in STEP_SIZES:
        columns[f"home, {rate:g}"] = [f"{home[rate][arm].mean():.3f}" for arm in names]
    columns["chosen"] = [f"{rates[arm]:g}" for arm in names]
    note = (
        f"{design.home.seeds} seeds, none of them of the study. Each arm gets the step size at "
        f"which it scored higher; the rival of hope - fear is {rival}, the control that then "
        "scored highest."
    )
    for folder in job.folders:
        path = choices_path(design.suite.name, folder)
        replace_file(path, json.dumps({"rates": rates, "rival": rival}, indent=1) + "\n")
    title = f"{design.suite.name}: chosen on {', '.join(design.dev)}"
    table = markdown_table(list(columns), list(zip(*columns.values(), strict=True)))
    return Page(path.stem, page_text(title, [table, note], job.command))


def train_at_step_sizes(job: Job) -> dict[float, pd.DataFrame]:
    """Results of every arm on the dev shifts by step size, from one training at home."""
    settings = replace(job.settings, base=job.settings.base + SEED_OFFSET)
    design, results = make_design(settings), {}
    with RewardFreeRun(design, job) as run:
        cells = len(STEP_SIZES) * len(design.arms) * len(design.dev)
        job.progress.total = run.home_updates + cells * run.cell_updates
        learner, alive = run.train_parents()
        dev = run.make_split(design.home.base, design.dev, design.severities)
        for rate in STEP_SIZES:
            run.rates, run.out = dict.fromkeys(design.rates, rate), job.out / f"lr-{rate:g}"
            results[rate] = run.train_arms(learner, dev, 1.0, design.arms)
    alive = np.all([alive[results[rate]["seed"]], *(t["alive"] for t in results.values())], axis=0)
    return {rate: finite_seeds(table.assign(alive=alive)) for rate, table in results.items()}
