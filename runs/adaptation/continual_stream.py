"""A stream of worlds, and one learner who lives through it: one program for whatever it is paid.

It goes to school at home, where the task pays and its feelings form. Then comes one world after
another, a stage each, without an end or a beginning between them: policy, critic and optimiser go
on. What it is paid is data (`runs.adaptation.jax_learners.RewardMix`), so all arms are the same program.
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

CHUNKS = 4  # of the time at school
POOL = 64  # worlds of a stage, from which each episode draws one
RARE_EVERY = 8  # where pay is rare, one environment in so many is paid
SCHEDULES = ("always", "rare", "never")
HOME = "home"


@dataclass(frozen=True)
class StreamSizes:
    """How much of everything in a life.

    Attributes:
        school: updates at home, a multiple of CHUNKS.
        stage: updates in each world, a whole number of looks.
        looks: scores taken in a stage, one at its end.
        sizes: of learners and of scores.
    """

    school: int
    stage: int
    looks: int
    sizes: LearnerSizes


class StreamWorlds(NamedTuple):
    """Where it is lived, and where it is scored.

    Attributes:
        names: of W worlds, home first, each once.
        stages: [T] columns of the worlds of the stream.
        pools: W pools of worlds [N] to live in.
        tests: worlds [W, draws] to be scored in, others than those lived in.
    """

    names: tuple[str, ...]
    stages: tuple[int, ...]
    pools: tuple[World, ...]
    tests: World


class StreamResult(NamedTuple):
    """What a life came to.

    Attributes:
        scores: name -> [S, M, W], at M = 1 + T looks moments: before the stream, then at each look.
        success: share of episodes [S, T looks] that were a success while it learned.
        finite: [S] whether all of it was numbers.
    """

    scores: dict[str, np.ndarray]
    success: np.ndarray
    finite: np.ndarray

    def plain(self) -> dict:
        """The same in lists, as a file of JSON keeps it."""
        scores = {name: score.tolist() for name, score in self.scores.items()}
        return {"scores": scores, "success": self.success.tolist(), "finite": self.finite.tolist()}

    @classmethod
    def of(cls, plain: dict) -> "StreamResult":
        """What `plain` was of."""
        scores = {name: np.array(score) for name, score in plain["scores"].items()}
        return cls(scores, np.array(plain["success"]), np.array(plain["finite"], bool))


def make_stream_worlds(
    suite: Suite, stream: Sequence[str], episodes: int, base: int
) -> StreamWorlds:
    """The worlds of a stream of shifts at full severity, and home."""
    names = list(dict.fromkeys(stream))
    shifts = tuple(next(s for s in suite.shifts if s.name == name) for name in names)
    part = replace(suite, shifts=shifts, severities=(1.0,))
    lived = part.worlds(jax.random.key(base + 4), POOL)
    tests = part.worlds(jax.random.key(base + 1), min(DRAWS, episodes))
    pools = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], lived) for i in range(1 + len(names)))
    return StreamWorlds((HOME, *names), tuple(1 + names.index(n) for n in stream), pools, tests)


def paid_envs(pay: str, num_envs: int) -> jax.Array:
    """Which of B environments are paid, [1, B]; at least one where pay is rare."""
    environment = jnp.arange(num_envs)[None]
    count = {"always": num_envs, "rare": max(num_envs // RARE_EVERY, 1), "never": 0}[pay]
    return (environment < count).astype(jnp.float32)


class StreamRunner:
    """S learners, compiled once: to school, and through a stream on any terms.

    Args:
        suite: of worlds, jitted or host-stepped.
        school: the agent at home.
        agent: the agent in the stream; as `school`, but for its step size.
        blend: the feelings.
        life: sizes.
        ground: worlds.
    """

    def __init__(
        self,
        suite: Suite,
        school: Any,
        agent: Any,
        felt: Blend,
        life: StreamSizes,
        ground: StreamWorlds,
    ):
        self.life, self.ground = life, ground
        self.school = make_learners(suite.env, school, felt, life.sizes)
        self.learners = self.school.other(agent)

    def terms(self, arm: RewardArm, pay: str) -> RewardMix:
        """What an arm lives on."""
        terms = self.learners.terms(arm.weights, sham=arm.sham)
        return terms._replace(pay=paid_envs(pay, self.life.sizes.num_envs))

    def schooled(
        self, saved: Checkpoints, stopped: Callable[[], bool]
    ) -> tuple[Learner | None, bool]:
        """Whoever the task taught at home, while their feelings formed -> (they, whether just now).

        The critic that they had at the end is among their feelings from then on.

        Nobody, if it was asked to stop.

        Raises:
            Interrupted: if it was asked to stop inside a chunk.
        """
        pool = self.ground.pools[0]
        run = self.school.start(pool)
        restored = saved.restore(run.learner)
        if restored is not None:
            return restored[1], False
        terms = self.terms(RewardArm("school", {}), "always")
        each = max(self.life.school // CHUNKS, 1)
        for _ in range(CHUNKS):
            if stopped():
                return None, True
            run, _ = self.school.live(run, pool, terms, each, True, stopped)
        blend_state, critic = run.learner.blend_state, run.learner.agent.trained.net.critic
        blend_state = insert_critic(blend_state, self.school.blend, critic)
        learner = run.learner._replace(blend_state=blend_state)
        saved.save(self.life.school, learner)
        return learner, True

    def lived(
        self,
        learner: Learner,
        arm: RewardArm,
        pay: str,
        report: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> StreamResult | None:
        """A life on some terms, from the end of school on; None if it was asked to stop.

        Heads go on learning only where every episode is paid: elsewhere they would read a reward
        that nobody pays.

        Raises:
            Interrupted: if it was asked to stop between two looks.
        """
        key, seeds = jax.random.key(self.life.sizes.base + 6), self.life.sizes.seeds
        terms, looks = self.terms(arm, pay), self.life.looks
        run = self.learners.enter(
            RunnerState(learner, None, None, None), self.ground.pools[0], key, arm.critic_kept
        )
        scores, rates, finite = [self.score(run, stopped)], [], np.ones(seeds, bool)
        for i, world in enumerate(self.ground.stages):
            pool = self.ground.pools[world]
            run = self.learners.move(run, pool, jax.random.fold_in(key, i))
            for look in range(looks):
                if stopped():
                    return None
                if arm.learns:
                    every = self.life.stage // looks
                    heads_learn = pay == "always"
                    run, sums = self.learners.live(run, pool, terms, every, heads_learn, stopped)
                    sums = jax.tree.map(lambda leaf: np.asarray(leaf)[:seeds].sum(1), sums)
                    rates.append(sums.success / np.maximum(sums.episodes, 1))
                    finite &= sums.finite == every
                scores.append(self.score(run, stopped) if arm.learns else scores[0])
                report(1 + i * looks + look)
        joined = {name: np.stack([one[name] for one in scores], 1) for name in scores[0]}
        return StreamResult(joined, np.stack(rates, 1) if rates else np.zeros((seeds, 0)), finite)

    def score(
        self, run: RunnerState, stopped: Callable[[], bool] = never_stop
    ) -> dict[str, np.ndarray]:
        """Scores [S, W] in every world, the same episodes each time."""
        key = jax.random.key(self.life.sizes.base + 2)
        found = self.learners.score(run.learner.agent, self.ground.tests, key, stopped)
        wanted = ("success", "return", "terminated", "harm")
        return {name: found[name][: self.life.sizes.seeds] for name in wanted}

    def cost(self, lives: int) -> str | None:
        """How long school and so many lives will take, in words; None if nobody knows."""
        life, stages = self.life, len(self.ground.stages)
        updates = life.school + lives * stages * life.stage
        points = lives * (1 + stages * life.looks) * len(self.ground.names)
        return self.school.cost(self.ground.pools[0], updates, points)

    def close(self) -> None:
        """Ends what the learners have opened."""
        self.school.close()
