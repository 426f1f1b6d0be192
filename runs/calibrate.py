"""Shift difficulty: how do random, nominal and specialist policies score under each shift?

Trains a nominal agent in the unshifted world, fine-tunes a specialist from it in each shift with
the task's reward, and scores both, and a random policy, at every severity. Flags shifts that do not
lower the score, that no policy solves, that a random policy solves as well, or that are not harder
at higher severity. Other studies scale their scores between random and specialist
(`runs.analysis.calibration`). The same command resumes an interrupted run at the next shift.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from runs.analysis import calibration
from runs.analysis.calibration import RESULTS, Level
from runs.cli.settings import (
    check_not_negative,
    check_recordable,
    check_seeds,
    fingerprint,
    parse_settings,
    run_main,
    shell_command,
)
from runs.engine.cache import load_part, save_part
from runs.errors import UserError
from runs.lock import hold_lock
from runs.names import checked_choice, safe_name

COMMAND = "python -m runs.calibrate"
WORLDS = 64  # training worlds of a specialist at each severity, where a shift is random
# Of three distributions of a specialist's episodes over severities, half at severity 1 and half
# uniform was best: mean success over six shifts of Drive x 4 severities was .855 (3 seeds), against
# .834 for uniform, and .824 for severity 1 alone, which is better there (.71 against .69) but
# forgets lower severities.
FURTHER = 0.45  # additional steps of a specialist, as a share of the nominal agent's steps


@dataclass(frozen=True)
class Settings:
    """Settings of the calibration.

    Attributes:
        env: a suite of this project, or another jitted environment, such as gymnax:CartPole-v1.
        seeds: training runs, at least 3; each trains a specialist for every shift.
        steps: environment steps per seed of the nominal agent; 0 for those of runs.compare.
        further: additional environment steps of a specialist; 0 for 45 % of the nominal steps.
        shifts: names of the shifts to calibrate; all by default.
        episodes: scored at each point; 0 for those of runs.compare.
        out: folder that caches finished parts.
        config: a YAML file of these settings; flags override it.
        smoke: a run of seconds to test the code; its numbers mean nothing.
        record: also write table, scores and figure to runs/results/.
    """

    env: str = "Drive"
    seeds: int = 8
    steps: int = 0
    further: int = 0
    shifts: tuple[str, ...] = ()
    episodes: int = 0
    out: Path = Path("runs/logs/calibrate")
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Run the calibration -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for an unknown suite, a number out of range, or recording a smoke or partial run.
    """
    from envs import SUITES, is_jitted

    if not is_jitted(settings.env):
        checked_choice("suite", settings.env, SUITES)
    check_seeds(settings)
    check_not_negative(settings, "steps", "further", "episodes")
    check_recordable(settings, "shifts")


def study(settings, command, progress, stopped) -> int:
    """Train, score and report everything in this process -> exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    suite, sizes = design(settings)
    folder = settings.out / f"{suite.name}-{fingerprint(sizes)}"
    units = sizes.nominal.chunks + len(suite.shifts) * (sizes.special.chunks + 1)
    progress.total = units
    progress.say(
        f"{suite.name}: {sizes.nominal.seeds} seeds x {steps(sizes.nominal):,} nominal steps, then "
        f"x {steps(sizes.special):,} in each of {len(suite.shifts)} shifts -> {folder}"
    )
    if settings.seeds < 10:
        progress.say(f"{settings.seeds} seeds: few for an interval; 10 are better")
    try:
        with hold_lock(folder):
            scores = calibrate(suite, sizes, folder, progress, stopped)
        if scores is None:
            return 0
        progress.close()
        levels = level_rows(suite, scores)
        text = markdown(suite, levels, scores, sizes, command)
        print(text)
        targets = [folder] + ([RESULTS] if settings.record else [])
        for target in targets:
            target.mkdir(parents=True, exist_ok=True)
            file = calibration.calibration_path(suite.name, target)
            calibration.write_calibration(file, levels)
            file.with_suffix(".md").write_text(text)
            figure(suite.name, levels, file.with_suffix(".png"))
        print(f"table, figure and scores: {targets[-1]}")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror or error}") from error
    return 0


# --- design and training ----------------------------------------------------------------------


def design(settings: Settings):
    """Suite and sizes of the run -> (suite, `runs.engine.specialists.SpecialistConfigs`).

    The nominal agent's sizes are those of `runs.compare`.
    A specialist is the nominal agent with a new optimiser, whose step size starts at the same
    value and is annealed to 0 again.

    Raises:
        UserError: for an unknown shift, or an environment that cannot be made.
    """
    import jax

    from envs import load_suite
    from runs.engine.jax_backend import DRAWS
    from runs.engine.presets import preset
    from runs.engine.run_config import RunConfig
    from runs.engine.specialists import SpecialistConfigs

    try:
        suite = load_suite(settings.env)
    except ValueError as error:
        raise UserError(str(error)) from None
    if settings.shifts:
        names = [shift.name for shift in suite.shifts]
        chosen = [checked_choice("shift", name, names) for name in settings.shifts]
        suite = replace(suite, shifts=tuple(s for s in suite.shifts if s.name in chosen))
    sizes = preset(settings.env, jitted=True)
    batch = sizes.num_envs * sizes.num_steps
    episodes, total = settings.episodes or sizes.episodes, settings.steps or sizes.steps
    further_steps = settings.further or round(FURTHER * total)
    seeds = settings.seeds
    if settings.smoke:
        seeds, total, further_steps, episodes = 3, 2 * batch, batch, 4
        suite = replace(suite, shifts=suite.shifts[:2], severities=suite.severities[-2:])
    episodes -= episodes % min(DRAWS, episodes)  # equally many in each random world
    agent = sizes.agent
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())

    def run_config(updates: int) -> RunConfig:
        chunk_updates = max(updates // 20, 1)
        chunks = updates // chunk_updates
        return RunConfig(
            agent=replace(agent, anneal=chunks * chunk_updates),
            seeds=seeds,
            rows=rows,
            chunks=chunks,
            updates=chunk_updates,
            num_envs=sizes.num_envs,
            num_steps=sizes.num_steps,
            episodes=episodes,
            optimise=not settings.smoke,
        )

    return suite, SpecialistConfigs(
        run_config(max(total // batch, 1)), run_config(max(-(-further_steps // batch), 1))
    )


def steps(run_config) -> int:
    """Environment steps per seed of a run_config."""
    return run_config.chunks * run_config.chunk_steps


def calibrate(suite, sizes, folder: Path, progress, stopped) -> dict[str, dict] | None:
    """Train and score all shifts, reusing cached parts; None if stopped.

    A part is cached with a digest of its worlds, so that only shifts whose range has changed are
    calibrated anew.

    Returns:
        Shift -> success [S][P] of each of POLICIES, unshifted and at P - 1 severities;
        `non_finite`: number of seeds whose specialist diverged to non-finite numbers.
    """
    import jax
    import numpy as np

    from runs.engine.checkpoint import Checkpoints
    from runs.engine.jax_backend import DRAWS
    from runs.engine.specialists import SpecialistTraining, pool_worlds, worlds_digest

    base, axis = sizes.nominal.base, len(suite.severities)
    draws = min(DRAWS, sizes.nominal.episodes)
    score_worlds = suite.worlds(jax.random.key(base + 1), draws)  # as in runs.compare
    train_worlds = suite.worlds(jax.random.key(base + 4), WORLDS)
    home = pool_worlds(train_worlds, [0])
    training = SpecialistTraining(suite.env, sizes)
    checkpoints = Checkpoints(folder / f"nominal-{worlds_digest(home)}", keep=1)
    nominal_run, chunks_done = training.start(home), sizes.nominal.chunks
    restored = checkpoints.restore(nominal_run.learner.agent)
    if restored is None:
        report = progress_callback(progress, "nominal", 0)
        nominal_run, finite = training.run(sizes.nominal, nominal_run, home, report, stopped)
        if nominal_run is None:
            return None
        if not finite.all():
            progress.say(
                f"{(~finite).sum()} nominal agents have non-finite numbers: do not trust this run"
            )
        checkpoints.save(chunks_done, nominal_run.learner.agent)
    nominal = nominal_run.learner.agent if restored is None else restored[1]
    progress.advance("nominal", chunks_done, restored is None)
    results = {}
    for i, shift in enumerate(suite.shifts):
        rows = list(range(1 + i * axis, 1 + (i + 1) * axis))
        # half of its training worlds have the last severity
        pool = pool_worlds(train_worlds, [*rows, *rows[-1:] * (axis - 2)])
        tested = jax.tree.map(lambda leaf, rows=rows: leaf[np.array([0, *rows])], score_worlds)
        digest, file = worlds_digest((home, pool, tested)), folder / f"{safe_name(shift.name)}.json"
        scores = load_part(file, digest)
        is_new = scores is None
        if is_new:
            report = progress_callback(progress, shift.name, chunks_done)
            run = training.warm(nominal, pool)
            run, finite = training.run(sizes.special, run, pool, report, stopped)
            if run is None:
                return None
            scores = training.scores(nominal, run.learner.agent, tested)
            save_part(file, scores | {"non_finite": int((~finite).sum()), "settings": digest})
            scores = load_part(file, digest)
        chunks_done += sizes.special.chunks + 1
        progress.advance(shift.name, chunks_done, is_new)
        results[shift.name] = scores
    return results


def progress_callback(progress, label: str, chunks_before: int):
    """Callback that reports the chunks of a training, added to those done before it."""
    return lambda chunks: progress.advance(label, chunks_before + chunks)


# --- results ----------------------------------------------------------------------------------


def level_rows(suite, results: dict[str, dict]) -> list[Level]:
    """Levels (mean scores with intervals): unshifted, then for each shift x severity incl. 0."""
    import numpy as np

    from runs.analysis import stats
    from runs.engine.specialists import POLICIES

    def level(name: str, family: str, severity: float, column: int, policies) -> Level:
        scores = [np.array(results[name][policy])[:, column] for policy in policies]
        numbers = [number for score in scores for number in stats.mean(score)]
        return Level(suite.name, name, family, severity, *numbers, len(scores[0]))

    first_shift = suite.shifts[0]
    unshifted = level(first_shift.name, "none", 0.0, 0, ("random", "nominal", "nominal"))
    return [unshifted._replace(shift="none")] + [
        level(shift.name, shift.family, severity, column, POLICIES)
        for shift in suite.shifts
        for column, severity in enumerate((0.0, *suite.severities))
    ]


def markdown(suite, levels: list[Level], results: dict, sizes, command: str) -> str:
    """Markdown report: one row per shift, with its flags."""
    from runs.analysis.stats import Estimate
    from runs.engine import devices

    axes = calibration.levels_by_shift(levels)
    severities = ", ".join(f"{severity:g}" for severity in suite.severities)
    headings = ("shift", "family", f"nominal at {severities}", f"specialist at {severities}")
    headings += ("random at the end", "nominal at the end", "specialist at the end")
    headings += ("specialist at home", "verdict")
    lines = [" | ".join(headings), " | ".join(["---"] * len(headings))]
    flags = []
    for name, (home, *away) in axes.items():
        end, verdict = away[-1], ", ".join(calibration.calibration_flags([home, *away]))
        flags += [f"{name}: {verdict}"] if verdict else []
        cells = [
            name.replace("|", " and "),
            end.family.replace("|", " and "),
            " ".join(f"{level.nominal:.2f}" for level in away),
            " ".join(f"{level.specialist:.2f}" for level in away),
            f"{Estimate(end.random, end.random_low, end.random_high):.2f}",
            f"{Estimate(end.nominal, end.nominal_low, end.nominal_high):.2f}",
            f"{Estimate(end.specialist, end.specialist_low, end.specialist_high):.2f}",
            f"{home.specialist:.2f}",
            verdict or "fine",
        ]
        lines.append(" | ".join(cells))
    home, nominal, special = levels[0], sizes.nominal, sizes.special
    nominal_home = Estimate(home.nominal, home.nominal_low, home.nominal_high)
    non_finite = sum(part["non_finite"] for part in results.values())
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    summary = (
        f"At home the nominal agent succeeds in {nominal_home:.3f} of episodes, a random policy in "
    )
    summary += f"{home.random:.3f}."
    if home.nominal < calibration.SOLVED:
        summary += " It has not learned its own world: no verdict below means anything."
    body = [
        f"# {suite.name}: how hard its shifts are",
        summary,
        "\n".join(lines),
        f"Flagged: {'; '.join(flags)}." if flags else "Nothing is flagged.",
        f"Success over {nominal.episodes} episodes a point and seed; means over {nominal.seeds} "
        f"seeds, t intervals at 95 %. Nominal: {steps(nominal):,} steps at home. Specialist: the "
        f"nominal agent of the same seed after {steps(special):,} more in the shift, half of its "
        "episodes at the end of the axis and half anywhere on it, with the task's reward and a new "
        "optimiser. Scores elsewhere are put between random and the better of the other two. "
        "Verdicts: " + RULES,
        f"Specialists with non-finite numbers: {non_finite}.",
        f"`{command}`\n\n{machine}",
    ]
    return "\n\n".join(body) + "\n"


RULES = (
    f"a shift does nothing if the nominal agent loses less than {calibration.COST} of its success "
    "at every severity; cannot be solved if at the end neither of the two reaches "
    f"{calibration.SOLVED}; chance will do where less than {calibration.ROOM} lies between a "
    "random policy and the better of the two; is not harder with severity if the nominal agent "
    "is better at a higher one than at a lower one, intervals apart."
)


def figure(name: str, levels: list[Level], path: Path) -> None:
    """Draw success of the three policies against severity, with t intervals, a panel per shift."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    axes = calibration.levels_by_shift(levels)
    across = min(5, len(axes))
    down = -(-len(axes) // across)
    sheet, panels = plt.subplots(
        down,
        across,
        figsize=(2.5 * across, 2.1 * down + 0.7),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    colours = {"specialist": "#2f7d4f", "nominal": "#1f5fa8", "random": "#8b929c"}
    for panel, (shift, axis) in zip(panels.flat, axes.items(), strict=False):
        severity = [level.severity for level in axis]
        for policy, colour in colours.items():
            middle, low, high = (
                [getattr(level, policy + end) for level in axis] for end in ("", "_low", "_high")
            )
            panel.plot(severity, middle, "o-", ms=2.5, lw=1.4, color=colour, label=policy)
            panel.fill_between(severity, low, high, color=colour, alpha=0.15, linewidth=0)
        verdict = ", ".join(calibration.calibration_flags(axis))
        panel.set_title(shift.replace("|", " and "), fontsize=10)
        panel.text(0.03, 0.2, verdict, transform=panel.transAxes, fontsize=7, color="#c8322b")
        panel.set_ylim(-0.03, 1.03)
        panel.set_xticks([0, 0.5, 1])
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels.flat)[len(axes) :]:
        panel.axis("off")
    sheet.supxlabel("severity", fontsize=10)
    sheet.supylabel(f"success in {name}", fontsize=10)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside upper center", ncol=3, frameon=False)
    sheet.savefig(path, dpi=110)
    plt.close(sheet)


if __name__ == "__main__":
    run_main(main)
