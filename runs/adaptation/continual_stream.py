"""Train learners along a stream of changing worlds, with one compiled program for every reward mix.

First they are trained at home, on the task reward, and the heads with them. Then follow the stages
of the stream, one world each, without a reset of policy, critic or optimiser between them. The
reward mix is data (`runs.adaptation.reward_mix.RewardMix`), so all arms run the same program.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend
from envs.suite import Suite
from envs.world import World
from runs.adaptation.control_heads import insert_critic
from runs.adaptation.jax_learners import LearnerSizes, never_stop
from runs.adaptation.reward_arms import RewardArm
from runs.adaptation.reward_mix import RewardMix
from runs.adaptation.suite_lookup import make_learners
from runs.engine.checkpoint import Checkpoints
from runs.engine.jax_backend import DRAWS
from runs.engine.train import Learner, RunnerState

CHUNKS = 4  # of the training at home
POOL = 64  # worlds of a stage, from which each episode draws one
RARE_EVERY = 8  # schedule `rare`: the task reward is on in one environment out of so many
SCHEDULES = ("always", "rare", "never")
HOME = "home"


@dataclass(frozen=True)
class StreamSizes:
    """Lengths of training and numbers of evaluations.

    Attributes:
        home_updates: updates at home, a multiple of CHUNKS.
        stage_updates: updates in each stage, a multiple of `evals`.
        evals: evaluations in a stage, the last one at its end.
        learners: numbers of learners, environments, steps and episodes.
    """

    home_updates: int
    stage_updates: int
    evals: int
    learners: LearnerSizes


class StreamWorlds(NamedTuple):
    """Worlds of a stream, to train and to evaluate in.

    Attributes:
        names: of W worlds, home first, each once.
        stages: [T] columns of the worlds of the stream.
        pools: W pools of worlds [N] to train in.
        tests: worlds [W, draws] to evaluate in, other draws than those of the pools.
    """

    names: tuple[str, ...]
    stages: tuple[int, ...]
    pools: tuple[World, ...]
    tests: World


class StreamResult(NamedTuple):
    """Scores and success rates of one arm along the stream, for S seeds.

    Attributes:
        scores: name -> [S, M, W], at M = 1 + T evals times: before the stream, then at each
            evaluation.
        success: share of training episodes [S, T evals] that succeeded.
        finite: [S] whether all numbers were finite.
    """

    scores: dict[str, np.ndarray]
    success: np.ndarray
    finite: np.ndarray

    def to_json(self) -> dict:
        """The result as a dict of lists, for a JSON file."""
        scores = {name: score.tolist() for name, score in self.scores.items()}
        return {"scores": scores, "success": self.success.tolist(), "finite": self.finite.tolist()}

    @classmethod
    def from_json(cls, data: dict) -> "StreamResult":
        """The result from the dict that `to_json` made."""
        scores = {name: np.array(score) for name, score in data["scores"].items()}
        return cls(scores, np.array(data["success"]), np.array(data["finite"], bool))


def make_stream_worlds(
    suite: Suite, stream: Sequence[str], episodes: int, base: int
) -> StreamWorlds:
    """Sample the worlds of home and of a stream of shifts at full severity."""
    names = list(dict.fromkeys(stream))
    shifts = tuple(next(shift for shift in suite.shifts if shift.name == name) for name in names)
    sub_suite = replace(suite, shifts=shifts, severities=(1.0,))
    train_worlds = sub_suite.worlds(jax.random.key(base + 4), POOL)
    tests = sub_suite.worlds(jax.random.key(base + 1), min(DRAWS, episodes))
    pools = tuple(
        jax.tree.map(lambda leaf, i=i: leaf[i], train_worlds) for i in range(1 + len(names))
    )
    return StreamWorlds(
        (HOME, *names), tuple(1 + names.index(name) for name in stream), pools, tests
    )


def task_weights(schedule: str, num_envs: int) -> jax.Array:
    """Task-reward weights [1, B] of a schedule; at least one 1 in the schedule `rare`."""
    index = jnp.arange(num_envs)[None]
    count = {"always": num_envs, "rare": max(num_envs // RARE_EVERY, 1), "never": 0}[schedule]
    return (index < count).astype(jnp.float32)


class StreamRunner:
    """Train S learners at home, then along the stream on any arm and schedule of the task reward.

    Args:
        suite: of worlds, jitted or host-stepped.
        home_agent: the agent at home.
        agent: the agent in the stream; as `home_agent`, but for its step size.
        blend: the heads.
        sizes: lengths of training and numbers of evaluations.
        worlds: to train and to evaluate in.
    """

    def __init__(
        self,
        suite: Suite,
        home_agent: Any,
        agent: Any,
        blend: Blend,
        sizes: StreamSizes,
        worlds: StreamWorlds,
    ):
        self.sizes, self.worlds = sizes, worlds
        self.home_learners = make_learners(suite.env, home_agent, blend, sizes.learners)
        self.learners = self.home_learners.with_agent(agent)

    def reward_mix(self, arm: RewardArm, schedule: str) -> RewardMix:
        """Reward mix of an arm under a schedule of the task reward."""
        mix = self.learners.reward_mix(arm.signal_weights, sham=arm.sham)
        return mix._replace(task_weight=task_weights(schedule, self.sizes.learners.num_envs))

    def train_at_home(
        self, saved: Checkpoints, stopped: Callable[[], bool]
    ) -> tuple[Learner | None, bool]:
        """Train at home on the task reward, or restore -> (learner, whether it was trained now).

        The heads learn too; the critic at the end becomes the one of every `ParentCritic`. The
        learner is None if a stop is requested between chunks.

        Raises:
            Interrupted: if a stop is requested inside a chunk.
        """
        pool = self.worlds.pools[0]
        run = self.home_learners.init(pool)
        restored = saved.restore(run.learner)
        if restored is not None:
            return restored[1], False
        mix = self.reward_mix(RewardArm("home", {}), "always")
        updates = max(self.sizes.home_updates // CHUNKS, 1)
        for _ in range(CHUNKS):
            if stopped():
                return None, True
            run, _ = self.home_learners.train(run, pool, mix, updates, True, stopped)
        blend_state, critic = run.learner.blend_state, run.learner.agent.train_state.net.critic
        blend_state = insert_critic(blend_state, self.home_learners.blend, critic)
        learner = run.learner._replace(blend_state=blend_state)
        saved.save(self.sizes.home_updates, learner)
        return learner, True

    def run_stream(
        self,
        learner: Learner,
        arm: RewardArm,
        schedule: str,
        report: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> StreamResult | None:
        """Train and evaluate one arm along the stream; None if a stop is requested.

        Heads keep learning only with the schedule `always`: otherwise they would learn from a task
        reward that the agent does not get.

        Raises:
            Interrupted: if a stop is requested between two evaluations.
        """
        key, seeds = jax.random.key(self.sizes.learners.base + 6), self.sizes.learners.seeds
        mix, evals = self.reward_mix(arm, schedule), self.sizes.evals
        run = self.learners.transfer_renewed(
            RunnerState(learner, None, None, None), self.worlds.pools[0], key, arm.critic_kept
        )
        scores, success, finite = [self.score(run, stopped)], [], np.ones(seeds, bool)
        for i, world in enumerate(self.worlds.stages):
            pool = self.worlds.pools[world]
            run = self.learners.transfer(run, pool, jax.random.fold_in(key, i))
            for j in range(evals):
                if stopped():
                    return None
                if arm.learns:
                    updates = self.sizes.stage_updates // evals
                    heads_learn = schedule == "always"
                    run, sums = self.learners.train(run, pool, mix, updates, heads_learn, stopped)
                    sums = jax.tree.map(lambda leaf: np.asarray(leaf)[:seeds].sum(1), sums)
                    success.append(sums.success / np.maximum(sums.episodes, 1))
                    finite &= sums.finite == updates
                scores.append(self.score(run, stopped) if arm.learns else scores[0])
                report(1 + i * evals + j)
        stacked = {name: np.stack([row[name] for row in scores], 1) for name in scores[0]}
        return StreamResult(
            stacked, np.stack(success, 1) if success else np.zeros((seeds, 0)), finite
        )

    def score(
        self, run: RunnerState, stopped: Callable[[], bool] = never_stop
    ) -> dict[str, np.ndarray]:
        """Scores [S, W] in every world, the same episodes each time."""
        key = jax.random.key(self.sizes.learners.base + 2)
        results = self.learners.score(run.learner.agent, self.worlds.tests, key, stopped)
        names = ("success", "return", "terminated", "harm")
        return {name: results[name][: self.sizes.learners.seeds] for name in names}

    def time_estimate(self, runs: int) -> str | None:
        """Message with the time of home training and so many streams; None where unknown."""
        sizes, stages = self.sizes, len(self.worlds.stages)
        updates = sizes.home_updates + runs * stages * sizes.stage_updates
        points = runs * (1 + stages * sizes.evals) * len(self.worlds.names)
        return self.home_learners.time_estimate(self.worlds.pools[0], updates, points)

    def close(self) -> None:
        """Close the learners."""
        self.home_learners.close()
