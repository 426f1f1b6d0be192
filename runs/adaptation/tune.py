"""Tune step sizes and choose the rival control, on dev shifts and with separate seeds."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from runs.adaptation.reward_arms import CONTROLS
from runs.adaptation.reward_free_design import (
    HOME_CHUNKS,
    STEP_SIZES,
    RewardFreeDesign,
    choices_path,
    make_design,
)
from runs.adaptation.reward_free_report import markdown_table, seed_scores
from runs.adaptation.reward_free_study import RewardFreeStudy
from runs.analysis import stats

SEED_OFFSET = 1_000  # seeds of tuning less those of the study


def tune_step_sizes(settings: Any, out: Path, progress: Any, stopped: Any) -> tuple[str, str]:
    """Run every arm on the dev shifts at each of STEP_SIZES -> (a table, the choices as JSON).

    Each arm gets the step size with the higher score away, controls and ceiling included: one step
    size that suits a single arm would decide the contrast. The rival is the control that then
    scores highest.

    Raises:
        Interrupted: if a stop is requested; finished parts are kept.
    """
    design = make_design(replace(settings, base=settings.base + SEED_OFFSET))
    names = [arm.name for arm in design.arms]
    with closing(design.home):
        results = _scores_by_step_size(design, names, out, progress, stopped)
    away = {
        r: {name: seed_scores(results[r], design.dev, name) for name in names} for r in STEP_SIZES
    }
    best = {name: max(STEP_SIZES, key=lambda r, name=name: away[r][name].mean()) for name in names}
    controls = [name for name in names if name in CONTROLS]
    rival = max(controls, key=lambda name: away[best[name]][name].mean())
    rows = [
        (
            name,
            *(f"{stats.mean(away[r][name]):.3f}" for r in STEP_SIZES),
            *(
                f"{seed_scores(results[r], design.dev, name, 'home').mean():.3f}"
                for r in STEP_SIZES
            ),
            f"{best[name]:g}",
        )
        for name in names
    ]
    columns = (
        "arm",
        *(f"away, {r:g}" for r in STEP_SIZES),
        *(f"home, {r:g}" for r in STEP_SIZES),
        "chosen",
    )
    text = (
        f"# {design.suite.name}: chosen on {', '.join(design.dev)}\n\n"
        f"{markdown_table(columns, rows)}\n\n"
        f"{design.home.sizes.seeds} seeds, none of them of the study. Each arm gets the step size "
        f"at which it scored higher; the rival of hope - fear is {rival}, the control that then "
        "scored highest.\n"
    )
    return text, json.dumps({"rates": best, "rival": rival}, indent=1) + "\n"


def _scores_by_step_size(
    design: RewardFreeDesign, names: list[str], out: Path, progress: Any, stopped: Any
) -> dict[float, dict]:
    """Parts of every arm on the dev shifts, by step size, from one training at home."""
    run, done, results = None, 0, {}
    for rate in STEP_SIZES:
        away = design.home.with_agent(replace(next(iter(design.away.values())).agent, lr=rate))
        one_rate = design._replace(away={rate: away}, rates=dict.fromkeys(names, rate))
        study = RewardFreeStudy(one_rate, out / f"lr-{rate:g}", progress, stopped)
        parts = len(STEP_SIZES) * len(names) * len(design.dev)
        progress.total = HOME_CHUNKS * study.chunk_units + parts * study.arm_units
        if run is None:
            updates = design.updates[0] + parts * design.updates[1]
            if (
                cost := design.home.time_estimate(study.home_pool(), updates, 2 * parts)
            ) is not None:
                progress.say(cost)
            run = study.train_at_home()
        study.done = done or study.done
        worlds = study.make_worlds(
            jax.random.key(design.home.sizes.base + 1), design.dev, all_severities=True
        )
        results[rate] = study.train_arms(run, worlds, design.dev, 1.0, design.arms)
        done = study.done
    return results


def write_choices(folder: Path, env: str, text: str, choices: str) -> None:
    """Write the choices as JSON and their table as Markdown to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = choices_path(env, folder)
    path.write_text(choices)
    path.with_suffix(".md").write_text(text)
