"""Shift difficulty: how do random, nominal and specialist policies score under each shift?

Trains a nominal agent in the unshifted world, fine-tunes a specialist from it in each shift with
the task's reward, and scores both, and a random policy, at every severity. Flags shifts that do not
lower the score, that no policy solves, that a random policy solves as well, or that are not harder
at higher severity. Other studies scale their scores between random and specialist
(`runs.analysis.calibration`). The same command resumes an interrupted run.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.analysis import calibration, stats
from runs.analysis.calibration import Level, calibration_csv, calibration_path
from runs.analysis.stats import Estimate
from runs.cli.settings import StudySettings, run_main
from runs.cli.settings import check_jitted as check
from runs.cli.study import Job, run_study
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import draw_line, new_panels, save_with_legend

COMMAND = "python -m runs.calibrate"
CHUNKS = 20  # of each training, about
WORLDS = 64  # training worlds at each severity, where a shift is random
# Of three distributions of a specialist's episodes over severities, half at severity 1 and half
# uniform was best: mean success over six shifts of Drive x 4 severities was .855 (3 seeds), against
# .834 for uniform, and .824 for severity 1 alone, which is better there (.71 against .69) but
# forgets lower severities.
FURTHER = 0.45  # additional steps of a specialist, as a share of the nominal agent's steps
POLICIES = ("random", "nominal", "specialist")
COLOURS = dict(zip(POLICIES, ("#8b929c", "#1f5fa8", "#2f7d4f"), strict=True))
NOTE = (
    "Half of a specialist's episodes are at the end of the axis and half anywhere on it, with the "
    "task's reward and a new optimiser. "
    f"Verdicts: a shift does nothing if the nominal agent loses less than {calibration.COST} of "
    "its success at every severity; cannot be solved if at the end neither of the two reaches "
    f"{calibration.SOLVED}; chance will do where less than {calibration.ROOM} lies between a "
    "random policy and the better of the two; is not harder with severity if the nominal agent is "
    "better at a higher one than at a lower one, intervals apart."
)

NORMALISED = "Scores elsewhere are put between random and the better of the other two."


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the calibration.

    Attributes:
        env: a suite of this project, or another jitted environment, such as gymnax:CartPole-v1.
        seeds: training runs, at least 3; each trains a specialist for every shift.
        steps: environment steps per seed of the nominal agent; 0 for those of runs.compare.
        further: additional environment steps of a specialist; 0 for 45 % of the nominal steps.
        shifts: names of the shifts to calibrate; all by default.
        episodes: scored at each point; 0 for those of runs.compare.
    """

    narrowed_by = ("shifts",)
    env: str = "Drive"
    seeds: int = 8
    steps: int = 0
    further: int = 0
    shifts: tuple[str, ...] = ()
    episodes: int = 0


def study(job: Job) -> Page:
    """Train and score all policies, and report."""
    suite, run_config, chunks = design(job.settings)
    results = calibrate(job, suite, run_config, chunks)
    levels = level_rows(suite, results)
    sections = [*level_sections(levels, results, run_config, chunks), NORMALISED]
    text = page_text(f"{suite.name}: how hard its shifts are", sections, job.command)
    draw = partial(draw_levels, suite.name, levels)
    tables = {"": calibration_csv(levels)}  # the file of `calibration_path`
    return Page(calibration_path(suite.name).stem, text, {"": draw}, tables=tables)


# --- training ---------------------------------------------------------------------------------


def design(settings: Settings, suite: Any = None) -> tuple[Any, Any, int]:
    """Suite, sizes of the nominal training (those of `runs.compare`), chunks of a specialist's.

    Args:
        settings: of the calibration.
        suite: instead of that of the settings.

    Raises:
        UserError: for an unknown shift, or an environment that cannot be made.
    """
    from runs.engine.config import make_run_config
    from runs.engine.jax_backend import DRAWS
    from runs.engine.presets import find_suite, preset

    suite = suite or find_suite(settings.env, settings.shifts)
    sizes = preset(suite)
    if settings.smoke:
        batch = sizes.num_envs * sizes.num_steps
        settings = replace(settings, seeds=3, steps=2 * batch, further=batch, episodes=4)
        suite = replace(suite, shifts=suite.shifts[:2], severities=suite.severities[-2:])
    steps = settings.steps or sizes.steps
    run_config = make_run_config(
        sizes.agent,
        seeds=settings.seeds,
        steps=steps,
        num_envs=sizes.num_envs,
        num_steps=sizes.num_steps,
        episodes=settings.episodes or sizes.episodes,
        chunks=CHUNKS,
        draws=DRAWS,
        optimise=not settings.smoke,
    )
    further = settings.further or FURTHER * steps
    return suite, run_config, max(round(further / run_config.chunk_steps), 1)


def calibrate(job: Job, suite: Any, run_config: Any, chunks: int) -> dict[str, dict[str, Any]]:
    """Train and score all policies.

    A specialist has a new optimiser, whose step size starts at the nominal agent's and is annealed
    to 0 again; half of its training worlds have the last severity. It and the nominal agent are
    scored on the same episodes. The random policy is the nominal agent with every action replaced
    by a random one, on other episodes per seed. Checkpoints are kept by a digest of the worlds and
    of the agents that a training starts from, so that only what has changed is trained again.

    Args:
        job: of the study.
        suite: whose shifts are calibrated.
        run_config: sizes of the nominal training.
        chunks: of a specialist's training.

    Returns:
        Shift -> success [S, P] of each of POLICIES, unshifted and at P - 1 severities;
        `non_finite`: number of seeds whose specialist diverged to non-finite numbers.

    Raises:
        Interrupted: if the user requested a stop; what is trained is saved.
    """
    from runs.engine.evaluate import draw_points, select_points, with_disturbances
    from runs.engine.phases import Phase, flat_worlds, world_pool
    from runs.engine.seeds import Stream, stream_key, stream_keys
    from runs.study_run import NO_HEADS, StudyRun

    axis, base, agent = len(suite.severities), run_config.base, run_config.agent
    updates = run_config.updates
    job.progress.total = updates * (run_config.chunks + len(suite.shifts) * chunks)
    worlds = suite.worlds(stream_key(base, Stream.TRAINING_WORLDS), WORLDS)
    special = replace(agent, anneal=chunks * updates)
    own_episodes, results = stream_keys(run_config, Stream.RANDOM_POLICY), {}
    run, home = StudyRun(job, suite.env, run_config), world_pool(flat_worlds(worlds, [0]))
    phase = Phase(home, run_config.chunks, updates, agent, NO_HEADS)
    nominal, failed = train_policy(run, "nominal", phase)
    if failed:
        job.progress.say(f"{failed} nominal agents have non-finite numbers: distrust this run")
    public = draw_points(suite, run.backend.draws, base)
    for i, shift in enumerate(suite.shifts):
        shifted = list(range(1 + i * axis, 1 + (i + 1) * axis))
        pool = world_pool(flat_worlds(worlds, [*shifted, *shifted[-1:] * (axis - 2)]))
        phase = Phase(pool, chunks, updates, special, NO_HEADS, renew=("optimiser",))
        specialist, failed = train_policy(run, shift.name, phase, nominal)
        points = select_points(public, [0, *shifted])
        at_random = points._replace(
            worlds=with_disturbances(points.worlds, flip=1.0), key=own_episodes
        )
        results[shift.name] = {
            "random": success_rates(run, nominal, at_random),
            "nominal": success_rates(run, nominal, points),
            "specialist": success_rates(run, specialist, points),
            "non_finite": failed,
        }
    return results


def train_policy(run: Any, name: str, phase: Any, learner: Any = None) -> tuple[Any, int]:
    """Train a phase (`StudyRun.train_from`) -> (learner, number of seeds that diverged)."""
    state, alive = run.train_from(name, phase, learner)
    return state.learner, int((~alive[: run.home.seeds]).sum())


def success_rates(run: Any, learner: Any, points: Any) -> np.ndarray:
    """Success [S, P] of the learners of all seeds at each point."""
    return np.stack([score["success"] for score in run.scores(learner, points)], 1)


# --- results ----------------------------------------------------------------------------------


def level_rows(suite: Any, results: dict[str, dict]) -> list[Level]:
    """Levels (mean scores with intervals): unshifted, then for each shift x severity incl. 0."""

    def level(name: str, family: str, severity: float, column: int, policies=POLICIES) -> Level:
        scores = [np.array(results[name][policy])[:, column] for policy in policies]
        numbers = [number for score in scores for number in stats.mean(score)]
        return Level(suite.name, name, family, severity, *numbers, len(scores[0]))

    first_shift = suite.shifts[0].name
    unshifted = level(first_shift, "none", 0.0, 0, ("random", "nominal", "nominal"))
    return [unshifted._replace(shift="none")] + [
        level(shift.name, shift.family, severity, column)
        for shift in suite.shifts
        for column, severity in enumerate((0.0, *suite.severities))
    ]


def policy_estimate(level: Level, policy: str) -> Estimate:
    """Mean success of one of POLICIES at a level, with its interval."""
    return Estimate(*(getattr(level, policy + end) for end in ("", "_low", "_high")))


def level_sections(
    levels: list[Level], results: dict[str, dict], run_config: Any, chunks: int
) -> list[str]:
    """Sections of a page on the results of `calibrate`: at home, table of shifts, notes."""
    return [
        summary(levels[0]),
        shift_table(levels),
        f"Success over {run_config.episodes} episodes a point and seed; means over "
        f"{run_config.seeds} seeds, t intervals at 95 %. Nominal: {run_config.steps:,} steps at "
        f"home. Specialist: the nominal agent of the same seed after "
        f"{chunks * run_config.chunk_steps:,} more in the shift. {NOTE}",
        f"Specialists with non-finite numbers: {sum(r['non_finite'] for r in results.values())}.",
    ]


def summary(home: Level) -> str:
    """Sentence with the scores at home, and a warning if the nominal agent has not learned."""
    text = (
        f"At home the nominal agent succeeds in {policy_estimate(home, 'nominal'):.3f} of "
        f"episodes, a random policy in {home.random:.3f}."
    )
    if home.nominal < calibration.SOLVED:
        text += " It has not learned its own world: no verdict below means anything."
    return text


def shift_table(levels: list[Level]) -> str:
    """Table with one row per shift, and its flags as the verdict."""
    rows = []
    for name, (home, *away) in calibration.levels_by_shift(levels).items():
        row = [name, away[-1].family, " ".join(f"{level.nominal:.2f}" for level in away)]
        row += [" ".join(f"{level.specialist:.2f}" for level in away)]
        row += [f"{policy_estimate(away[-1], policy):.2f}" for policy in POLICIES]
        flags = calibration.calibration_flags([home, *away])
        rows.append([*row, f"{home.specialist:.2f}", ", ".join(flags) or "fine"])
    severities = ", ".join(f"{level.severity:g}" for level in away)
    headings = ["shift", "family", f"nominal at {severities}", f"specialist at {severities}"]
    headings += [f"{policy} at the end" for policy in POLICIES]
    return markdown_table([*headings, "specialist at home", "verdict"], rows)


def draw_levels(name: str, levels: list[Level], path: Path) -> None:
    """Draw success of the three policies against severity, with t intervals, a panel per shift."""
    axes = calibration.levels_by_shift(levels)
    figure, panels = new_panels(len(axes), 5, (2.5, 2.1))
    for panel, (shift, axis) in zip(panels, axes.items(), strict=True):
        severities = [level.severity for level in axis]
        for policy, colour in COLOURS.items():
            estimates = [policy_estimate(level, policy) for level in axis]
            draw_line(panel, severities, estimates, policy, colour, marker="o", ms=2.5, lw=1.4)
        verdict = ", ".join(calibration.calibration_flags(axis))
        panel.set_title(shift, fontsize=10)
        panel.text(0.03, 0.2, verdict, transform=panel.transAxes, fontsize=7, color="#c8322b")
        panel.set_ylim(-0.03, 1.03)
        panel.set_xticks([0, 0.5, 1])
    save_with_legend(figure, path, "severity", f"success in {name}", fontsize=10)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
