"""A life in changing worlds: what is kept, what is lost, and what is different the second time?

An agent learns at home, and its feelings form beside it. Then its road changes, again and again
(cones, ice, cross traffic, cones), and it lives on: policy, critic and optimiser go from world to
world, and nobody tells it that anything changed. The task pays always, or rarely (one environment
in eight), or never; feelings are paid on top, the last step of an episode included, and the arms
are those of `runs.unpaid`. In every world it is scored all along. Who mends one thing and breaks
the last plays ping-pong; in the second visit to a world memory and feeling part: memory is what is
left of the first visit, a feeling is what can teach it anew. Interrupted, the same command goes
on.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from runs.adapting.anywhere import HEADS, refuse_unknown
from runs.harness.config import (
    as_typed,
    choose,
    exit_cleanly,
    fingerprint,
    parse,
    refuse_few_seeds,
    refuse_negative,
    refuse_recorded_part,
)
from runs.harness.errors import UserError

COMMAND = "python -m runs.life"
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
    settings = parse(Settings, argv, __doc__ or "", prog=COMMAND)
    check(settings)
    from runs.harness.watch import watched

    command = as_typed(COMMAND, argv)
    return watched(command, partial(study, settings, command))


def check(settings: Settings) -> None:
    """Refuses what can be refused without importing jax.

    Raises:
        UserError: for a world that is unknown, terms or a head that are unknown, missing or named
            twice, a number out of range, or a part that is recorded.
    """
    refuse_unknown(settings.env)
    for flag in ("pay", "heads"):
        given = getattr(settings, flag)
        if not given or len(set(given)) < len(given):
            raise UserError(f"--{flag} {' '.join(given)}: name at least one, and each once")
    for pay in settings.pay:
        choose("terms", pay, Settings.pay)
    refuse_few_seeds(settings)
    refuse_negative(settings, "steps", "episodes")
    refuse_recorded_part(settings)


def study(settings, command, progress, stopped) -> int:
    """All lives in this process; the exit code."""
    from runs.harness import devices

    devices.prepare()
    from envs.host_pool import HostFailure
    from runs.adapting.stream import Lives
    from runs.harness.lock import hold
    from runs.harness.watch import Interrupted

    suite, arms, plan = design(settings)
    lives = Lives(suite, *plan)
    out = folder(settings, suite.name)
    try:
        with hold(out), closing(lives):
            found = live(lives, arms, settings, out, progress, stopped)
        if found is None:
            return 0
        progress.close()
        for target in [out] + ([RESULTS] if settings.record else []):
            text = write(target, suite.name, found, lives, settings, command)
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
    """What these settings ask for -> (suite, arms, what `runs.adapting.stream.Lives` takes more).

    The agent of the stream is that of `runs.harness.recipes` at its first step size, which does
    not fall: a life does not know how long it is. Looked at beforehand in Drive, with 4 seeds: that
    step size, .3 and .1 of it, of which `plain` learned most at the first where the task pays; and
    all arms unpaid at .3 of it, through stages of 49,000 and 66,000 steps.

    Raises:
        UserError: for an unknown environment, head or shift, a stream that never comes back, or a
            suite of one shift.
    """
    import jax

    from envs import jitted
    from runs.adapting.adapt import Sizes
    from runs.adapting.anywhere import shortened, suite_of
    from runs.adapting.arms import blend, felt_in, life_arms
    from runs.adapting.stream import CHUNKS, Life, grounds
    from runs.adapting.transfer import return_of
    from runs.harness.jitted import DRAWS
    from runs.harness.recipes import recipe

    suite, ours = suite_of(settings.env), jitted(settings.env)
    known = [shift.name for shift in suite.shifts]
    first = [name for name in known if "|" not in name][:3]
    if len(first) < 2:
        raise UserError(
            f"{suite.name}: a stream needs two shifts to go between, and there is "
            f"{', '.join(first) or 'none'}: declare more, or choose another --env"
        )
    usual = USUAL if set(USUAL) <= set(known) else (*first, *first[:1])
    stream = tuple(choose("shift", name, known) for name in settings.stream or usual)
    try:
        return_of([stream.index(name) for name in stream])
    except ValueError:
        raise UserError(
            f"--stream {' '.join(stream)}: leave a world and come back, as in {' '.join(usual)}"
        ) from None
    sizes = recipe(settings.env, ours)
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
    life = Life(
        school=max(school // batch // CHUNKS, 1) * CHUNKS,
        stage=max(steps // batch // looks, 1) * looks,
        looks=looks,
        sizes=Sizes(seeds, rows, num_envs, num_steps, episodes, optimise=not settings.smoke),
    )
    heads = felt_in(suite, settings.heads)
    felt = blend(heads, suite, agent)
    at_school = replace(agent, anneal=life.school)
    ground = grounds(suite, stream, episodes, life.sizes.base)
    return suite, life_arms(heads, felt, agent.gamma), (at_school, agent, felt, life, ground)


def live(lives, arms, settings: Settings, out: Path, progress, stopped) -> dict | None:
    """Every arm's life on all terms, those that are kept included; None if it was asked to stop.

    Raises:
        Interrupted: if it was asked to stop inside a life.

    Returns:
        Terms -> arm -> `runs.adapting.stream.Lived`; whoever learns nothing is in all of them.
    """
    from runs.adapting.stream import Lived
    from runs.harness.board import safe
    from runs.harness.checkpoint import Checkpoints
    from runs.harness.parts import keep, kept
    from runs.harness.specialists import digest

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
    kind = digest((ground.pools, ground.tests))
    found: dict[str, dict] = {pay: {} for pay in settings.pay}
    for i, (arm, pay) in enumerate(parts, start=1):
        name = f"{arm.name}-{pay}" if arm.learns else arm.name
        path = out / "parts" / f"{safe(name)}.json"
        path.parent.mkdir(exist_ok=True)
        part = kept(path, kind)
        if part is None:
            report = partial(_report, progress, name, i * each)
            lived = lives.lived(learner, arm, pay, report, stopped)
            if lived is None:
                return None
            keep(path, lived.plain() | {"recipe": kind})
        else:
            progress.advance(name, (i + 1) * each, False)
        lived = Lived.of(kept(path, kind))
        for terms in (pay,) if arm.learns else settings.pay:
            found[terms][arm.name] = lived
    return found


def _report(progress, what: str, before: int, looks: int) -> None:
    progress.advance(what, before + looks)


def write(target: Path, env: str, found: dict, lives, settings: Settings, command: str) -> str:
    """The page and the figure in a folder -> the page."""
    import numpy as np

    from runs.adapting.life_page import figure, markdown
    from runs.harness import devices

    life, ground = lives.life, lives.ground
    some = next(iter(found.values()))["frozen"].scores["success"]
    metric = "success" if np.isfinite(some).all() else "return"
    batch = life.sizes.num_envs * life.sizes.num_steps
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe().items())
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
    from runs.harness.board import safe
    from runs.harness.own_head import digests

    if settings.out is not None:
        return settings.out
    mark = fingerprint(settings, leave_out=("out", "config", "record"))
    return Path("runs/logs/life") / "-".join((safe(env), mark, *digests(settings.heads)))


if __name__ == "__main__":
    exit_cleanly(main)
