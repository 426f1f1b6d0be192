"""A life in changing worlds: what is kept, what is lost, and what is different the second time?

An agent learns at home, and its feelings form beside it. Then its road changes, again and again
(cones, ice, cross traffic, cones), and it lives on: policy, critic and optimiser go from world to
world, and nobody tells it that anything changed. The task pays always, or rarely (one environment
in eight), or never; feelings are paid on top, the last step of an episode included, and the arms
are those of `runs.reward_free`. In every world it is scored all along. Who mends one thing and breaks
the last plays ping-pong; in the second visit to a world memory and feeling part: memory is what is
left of the first visit, a feeling is what can teach it anew. Interrupted, the same command goes
on.
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
    checked_choice,
    fingerprint,
    parse_settings,
    run_main,
    shell_command,
)
from runs.errors import UserError

COMMAND = "python -m runs.continual"
RESULTS = Path("runs/results")
USUAL = ("cones", "ice", "cross", "cones")
SHARE = 0.17  # of the training at home, lived in each world
LOOKS = 3  # in each world; in a host's, whose scores take longer than its lives, only the last


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        env: a world of ours, such as Drive, anybody's jitted one, such as gymnax:CartPole-v1, or
            any gymnasium id, such as CartPole-v1; a host is looked at once in each world, and takes
            as long as its steps, which is said.
        heads: paid alone, beside hope - fear; `my_head.py:Dread` is one's own. Of the usual ones
            innate is left out where nothing is.
        seeds: lives an arm, at least 3.
        steps: environment steps a seed in each world; 0 for .17 of those at home.
        stream: shifts, each at full severity, one of which comes back; none for cones, ice, cross,
            cones, or the first three of another suite and the first again.
        pay: terms: always, rare, never.
        episodes: scored in each world, each time; 0 for half of the usual number.
        out: folder of the study.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of a minute that touches everything and means nothing.
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
    """Parses, then runs; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Refuses what can be refused without importing jax.

    Raises:
        UserError: for a world that is unknown, terms or a head that are unknown, missing or named
            twice, a number out of range, or a part that is recorded.
    """
    check_env(settings.env)
    for flag in ("pay", "heads"):
        given = getattr(settings, flag)
        if not given or len(set(given)) < len(given):
            raise UserError(f"--{flag} {' '.join(given)}: name at least one, and each once")
    for pay in settings.pay:
        checked_choice("terms", pay, Settings.pay)
    check_seeds(settings)
    check_not_negative(settings, "steps", "episodes")
    check_recordable(settings)


def study(settings, command, progress, stopped) -> int:
    """All lives in this process; the exit code."""
    from runs.engine import devices

    devices.prepare_devices()
    from envs.host.pool import HostFailure
    from runs.adaptation.continual_stream import StreamRunner
    from runs.cli.interrupt import Interrupted
    from runs.lock import hold_lock

    suite, arms, plan = design(settings)
    lives = StreamRunner(suite, *plan)
    out = folder(settings, suite.name)
    try:
        with hold_lock(out), closing(lives):
            found = run_arms(lives, arms, settings, out, progress, stopped)
        if found is None:
            return 0
        progress.close()
        for target in [out] + ([RESULTS] if settings.record else []):
            text = write_page(target, suite.name, found, lives, settings, command)
    except Interrupted:
        return 0
    except HostFailure as error:
        raise UserError(f"{error}; the same command then goes on") from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    print(text)
    print(f"table, figure    {target}/life*")
    return 0


def design(settings: Settings) -> tuple[Any, tuple, tuple]:
    """What these settings ask for -> (suite, arms, what `runs.adaptation.continual_stream.StreamRunner` takes more).

    The agent of the stream is that of `runs.engine.presets` at its first step size, which does
    not fall: a life does not know how long it is. Looked at beforehand in Drive, with 4 seeds: that
    step size, .3 and .1 of it, of which `plain` learned most at the first where the task pays; and
    all arms unpaid at .3 of it, through stages of 49,000 and 66,000 steps.

    Raises:
        UserError: for an unknown environment, head or shift, a stream that never comes back, or a
            suite of one shift.
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

    suite, ours = find_suite(settings.env), is_jitted(settings.env)
    known = [shift.name for shift in suite.shifts]
    first = [name for name in known if "|" not in name][:3]
    if len(first) < 2:
        raise UserError(
            f"{suite.name}: a stream needs two shifts to go between, and there is "
            f"{', '.join(first) or 'none'}: declare more, or choose another --env"
        )
    usual = USUAL if set(USUAL) <= set(known) else (*first, *first[:1])
    stream = tuple(checked_choice("shift", name, known) for name in settings.stream or usual)
    try:
        last_return([stream.index(name) for name in stream])
    except ValueError:
        raise UserError(
            f"--stream {' '.join(stream)}: leave a world and come back, as in {' '.join(usual)}"
        ) from None
    sizes = preset(settings.env, ours)
    seeds, num_envs, num_steps = settings.seeds, sizes.num_envs, sizes.num_steps
    school, steps = sizes.steps, settings.steps or round(SHARE * sizes.steps)
    looks = 1 if settings.smoke or not ours else LOOKS
    episodes = settings.episodes or sizes.episodes // 2
    if settings.smoke:
        suite = shortened(suite)
        seeds, num_envs, num_steps, episodes = 3, 4, 32, 4
        school, steps = 2 * num_envs * num_steps, num_envs * num_steps
    if ours:
        episodes -= episodes % min(DRAWS, episodes)  # as many in each world that is drawn
    batch = num_envs * num_steps
    agent = sizes.agent
    if suite.env.spec.action_dim:
        agent = replace(agent, entropy=0.0)
    rows = -(-seeds // len(jax.devices())) * len(jax.devices())
    life = StreamSizes(
        school=max(school // batch // CHUNKS, 1) * CHUNKS,
        stage=max(steps // batch // looks, 1) * looks,
        looks=looks,
        sizes=LearnerSizes(seeds, rows, num_envs, num_steps, episodes, optimise=not settings.smoke),
    )
    heads = available_heads(suite, settings.heads)
    felt = reward_blend(heads, suite, agent)
    at_school = replace(agent, anneal=life.school)
    ground = make_stream_worlds(suite, stream, episodes, life.sizes.base)
    return suite, continual_arms(heads, felt, agent.gamma), (at_school, agent, felt, life, ground)


def run_arms(lives, arms, settings: Settings, out: Path, progress, stopped) -> dict | None:
    """Every arm's life on all terms, those that are kept included; None if it was asked to stop.

    Raises:
        Interrupted: if it was asked to stop inside a life.

    Returns:
        Terms -> arm -> `runs.adaptation.continual_stream.StreamResult`; whoever learns nothing is in all of them.
    """
    from runs.adaptation.continual_stream import StreamResult
    from runs.engine.cache import load_part, save_part
    from runs.engine.checkpoint import Checkpoints
    from runs.engine.specialists import worlds_digest
    from runs.report.tb_export import safe_name

    life, ground = lives.life, lives.ground
    parts = [(arm, settings.pay[0]) for arm in arms if not arm.learns]
    parts += [(arm, pay) for pay in settings.pay for arm in arms if arm.learns]
    each = len(ground.stages) * life.looks
    progress.total = each * (1 + len(parts))
    progress.say(
        f"{settings.env}: {life.sizes.seeds} seeds, {len(parts)} lives through "
        f"{', '.join(ground.names[w] for w in ground.stages)}, "
        f"{life.stage * life.sizes.num_envs * life.sizes.num_steps:,} steps each -> {out}"
    )
    if (cost := lives.cost(len(parts))) is not None:
        progress.say(cost)
    saved = Checkpoints(out / "school", keep=1)
    learner, fresh = lives.schooled(saved, stopped)
    if learner is None:
        return None
    progress.advance("school", each, fresh)
    kind = worlds_digest((ground.pools, ground.tests))
    found: dict[str, dict] = {pay: {} for pay in settings.pay}
    for i, (arm, pay) in enumerate(parts, start=1):
        name = f"{arm.name}-{pay}" if arm.learns else arm.name
        path = out / "parts" / f"{safe_name(name)}.json"
        path.parent.mkdir(exist_ok=True)
        part = load_part(path, kind)
        if part is None:
            report = partial(_report, progress, name, i * each)
            lived = lives.lived(learner, arm, pay, report, stopped)
            if lived is None:
                return None
            save_part(path, lived.plain() | {"recipe": kind})
        else:
            progress.advance(name, (i + 1) * each, False)
        lived = StreamResult.of(load_part(path, kind))
        for terms in (pay,) if arm.learns else settings.pay:
            found[terms][arm.name] = lived
    return found


def _report(progress, what: str, before: int, looks: int) -> None:
    progress.advance(what, before + looks)


def write_page(target: Path, env: str, found: dict, lives, settings: Settings, command: str) -> str:
    """The page and the figure in a folder -> the page."""
    import numpy as np

    from runs.adaptation.continual_report import figure, markdown
    from runs.engine import devices

    life, ground = lives.life, lives.ground
    some = next(iter(found.values()))["frozen"].scores["success"]
    metric = "success" if np.isfinite(some).all() else "return"
    batch = life.sizes.num_envs * life.sizes.num_steps
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    about = (
        f"{env}: {life.sizes.seeds} seeds, {life.school * batch:,} steps at home, "
        f"{life.stage * batch:,} in each world, {life.sizes.episodes} episodes a score.",
        f"`{command}`\n\n{machine}",
    )
    target.mkdir(parents=True, exist_ok=True)
    name = "life" if env == Settings.env else f"life-{env.replace(':', '_').replace('/', '_')}"
    text = markdown(found, ground, metric, life.looks, about)
    (target / f"{name}.md").write_text(text)
    steps = life.stage // life.looks * batch
    figure(found, ground, metric, life.looks, steps, target / f"{name}.png")
    return text


def folder(settings: Settings, env: str) -> Path:
    """Where the study lies: named by all settings that change a result."""
    from runs.engine.custom_head import file_digests
    from runs.report.tb_export import safe_name

    if settings.out is not None:
        return settings.out
    mark = fingerprint(settings, leave_out=("out", "config", "record"))
    return Path("runs/logs/life") / "-".join((safe_name(env), mark, *file_digests(settings.heads)))


if __name__ == "__main__":
    run_main(main)
