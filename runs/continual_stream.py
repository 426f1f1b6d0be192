"""Learners along a stream of changing worlds, on every arm and schedule of the task reward.

First they are trained at home, on the task reward, and the heads with them. Then follow the stages
of the stream, one world each, without a reset of policy, critic or optimiser between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd

from envs.suite import Suite
from runs.analysis.transfer_metrics import last_return
from runs.cli.study import Job
from runs.engine.config import head_epochs
from runs.engine.evaluate import draw_points
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.presets import find_suite, preset, smoke_suite
from runs.engine.seeds import Stream, seed_keys, stream_key
from runs.engine.train import Learner
from runs.errors import UserError
from runs.names import checked_choice
from runs.signal_arms import FROZEN, SignalArm, available_heads, signal_arms, signal_blend
from runs.study_run import StudyDesign, StudyRun, run_configs
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
class ContinualDesign(StudyDesign):
    """Everything that the study runs; `further` is a stage, of `chunks` evaluations.

    Attributes:
        names: of the W worlds, home first.
        stages: [T] the stream, as indices of worlds.
        schedules: of the task reward.
        arms: reward mixes.
    """

    names: tuple[str, ...]
    stages: tuple[int, ...]
    schedules: tuple[str, ...]
    arms: tuple[SignalArm, ...]


def make_design(settings: Any) -> ContinualDesign:
    """The design that these settings define.

    The agent in the stream is that at home at its first step size, which is constant: the length of
    the stream is not known to the agent. Tried beforehand in Drive, with 4 seeds: that step size,
    .3 and .1 of it, of which `plain` learned most at the first with the task reward on; and all
    arms without task reward at .3 of it, through stages of 49,000 and 66,000 steps.

    Raises:
        UserError: for an unknown environment, head or shift, a stream in which no world comes
            back, or a suite of one shift.
    """
    suite = find_suite(settings.env, **settings.env_options())
    stream = _stream(suite, settings.stream)
    names = tuple(dict.fromkeys(stream))
    shifts = tuple(next(s for s in suite.shifts if s.name == name) for name in names)
    suite = replace(suite, shifts=shifts, severities=(1.0,))
    suite = smoke_suite(suite) if settings.smoke else suite
    sizes = preset(suite)
    steps = sizes.steps, settings.steps or round(STAGE_SHARE * sizes.steps)
    chunks = HOME_CHUNKS, 1 if settings.smoke or not sizes.jitted else EVALS
    episodes = settings.episodes or sizes.episodes // 2
    home, stage = run_configs(settings, suite, steps, chunks, episodes, smoke_updates=(2, 1))
    stage = replace(stage, agent=replace(stage.agent, anneal=0))
    heads = available_heads(suite, settings.heads)
    blend = signal_blend(heads, suite, home.agent).with_epochs(head_epochs(home))
    kept = SignalArm("old_critic", critic_kept=True)
    arms = (FROZEN, SignalArm("plain"), kept, *signal_arms(heads, blend, home.agent.gamma))
    stages = tuple(1 + names.index(name) for name in stream)
    return ContinualDesign(suite, home, stage, blend, (HOME, *names), stages, settings.pay, arms)


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


class StreamRun(StudyRun):
    """The study in its folder.

    Attributes:
        design: of the study.
        pools: worlds [N] of home and of each shift, from which an episode draws one.
        points: at which all arms are evaluated, home first.
    """

    def __init__(self, design: ContinualDesign, job: Job):
        super().__init__(job, design.suite.env, design.home)
        self.design, base = design, design.home.base
        worlds = design.suite.worlds(stream_key(base, Stream.TRAINING_WORLDS), POOL)
        self.pools = [flat_worlds(worlds, [i]) for i in range(len(design.names))]
        self.points = draw_points(design.suite, self.backend.draws, base)

    def run(self) -> pd.DataFrame:
        """Run every arm under every schedule, or load its saved result.

        Returns:
            A row per schedule, arm, seed, time and world, in this order: SCORES, and whether the
            seed is `alive` to the end. Time 0 is before the stream, then evaluations are counted.
            An arm that does not learn is run once and listed under each schedule.

        Raises:
            Interrupted: if a stop is requested; finished streams are kept.
        """
        design, home, stage = self.design, self.home, self.design.further
        streams = [(arm, schedule) for schedule in design.schedules for arm in design.arms]
        updates = len(design.stages) * stage.chunks * stage.updates
        runs = 1 + sum(arm.learns for arm, _ in streams)
        self.progress.total = home.chunks * home.updates + runs * updates
        self.progress.say(
            f"{design.suite.name}: {home.seeds} seeds, {runs} runs through "
            f"{', '.join(design.names[w] for w in design.stages)}, {stage.steps:,} steps each "
            f"-> {self.out}"
        )
        learner, alive = self.train_at_home(self.pools[0], design.blend, self.out / "at_home")
        digest = leaves_digest((self.pools, self.points.worlds))
        tables, saved = [], {}
        for arm, schedule in streams:
            name = f"{arm.name}-{schedule}" if arm.learns else arm.name
            if name not in saved:
                compute = partial(self.run_stream, learner, arm, schedule)
                saved[name] = self.part(name, digest, updates, compute)
            tables.append(pd.DataFrame(saved[name]).assign(schedule=schedule, arm=arm.name))
        table = pd.concat(tables, ignore_index=True)
        return table.assign(alive=table["alive"] & alive[table["seed"]])

    def run_stream(self, learner: Learner, arm: SignalArm, schedule: str) -> dict[str, list]:
        """Train and evaluate one arm along the stream -> columns (`run`).

        Heads keep learning only with the schedule `always`: otherwise they would learn from a task
        reward that the agent does not get.
        """
        design, stage = self.design, self.design.further
        key = stream_key(self.home.base, Stream.LATER_PHASES)
        mix = arm.mix(design.blend, task_weights(schedule, stage.num_envs))
        heads = "learn" if schedule == "always" else "frozen"
        rows, alive = [self.score(learner)], np.ones(stage.rows, bool)
        for i, world in enumerate(design.stages if arm.learns else ()):
            renew, pool = arm.renew if i == 0 else (), world_pool(self.pools[world])
            phase = Phase(pool, 1, stage.updates, stage.agent, design.blend, mix, heads, renew)
            keys = seed_keys(jax.random.fold_in(key, i), range(stage.rows))
            start = partial(self.backend.enter, learner, phase, keys)
            name = f"{arm.name}, {schedule}"
            trained, scores = self.train_and_measure(name, phase, start, stage.chunks, self.score)
            learner, alive, rows = trained.state.learner, alive & trained.alive, rows + scores
        if not arm.learns:
            rows *= 1 + len(design.stages) * stage.chunks
        scores = {name: np.stack([row[name] for row in rows], 1) for name in SCORES}
        seed, time, place = (axis.ravel() for axis in np.indices(scores["success"].shape))
        columns = {"seed": seed, "time": time, "world": np.array(design.names)[place]}
        columns |= {"alive": alive[seed]} | {name: x.ravel() for name, x in scores.items()}
        return {name: column.tolist() for name, column in columns.items()}

    def score(self, learner: Learner) -> dict[str, np.ndarray]:
        """Scores [S, W] in every world, the same episodes each time."""
        scored = self.scores(learner, self.points)
        return {name: np.stack([score[name] for score in scored], 1) for name in SCORES}
