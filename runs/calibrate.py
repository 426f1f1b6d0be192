"""How hard is each shift: for chance, for whoever never met it, and for whoever has?

Trains a nominal agent at home; warm-starts from it a specialist for each shift, who goes on
learning there with the task's own reward; and scores both, and a random policy, along the axis of
severities. Flags shifts that do nothing, that nobody can solve, that chance solves as well, or
that are not harder where they are more severe. Scores elsewhere are put between random and
specialist (`runs.analysis.calibration`). Interrupted, the same command goes on with the next shift.
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
    checked_choice,
    fingerprint,
    parse_settings,
    run_main,
    shell_command,
)
from runs.engine.cache import load_part, save_part
from runs.errors import UserError

COMMAND = "python -m runs.calibrate"
WORLDS = 64  # that a specialist learns in, at each severity, where a shift draws
# Of three ways to spend a specialist's episodes, half of them at severity 1 and half all along its
# axis was best: mean success over six shifts of Drive x 4 severities was .855 (3 seeds), against
# .834 all along the axis, and .824 at severity 1 alone: better there, .71 against .69, but it
# forgets how to drive where there is less of the shift.
FURTHER = 0.45  # of the nominal agent's steps: what a specialist has on top of them


@dataclass(frozen=True)
class Settings:
    """Settings of the calibration.

    Attributes:
        env: a suite of ours, or anybody's jitted one, such as gymnax:CartPole-v1.
        seeds: training runs, at least 3; each has a specialist for every shift.
        steps: environment steps of the nominal agent, a seed; 0 for as many as runs.compare takes.
        further: environment steps of a specialist, on top; 0 for 45 % of those before.
        shifts: names of the shifts to calibrate; all of them if none is named.
        episodes: scored at each point; 0 for as many as runs.compare takes.
        out: folder in which finished parts are kept.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of seconds that touches everything and means nothing.
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
    """Parses, then runs; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Refuses what can be refused without importing jax.

    Raises:
        UserError: for an unknown suite, a number out of range, or a part that is recorded.
    """
    from envs import SUITES, is_jitted

    if not is_jitted(settings.env):
        checked_choice("suite", settings.env, SUITES)
    check_seeds(settings)
    check_not_negative(settings, "steps", "further", "episodes")
    check_recordable(settings, "shifts")


def study(settings, command, progress, stopped) -> int:
    """All trainings and scores in this process; the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from runs.lock import hold_lock

    suite, sizes = design(settings)
    folder = settings.out / f"{suite.name}-{fingerprint(sizes)}"
    units = sizes.nominal.chunks + len(suite.shifts) * (sizes.special.chunks + 1)
    progress.total = units
    progress.say(
        f"{suite.name}: {sizes.nominal.seeds} seeds x {steps(sizes.nominal):,} steps at home, then "
        f"x {steps(sizes.special):,} in each of {len(suite.shifts)} shifts -> {folder}"
    )
    if settings.seeds < 10:
        progress.say(f"{settings.seeds} seeds: few for an interval; 10 are better")
    try:
        with hold_lock(folder):
            found = calibrate(suite, sizes, folder, progress, stopped)
        if found is None:
            return 0
        progress.close()
        levels = level_rows(suite, found)
        text = markdown(suite, levels, found, sizes, command)
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


# --- what is trained, and what on -------------------------------------------------------------


def design(settings: Settings):
    """What will be run -> (suite, `runs.engine.specialists.SpecialistConfigs`).

    The nominal agent's sizes are those of `runs.compare`.
    A specialist is the nominal agent with a new optimiser, whose step size starts as high as the
    first one's did and falls to 0 again.

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
        known = [shift.name for shift in suite.shifts]
        names = [checked_choice("shift", name, known) for name in settings.shifts]
        suite = replace(suite, shifts=tuple(s for s in suite.shifts if s.name in names))
    sizes = preset(settings.env, jitted=True)
    batch = sizes.num_envs * sizes.num_steps
    episodes, total = settings.episodes or sizes.episodes, settings.steps or sizes.steps
    further = settings.further or round(FURTHER * total)
    seeds = settings.seeds
    if settings.smoke:
        seeds, total, further, episodes = 3, 2 * batch, batch, 4
        suite = replace(suite, shifts=suite.shifts[:2], severities=suite.severities[-2:])
    episodes -= episodes % min(DRAWS, episodes)  # as many in each world that is drawn
    agent = sizes.agent
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())

    def run_config(updates: int) -> RunConfig:
        together = max(updates // 20, 1)
        chunks = updates // together
        return RunConfig(
            agent=replace(agent, anneal=chunks * together),
            seeds=seeds,
            rows=rows,
            chunks=chunks,
            updates=together,
            num_envs=sizes.num_envs,
            num_steps=sizes.num_steps,
            episodes=episodes,
            optimise=not settings.smoke,
        )

    return suite, SpecialistConfigs(
        run_config(max(total // batch, 1)), run_config(max(-(-further // batch), 1))
    )


def steps(run_config) -> int:
    """Environment steps a seed."""
    return run_config.chunks * run_config.chunk_steps


def calibrate(suite, sizes, folder: Path, progress, stopped) -> dict[str, dict] | None:
    """All parts, those that are kept included; None if it was asked to stop.

    A part is kept with a digest of its worlds: a shift that is re-ranged is calibrated anew, and
    only that one.

    Returns:
        Shift -> share of successes [S][P] of each of POLICIES, at home and at P - 1 severities;
        `non_finite`: seeds whose specialist stopped being numbers.
    """
    import jax
    import numpy as np

    from runs.engine.checkpoint import Checkpoints
    from runs.engine.jax_backend import DRAWS
    from runs.engine.specialists import SpecialistTraining, pool_worlds, worlds_digest
    from runs.report.tb_export import safe_name

    base, axis = sizes.nominal.base, len(suite.severities)
    draws = min(DRAWS, sizes.nominal.episodes)
    grounds = suite.worlds(jax.random.key(base + 1), draws)  # those that runs.compare scores on
    schools = suite.worlds(jax.random.key(base + 4), WORLDS)
    home = pool_worlds(schools, [0])
    training = SpecialistTraining(suite.env, sizes)
    saved = Checkpoints(folder / f"nominal-{worlds_digest(home)}", keep=1)
    first, done = training.start(home), sizes.nominal.chunks
    restored = saved.restore(first.learner.agent)
    if restored is None:
        report = progress_callback(progress, "nominal", 0)
        first, finite = training.run(sizes.nominal, first, home, report, stopped)
        if first is None:
            return None
        if not finite.all():
            progress.say(
                f"{(~finite).sum()} nominal agents stopped being numbers: do not trust this"
            )
        saved.save(done, first.learner.agent)
    nominal = first.learner.agent if restored is None else restored[1]
    progress.advance("nominal", done, restored is None)
    found = {}
    for i, shift in enumerate(suite.shifts):
        rows = list(range(1 + i * axis, 1 + (i + 1) * axis))
        school = pool_worlds(schools, [*rows, *rows[-1:] * (axis - 2)])  # half of it at the end
        ground = jax.tree.map(lambda leaf, rows=rows: leaf[np.array([0, *rows])], grounds)
        kind, part = worlds_digest((home, school, ground)), folder / f"{safe_name(shift.name)}.json"
        scores = load_part(part, kind)
        fresh = scores is None
        if fresh:
            report = progress_callback(progress, shift.name, done)
            run = training.warm(nominal, school)
            run, finite = training.run(sizes.special, run, school, report, stopped)
            if run is None:
                return None
            scores = training.scores(nominal, run.learner.agent, ground)
            save_part(part, scores | {"non_finite": int((~finite).sum()), "recipe": kind})
            scores = load_part(part, kind)
        done += sizes.special.chunks + 1
        progress.advance(shift.name, done, fresh)
        found[shift.name] = scores
    return found


def progress_callback(progress, what: str, before: int):
    """Says how many chunks of a training are done, on top of what was done before it."""
    return lambda chunks: progress.advance(what, before + chunks)


# --- what was found ---------------------------------------------------------------------------


def level_rows(suite, found: dict[str, dict]) -> list[Level]:
    """A level for home, and one for each shift x severity, home among them."""
    import numpy as np

    from runs.analysis import stats
    from runs.engine.specialists import POLICIES

    def level(name: str, family: str, severity: float, column: int, policies) -> Level:
        scores = [np.array(found[name][policy])[:, column] for policy in policies]
        numbers = [number for score in scores for number in stats.mean(score)]
        return Level(suite.name, name, family, severity, *numbers, len(scores[0]))

    some = suite.shifts[0]
    at_home = level(some.name, "none", 0.0, 0, ("random", "nominal", "nominal"))
    return [at_home._replace(shift="none")] + [
        level(shift.name, shift.family, severity, column, POLICIES)
        for shift in suite.shifts
        for column, severity in enumerate((0.0, *suite.severities))
    ]


def markdown(suite, levels: list[Level], found: dict, sizes, command: str) -> str:
    """The table, a line a shift, with what was flagged."""
    from runs.analysis.stats import Estimate
    from runs.engine import devices

    axes = calibration.levels_by_shift(levels)
    severities = ", ".join(f"{severity:g}" for severity in suite.severities)
    heads = ("shift", "family", f"nominal at {severities}", f"specialist at {severities}")
    heads += ("random at the end", "nominal at the end", "specialist at the end")
    heads += ("specialist at home", "verdict")
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    flagged = []
    for name, (home, *away) in axes.items():
        end, verdict = away[-1], ", ".join(calibration.calibration_flags([home, *away]))
        flagged += [f"{name}: {verdict}"] if verdict else []
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
    at_home = Estimate(home.nominal, home.nominal_low, home.nominal_high)
    non_finite = sum(part["non_finite"] for part in found.values())
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    learned = (
        f"At home the nominal agent succeeds in {at_home:.3f} of episodes, a random policy in "
    )
    learned += f"{home.random:.3f}."
    if home.nominal < calibration.SOLVED:
        learned += " It has not learned its own world: no verdict below means anything."
    body = [
        f"# {suite.name}: how hard its shifts are",
        learned,
        "\n".join(lines),
        f"Flagged: {'; '.join(flagged)}." if flagged else "Nothing is flagged.",
        f"Success over {nominal.episodes} episodes a point and seed; means over {nominal.seeds} "
        f"seeds, t intervals at 95 %. Nominal: {steps(nominal):,} steps at home. Specialist: the "
        f"nominal agent of the same seed after {steps(special):,} more in the shift, half of its "
        "episodes at the end of the axis and half anywhere on it, with the task's reward and a new "
        "optimiser. Scores elsewhere are put between random and the better of the other two. "
        "Verdicts: " + RULES,
        f"Specialists that stopped being numbers: {non_finite}.",
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
    """A panel a shift: success of the three policies against severity, with t intervals."""
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
