"""What is chosen before the claim, on dev shifts and other seeds: step sizes, and the rival."""

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

APART = 1_000  # what the seeds are apart from those of the claim


def tune_step_sizes(settings: Any, out: Path, progress: Any, stopped: Any) -> tuple[str, str]:
    """Every arm on the dev shifts at each of STEP_SIZES -> (a table, what was chosen as JSON).

    Each arm gets the step size at which it scores higher away, controls and ceiling as well as
    blend_state: a step size that suits one arm would decide the contrast. The rival is the control
    that then scores highest.

    Raises:
        Interrupted: if the user asked to stop; what was done is kept.
    """
    what = make_design(replace(settings, base=settings.base + APART))
    names = [arm.name for arm in what.arms]
    with closing(what.home):
        found = _scores_by_step_size(what, names, out, progress, stopped)
    away = {r: {name: seed_scores(found[r], what.dev, name) for name in names} for r in STEP_SIZES}
    best = {name: max(STEP_SIZES, key=lambda r, n=name: away[r][n].mean()) for name in names}
    controls = [name for name in names if name in CONTROLS]
    rival = max(controls, key=lambda name: away[best[name]][name].mean())
    rows = [
        (
            name,
            *(f"{stats.mean(away[r][name]):.3f}" for r in STEP_SIZES),
            *(f"{seed_scores(found[r], what.dev, name, 'home').mean():.3f}" for r in STEP_SIZES),
            f"{best[name]:g}",
        )
        for name in names
    ]
    heads = (
        "arm",
        *(f"away, {r:g}" for r in STEP_SIZES),
        *(f"home, {r:g}" for r in STEP_SIZES),
        "chosen",
    )
    text = (
        f"# {what.suite.name}: chosen on {', '.join(what.dev)}\n\n{markdown_table(heads, rows)}\n\n"
        f"{what.home.sizes.seeds} seeds, none of them of the claim. Each arm gets the step size at "
        f"which it scored higher; the rival of hope - fear is {rival}, the control that then "
        "scored highest.\n"
    )
    return text, json.dumps({"rates": best, "rival": rival}, indent=1) + "\n"


def _scores_by_step_size(
    what: RewardFreeDesign, names: list[str], out: Path, progress: Any, stopped: Any
) -> dict[float, dict]:
    """Every arm on the dev shifts, by its step size, all of them from one training at home."""
    run, done, found = None, 0, {}
    for rate in STEP_SIZES:
        there = what.home.other(replace(next(iter(what.away.values())).agent, lr=rate))
        here = what._replace(away={rate: there}, rates=dict.fromkeys(names, rate))
        ran = RewardFreeStudy(here, out / f"lr-{rate:g}", progress, stopped)
        parts = len(STEP_SIZES) * len(names) * len(what.dev)
        progress.total = HOME_CHUNKS * ran.chunk + parts * ran.arm
        if run is None:
            updates = what.updates[0] + parts * what.updates[1]
            if (cost := what.home.cost(ran.nursery(), updates, 2 * parts)) is not None:
                progress.say(cost)
            run = ran.taught()
        ran.done = done or ran.done
        ground = ran.ground(jax.random.key(what.home.sizes.base + 1), what.dev, milder=True)
        found[rate] = ran.learn(run, ground, what.dev, 1.0, what.arms)
        done = ran.done
    return found


def write_choices(folder: Path, env: str, text: str, chosen: str) -> None:
    """Writes table and choices."""
    folder.mkdir(parents=True, exist_ok=True)
    path = choices_path(env, folder)
    path.write_text(chosen)
    path.with_suffix(".md").write_text(text)
