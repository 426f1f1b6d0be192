"""Learners along a stream of changing worlds, on every arm and schedule of the task reward.

First they are trained at home, on the task reward, and the heads with them. Then follow the stages
of the stream, one world each, without a reset of policy, critic or optimiser between them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd

from affect import Blend
from envs.suite import Suite
from envs.world import World
from runs.analysis.transfer_metrics import last_return
from runs.cli.study import Job
from runs.engine.backend import make_backend
from runs.engine.cache import cached_part
from runs.engine.checkpoint import Checkpoints
from runs.engine.config import RunConfig, head_epochs, make_run_config
from runs.engine.evaluate import EvalPoints, draw_points
from runs.engine.jax_backend import DRAWS
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.presets import find_suite, preset, smoke_suite
from runs.engine.seeds import Stream, seed_keys, stream_key
from runs.engine.train import Learner
from runs.engine.training_loop import Trained, run_phase
from runs.errors import Interrupted, UserError
from runs.names import checked_choice, safe_name
from runs.signal_arms import (
    AT_HOME,
    FROZEN,
    SignalArm,
    available_heads,
    signal_arms,
    signal_blend,
    with_parent_critic,
)
from runs.tree_io import leaves_digest

HOME = "home"
DEFAULT_STREAM = ("cones", "ice", "cross", "cones")
STAGE_SHARE = 0.17  # steps of a stage, as a share of those at home
EVALS = 3  # evaluations a stage; 1 in host environments, where they take longer than training
HOME_CHUNKS = 4  # of the training at home
POOL = 64  # worlds of a stage, from which each episode draws one
RARE_EVERY = 8  # schedule `rare`: the task reward is on in one environment out of so many
SCORES = ("success", "return", "terminated", "harm")  # that are kept of an evaluation


@dataclass(frozen=True)
class Design:
    """Everything that the study runs.

    Attributes:
        suite: with the shifts of the stream, each once, at full severity.
        names: of the W worlds, home first.
        stages: [T] the stream, as indices of worlds.
        schedules: of the task reward.
        home: sizes at home.
        stage: sizes of a stage: `chunks` evaluations, with as many updates before each.
        blend: of all heads.
        arms: reward mixes.
    """

    suite: Suite
    names: tuple[str, ...]
    stages: tuple[int, ...]
    schedules: tuple[str, ...]
    home: RunConfig
    stage: RunConfig
    blend: Blend
    arms: tuple[SignalArm, ...]


def make_design(settings: Any) -> Design:
    """The design that these settings define.

    The agent in the stream is that at home at its first step size, which is constant: the length of
    the stream is not known to the agent. Tried beforehand in Drive, with 4 seeds: that step size,
    .3 and .1 of it, of which `plain` learned most at the first with the task reward on; and all
    arms without task reward at .3 of it, through stages of 49,000 and 66,000 steps.

    Raises:
        UserError: for an unknown environment, head or shift, a stream in which no world comes
            back, or a suite of one shift.
    """
    suite = find_suite(settings.env)
    stream = _stream(suite, settings.stream)
    names = tuple(dict.fromkeys(stream))
    shifts = tuple(next(s for s in suite.shifts if s.name == name) for name in names)
    suite = replace(suite, shifts=shifts, severities=(1.0,))
    suite = smoke_suite(suite) if settings.smoke else suite
    sizes, seeds = preset(suite), settings.seeds
    num_envs, num_steps = sizes.num_envs, sizes.num_steps
    home_steps = sizes.steps
    steps = settings.steps or round(STAGE_SHARE * sizes.steps)
    episodes = settings.episodes or sizes.episodes // 2
    evals = 1 if settings.smoke or not sizes.jitted else EVALS
    if settings.smoke:
        seeds, num_envs, num_steps, episodes = 3, 4, 32, 4
        home_steps, steps = 2 * num_envs * num_steps, num_envs * num_steps
    common = {
        "seeds": seeds,
        "num_envs": num_envs,
        "num_steps": num_steps,
        "episodes": episodes,
        "draws": DRAWS if sizes.jitted else 1,
        "optimise": not settings.smoke,
    }
    home = make_run_config(sizes.agent, steps=home_steps, chunks=HOME_CHUNKS, **common)
    constant_rate = replace(sizes.agent, anneal=0)
    stage = make_run_config(constant_rate, steps=steps, chunks=evals, **common)
    heads = available_heads(suite, settings.heads)
    blend = signal_blend(heads, suite, home.agent).with_epochs(head_epochs(home))
    kept = SignalArm("old_critic", critic_kept=True)
    arms = (FROZEN, SignalArm("plain"), kept, *signal_arms(heads, blend, home.agent.gamma))
    stages = tuple(1 + names.index(name) for name in stream)
    return Design(suite, (HOME, *names), stages, settings.pay, home, stage, blend, arms)


def _stream(suite: Suite, requested: Sequence[str]) -> tuple[str, ...]:
    """Names of the shifts of the stream: those requested, or the default ones of the suite."""
    shifts = [shift.name for shift in suite.shifts]
    candidates = [name for name in shifts if "|" not in name][:3]
    if len(candidates) < 2:
        raise UserError(
            f"{suite.name}: a stream needs two shifts, and the suite has "
            f"{', '.join(candidates) or 'none'}: declare more, or choose another --env"
        )
    default = DEFAULT_STREAM if set(DEFAULT_STREAM) <= set(shifts) else ()
    example = default or (*candidates, *candidates[:1])
    stream = tuple(checked_choice("shift", name, shifts) for name in requested or example)
    try:
        last_return([stream.index(name) for name in stream])
    except ValueError:
        raise UserError(
            f"--stream {' '.join(stream)}: one world must come back after another, as in "
            f"{' '.join(example)}"
        ) from None
    return stream


def task_weights(schedule: str, num_envs: int) -> np.ndarray:
    """Task-reward weights [1, B] of a schedule; at least one 1 in the schedule `rare`."""
    count = {"always": num_envs, "rare": max(num_envs // RARE_EVERY, 1), "never": 0}[schedule]
    return (np.arange(num_envs)[None] < count).astype(np.float32)


class StreamRun(AbstractContextManager):
    """The study in its folder; a context manager that ends worker processes.

    Args:
        design: of the study.
        job: its folder, progress and stop flag.
    """

    def __init__(self, design: Design, job: Job):
        self.design, self.out = design, job.out
        self.progress, self.stopped = job.progress, job.stopped
        self.backend = make_backend(design.suite.env, design.home)
        base = design.home.base
        worlds = design.suite.worlds(stream_key(base, Stream.TRAINING_WORLDS), POOL)
        self.pools: list[World] = [flat_worlds(worlds, [i]) for i in range(len(design.names))]
        self.points: EvalPoints = draw_points(design.suite, self.backend.draws, base)
        self.digest = leaves_digest((self.pools, self.points.worlds))
        self.units = len(design.stages) * design.stage.chunks  # of a stream, and of home training

    def __exit__(self, *error: Any) -> None:
        self.backend.close()

    def run(self) -> pd.DataFrame:
        """Run every arm under every schedule, or load its saved result.

        Returns:
            A row per schedule, arm, seed, time and world, in this order: SCORES, and whether the
            seed is `alive` to the end. Time 0 is before the stream, then evaluations are counted.
            An arm that does not learn is run once and listed under each schedule.

        Raises:
            Interrupted: if a stop is requested; finished streams are kept.
        """
        design = self.design
        streams = [(arm, schedule) for schedule in design.schedules for arm in design.arms]
        runs = 1 + sum(arm.learns for arm, _ in streams)
        self.progress.total = self.units * (1 + runs)
        self.progress.say(
            f"{design.suite.name}: {design.home.seeds} seeds, {runs} runs through "
            f"{', '.join(design.names[w] for w in design.stages)}, {design.stage.steps:,} steps "
            f"each -> {self.out}"
        )
        (learner, alive), done = self.train_at_home(), self.units
        tables, saved = [], {}
        for arm, schedule in streams:
            name = f"{arm.name}-{schedule}" if arm.learns else arm.name
            if name not in saved:
                saved[name] = self.part(
                    name, partial(self.run_stream, learner, arm, schedule, done)
                )
                done += self.units
                self.progress.advance(name, done, False)
            tables.append(pd.DataFrame(saved[name]).assign(schedule=schedule, arm=arm.name))
        table = pd.concat(tables, ignore_index=True)
        return table.assign(alive=table["alive"] & alive[table["seed"]])

    def train_at_home(self) -> Trained:
        """Train at home, or restore -> the learners, with their critic in every `ParentCritic`."""
        design, home = self.design, self.design.home
        mix, pool = AT_HOME.mix(design.blend), world_pool(self.pools[0])
        phase = Phase(pool, home.chunks, home.updates, home.agent, design.blend, mix)

        def advance(chunks: int, fresh: bool = True) -> None:
            self.progress.advance("at home", self.units * chunks // home.chunks, fresh)

        trained = run_phase(
            self.backend,
            phase,
            partial(self.backend.init, phase),
            self.stopped,
            Checkpoints(self.out / "at_home", keep=1, warn=self.progress.say),
            partial(advance, fresh=False),
            lambda chunk: advance(chunk.index + 1),
        )
        return trained._replace(state=with_parent_critic(trained.state.learner, design.blend))

    def part(self, name: str, compute: Any) -> dict:
        """Columns of a finished stream from its file, computed if there is none."""
        if self.stopped():
            raise Interrupted
        path = self.out / "parts" / f"{safe_name(name)}.json"
        return cached_part(path, self.digest, lambda: {"columns": compute()})[0]["columns"]

    def run_stream(
        self, learner: Learner, arm: SignalArm, schedule: str, done: int
    ) -> dict[str, list]:
        """Train and evaluate one arm along the stream -> columns (`run`).

        Heads keep learning only with the schedule `always`: otherwise they would learn from a task
        reward that the agent does not get.
        """
        design, stage = self.design, self.design.stage
        key = stream_key(design.home.base, Stream.LATER_PHASES)
        mix = arm.mix(design.blend, task_weights(schedule, stage.num_envs))
        heads = "learn" if schedule == "always" else "frozen"
        rows, alive = [self.score(learner)], np.ones(stage.rows, bool)
        for i, world in enumerate(design.stages):
            renew = arm.renew if i == 0 else ()
            pool = world_pool(self.pools[world])
            phase = Phase(pool, 1, stage.updates, stage.agent, design.blend, mix, heads, renew)
            keys = seed_keys(jax.random.fold_in(key, i), range(stage.rows))
            start = partial(self.backend.enter, learner, phase, keys)
            for j in range(stage.chunks):
                if arm.learns:
                    trained = run_phase(self.backend, phase, start, self.stopped)
                    learner, alive = trained.state.learner, alive & trained.alive
                    start = partial(_same, trained.state)
                rows.append(self.score(learner) if arm.learns else rows[0])
                self.progress.advance(arm.name, done + i * stage.chunks + j + 1)
        return self.columns(rows, alive)

    def score(self, learner: Learner) -> dict[str, np.ndarray]:
        """Scores [S, W] in every world, the same episodes each time."""
        agent, seeds = self.design.home.agent, self.design.home.seeds
        scored = list(self.backend.evaluate(learner, agent, self.points, self.stopped))
        return {name: np.stack([s[name][:seeds] for s in scored], 1) for name in SCORES}

    def columns(self, rows: Sequence[dict[str, np.ndarray]], alive: np.ndarray) -> dict[str, list]:
        """Evaluations in the order of time as columns, a row per seed, time and world."""
        scores = {name: np.stack([row[name] for row in rows], 1) for name in SCORES}
        seed, time, world = (axis.ravel() for axis in np.indices(scores["success"].shape))
        columns = {"seed": seed, "time": time, "world": np.array(self.design.names)[world]}
        columns |= {"alive": alive[seed]} | {name: x.ravel() for name, x in scores.items()}
        return {name: column.tolist() for name, column in columns.items()}


def _same(state: Any) -> Any:
    """The state itself, as the start of a phase that goes on."""
    return state
