"""Continual learning: what is kept and lost in changing worlds, and what helps on a return?

An agent is trained at home, and heads beside it. Then the world changes from stage to stage (cones,
ice, cross traffic, cones) and training goes on: policy, critic and optimiser carry over, and the
change is not observed. The task reward is on always, or rarely (in one environment of eight), or
never; signals are added to it, the last step of an episode included, and the arms are those of
`runs.reward_free`. All worlds are evaluated throughout. An agent that learns the present world may
lose the previous one; on the second visit to a world memory and signal separate: memory is what is
left of the first visit, a signal is what can teach the world anew. An interrupted run is resumed by
the same command.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from runs.adaptation.suite_lookup import HEADS, check_env
from runs.cli.settings import (
    check_not_negative,
    check_recordable,
    check_seeds,
    fingerprint,
    parse_settings,
    run_main,
    shell_command,
)
from runs.errors import Interrupted, UserError
from runs.lock import hold_lock
from runs.names import checked_choice, safe_name

COMMAND = "python -m runs.continual"
RESULTS = Path("runs/results")
DEFAULT_STREAM = ("cones", "ice", "cross", "cones")
STAGE_SHARE = 0.17  # steps of a stage, as a share of those at home
EVALS = 3  # evaluations a stage; 1 in host environments, where they take longer than training


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        env: a built-in suite, such as Drive, another jitted one, such as gymnax:CartPole-v1, or
            any gymnasium id, such as CartPole-v1; a host environment is evaluated once a stage,
            and the time that its steps take is printed first.
        heads: with an arm each, beside hope - fear; `my_head.py:Dread` is one of your own. The
            default `innate` is left out where the suite has no innate signal.
        seeds: runs an arm, at least 3.
        steps: environment steps a seed in each stage; 0 for .17 of those at home.
        stream: shifts at full severity, one of which comes back; by default cones, ice, cross,
            cones, or in other suites the first three shifts and the first again.
        pay: schedules of the task reward: always, rare, never.
        episodes: in each world, each evaluation; 0 for half of the usual number.
        out: folder of the study.
        config: a YAML file of these settings; flags go before it.
        smoke: a test run of a minute through all code, whose results mean nothing.
        record: also write table and figure to runs/results/.
    """

    env: str = "Drive"
    heads: tuple[str, ...] = HEADS
    seeds: int = 20
    steps: int = 0
    stream: tuple[str, ...] = ()
    pay: tuple[str, ...] = ("always", "rare", "never")
    episodes: int = 0
    out: Path | None = None
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Parse the flags and run the study; returns the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Check the settings as far as that needs no jax.

    Raises:
        UserError: for an unknown environment; schedules or heads that are unknown, missing or
            repeated; a number out of range; or `record` of a partial run.
    """
    check_env(settings.env)
    for flag in ("pay", "heads"):
        values = getattr(settings, flag)
        if not values or len(set(values)) < len(values):
            raise UserError(f"--{flag} {' '.join(values)}: name at least one, and each once")
    for schedule in settings.pay:
        checked_choice("schedule", schedule, Settings.pay)
    check_seeds(settings)
    check_not_negative(settings, "steps", "episodes")
    check_recordable(settings)


def study(settings, command, progress, stopped) -> int:
    """Run all arms in this process and write the page; returns the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from envs.host.pool import HostFailure
    from runs.adaptation.continual_stream import StreamRunner

    suite, arms, runner_args = design(settings)
    runner = StreamRunner(suite, *runner_args)
    out = folder(settings, suite.name)
    try:
        with hold_lock(out), closing(runner):
            results = run_arms(runner, arms, settings, out, progress, stopped)
        if results is None:
            return 0
        progress.close()
        for target in [out] + ([RESULTS] if settings.record else []):
            text = write_page(target, suite.name, results, runner, settings, command)
    except Interrupted:
        return 0
    except HostFailure as error:
        raise UserError(f"{error}; then repeat the command to resume") from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    print(text)
    print(f"table, figure    {target}/continual*")
    return 0


def design(settings: Settings) -> tuple[Any, tuple, tuple]:
    """Suite, arms and further arguments of `StreamRunner` from the settings.

    The agent in the stream is that of `runs.engine.presets` at its first step size, which is
    constant: the length of the stream is not known to the agent. Tried beforehand in Drive, with 4
    seeds: that step size, .3 and .1 of it, of which `plain` learned most at the first with the task
    reward on; and all arms without task reward at .3 of it, through stages of 49,000 and 66,000
    steps.

    Raises:
        UserError: for an unknown environment, head or shift, a stream in which no world comes
            back, or a suite of one shift.
    """
    import jax

    from envs import is_jitted
    from runs.adaptation.continual_stream import CHUNKS, StreamSizes, make_stream_worlds
    from runs.adaptation.jax_learners import LearnerSizes
    from runs.adaptation.reward_arms import available_heads, continual_arms, reward_blend
    from runs.adaptation.suite_lookup import find_suite, shortened
    from runs.adaptation.transfer_metrics import last_return
    from runs.engine.jax_backend import DRAWS
    from runs.engine.presets import preset

    suite, jitted = find_suite(settings.env), is_jitted(settings.env)
    shifts = [shift.name for shift in suite.shifts]
    candidates = [name for name in shifts if "|" not in name][:3]
    if len(candidates) < 2:
        raise UserError(
            f"{suite.name}: a stream needs two shifts, and the suite has "
            f"{', '.join(candidates) or 'none'}: declare more, or choose another --env"
        )
    example = (
        DEFAULT_STREAM if set(DEFAULT_STREAM) <= set(shifts) else (*candidates, *candidates[:1])
    )
    stream = tuple(checked_choice("shift", name, shifts) for name in settings.stream or example)
    try:
        last_return([stream.index(name) for name in stream])
    except ValueError:
        raise UserError(
            f"--stream {' '.join(stream)}: one world must come back after another, as in "
            f"{' '.join(example)}"
        ) from None
    defaults = preset(settings.env, jitted)
    seeds, num_envs, num_steps = settings.seeds, defaults.num_envs, defaults.num_steps
    home_steps, steps = defaults.steps, settings.steps or round(STAGE_SHARE * defaults.steps)
    evals = 1 if settings.smoke or not jitted else EVALS
    episodes = settings.episodes or defaults.episodes // 2
    if settings.smoke:
        suite = shortened(suite)
        seeds, num_envs, num_steps, episodes = 3, 4, 32, 4
        home_steps, steps = 2 * num_envs * num_steps, num_envs * num_steps
    if jitted:
        episodes -= episodes % min(DRAWS, episodes)  # the same number in each sampled world
    batch = num_envs * num_steps
    agent = defaults.agent
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())
    lengths = StreamSizes(
        home_updates=max(home_steps // batch // CHUNKS, 1) * CHUNKS,
        stage_updates=max(steps // batch // evals, 1) * evals,
        evals=evals,
        learners=LearnerSizes(
            seeds, rows, num_envs, num_steps, episodes, optimise=not settings.smoke
        ),
    )
    heads = available_heads(suite, settings.heads)
    blend = reward_blend(heads, suite, agent)
    home_agent = replace(agent, anneal=lengths.home_updates)
    worlds = make_stream_worlds(suite, stream, episodes, lengths.learners.base)
    return (
        suite,
        continual_arms(heads, blend, agent.gamma),
        (home_agent, agent, blend, lengths, worlds),
    )


def run_arms(runner, arms, settings: Settings, out: Path, progress, stopped) -> dict | None:
    """Run every arm on every schedule, or load its saved result; None if a stop is requested.

    Raises:
        Interrupted: if a stop is requested inside a stage.

    Returns:
        schedule -> arm -> `runs.adaptation.continual_stream.StreamResult`; arms that do not learn
        are run once and listed under each schedule.
    """
    from runs.adaptation.continual_stream import StreamResult
    from runs.engine.cache import load_part, save_part
    from runs.engine.checkpoint import Checkpoints
    from runs.engine.specialists import worlds_digest

    sizes, worlds = runner.sizes, runner.worlds
    parts = [(arm, settings.pay[0]) for arm in arms if not arm.learns]
    parts += [(arm, schedule) for schedule in settings.pay for arm in arms if arm.learns]
    units = len(worlds.stages) * sizes.evals
    progress.total = units * (1 + len(parts))
    progress.say(
        f"{settings.env}: {sizes.learners.seeds} seeds, {len(parts)} runs through "
        f"{', '.join(worlds.names[w] for w in worlds.stages)}, "
        f"{sizes.stage_updates * sizes.learners.num_envs * sizes.learners.num_steps:,} steps each "
        f"-> {out}"
    )
    if (cost := runner.time_estimate(len(parts))) is not None:
        progress.say(cost)
    saved = Checkpoints(out / "school", keep=1)
    learner, trained = runner.train_at_home(saved, stopped)
    if learner is None:
        return None
    progress.advance("at home", units, trained)
    digest = worlds_digest((worlds.pools, worlds.tests))
    results: dict[str, dict] = {schedule: {} for schedule in settings.pay}
    for i, (arm, schedule) in enumerate(parts, start=1):
        name = f"{arm.name}-{schedule}" if arm.learns else arm.name
        path = out / "parts" / f"{safe_name(name)}.json"
        path.parent.mkdir(exist_ok=True)
        part = load_part(path, digest)
        if part is None:
            report = partial(_report, progress, name, i * units)
            result = runner.run_stream(learner, arm, schedule, report, stopped)
            if result is None:
                return None
            save_part(path, result.to_json() | {"settings": digest})
        else:
            progress.advance(name, (i + 1) * units, False)
        result = StreamResult.from_json(load_part(path, digest))
        for key in (schedule,) if arm.learns else settings.pay:
            results[key][arm.name] = result
    return results


def _report(progress, name: str, before: int, units: int) -> None:
    progress.advance(name, before + units)


def write_page(
    target: Path, env: str, results: dict, runner, settings: Settings, command: str
) -> str:
    """Write the page and the figure to a folder -> the text of the page."""
    import numpy as np

    from runs.adaptation.continual_report import figure, markdown
    from runs.engine import devices

    sizes, worlds = runner.sizes, runner.worlds
    successes = next(iter(results.values()))["frozen"].scores["success"]
    metric = "success" if np.isfinite(successes).all() else "return"
    batch = sizes.learners.num_envs * sizes.learners.num_steps
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    about = (
        f"{env}: {sizes.learners.seeds} seeds, {sizes.home_updates * batch:,} steps at home, "
        f"{sizes.stage_updates * batch:,} in each stage, {sizes.learners.episodes} episodes an "
        "evaluation.",
        f"`{command}`\n\n{machine}",
    )
    target.mkdir(parents=True, exist_ok=True)
    name = (
        "continual"
        if env == Settings.env
        else f"continual-{env.replace(':', '_').replace('/', '_')}"
    )
    text = markdown(results, worlds, metric, sizes.evals, about)
    (target / f"{name}.md").write_text(text)
    steps = sizes.stage_updates // sizes.evals * batch
    figure(results, worlds, metric, sizes.evals, steps, target / f"{name}.png")
    return text


def folder(settings: Settings, env: str) -> Path:
    """Folder of the study, named by all settings that change a result."""
    from runs.engine.custom_head import file_digests

    if settings.out is not None:
        return settings.out
    mark = fingerprint(settings, leave_out=("out", "config", "record"))
    return Path("runs/logs/continual") / "-".join(
        (safe_name(env), mark, *file_digests(settings.heads))
    )


if __name__ == "__main__":
    run_main(main)
