"""One arm in a jitted world: what a study asks of a trainer, as compiled functions."""

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from envs.suite import Point, Suite
from envs.world import Env, World, begin, rollout
from runs.asking.survey import EPISODES, survey
from runs.harness.arms import Arm
from runs.harness.evaluate import evaluate
from runs.harness.exam import Exam
from runs.harness.plan import Plan
from runs.harness.timeline import Episode, episode_length, told
from runs.harness.train import (
    QUICK,
    SEEDS,
    Learner,
    Run,
    Setup,
    new_run,
    over_seeds,
    seed_keys,
    train,
)

DRAWS = 16  # worlds drawn for a shift that draws
TOGETHER = 128  # environments, of all the seeds a core trains at once, that still fit its cache


class Jitted:
    """Trains and scores S seeds of one arm.

    Args:
        suite: of jitted worlds.
        arm: what is trained.
        plan: sizes.
    """

    def __init__(self, suite: Suite, arm: Arm, plan: Plan):
        self.suite, self.arm, self.plan = suite, arm, plan
        self.setup = Setup(plan.agent, arm.blend, plan.num_envs, plan.num_steps)
        worlds = partial(_draw, suite) if arm.randomised else partial(_same, suite.world)
        build = partial(new_run, setup=self.setup, env=suite.env, worlds=worlds)
        step = partial(
            train, setup=self.setup, env=suite.env, worlds=worlds, num_updates=plan.updates
        )
        self._build = over_seeds(build, plan.rows, optimise=False)
        together = TOGETHER // plan.num_envs
        self._train = over_seeds(step, plan.rows, optimise=plan.optimise, together=together)

    def prepare(self) -> "Jitted":
        """Compiles what trains, so that the first chunk need not."""
        self._train.lower(self.start()).compile()
        return self

    def start(self) -> Run:
        """All seeds before their first step."""
        return self._build(seed_keys(self.plan.base, np.arange(self.plan.rows)))

    def resume(self, run: Run) -> None:
        """Nothing outside the run has to be brought back."""

    def chunk(self, run: Run, stopped: Callable[[], bool]) -> tuple[Run, dict, jax.Array]:
        """A chunk of updates -> (run, metrics [S], sound [S, U, sources])."""
        del stopped
        return self._train(run)

    def score(
        self, run: Run, done: int, stopped: Callable[[], bool], exam: Exam | None = None
    ) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
        """Each point of an exam from the `done`-th on, with scores [S]; by default in public."""
        del stopped
        exam = exam or Exam(self.suite)
        draws = min(DRAWS, self.plan.episodes)
        k_worlds, k_episodes = exam.keys(self.plan.base)
        worlds = exam.suite.worlds(k_worlds, draws)
        plan, env = self.plan, self.suite.env
        scoring = _scorer(plan.agent, env, plan.rows, plan.episodes // draws, plan.optimise)
        scores = scoring(run.learner.agent, worlds, k_episodes)
        scores = {name: np.asarray(score) for name, score in scores.items()}
        for i, point in list(enumerate(exam.suite.points()))[done:]:
            yield point, {name: score[:, i] for name, score in scores.items()}

    def ask(self, run: Run, stopped: Callable[[], bool]) -> dict[str, np.ndarray]:
        """What the arm's signals know in public, each [S, P, ...] (`runs.asking.survey.survey`)."""
        del stopped
        draws = min(DRAWS, self._asked)
        k_worlds, k_episodes = Exam(self.suite).keys(self.plan.base)
        made = seed_keys(self.plan.base + 7, np.arange(self.plan.rows))
        told = self._asking(run.learner, made, self.suite.worlds(k_worlds, draws), k_episodes)
        return {name: np.asarray(leaf) for name, leaf in told.items()}

    @functools.cached_property
    def _asking(self) -> Callable:
        each = self._asked // min(DRAWS, self._asked)
        asking = partial(survey, setup=self.setup, env=self.suite.env, episodes=each)
        return over_seeds(asking, self.plan.rows, shared=2, optimise=self.plan.optimise)

    @property
    def _asked(self) -> int:
        return min(EPISODES, self.plan.episodes)

    def film(self, run: Run) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        world = self.suite.world
        _, states, batch, felt = self._live(run, world)
        length = episode_length(batch)
        felt = np.asarray(felt)[:length, 0]
        frames = draw(self.suite.env, world, states, length)
        return frames, {name: felt[:, k] for k, name in enumerate(self.arm.blend.names)}

    def timeline(self, run: Run, point: int = 0) -> Episode:
        """One episode of the first seed at a point, with what its heads and its critic say."""
        k_worlds, _ = Exam(self.suite).keys(self.plan.base)
        world = jax.tree.map(lambda leaf: leaf[point, 0], self.suite.worlds(k_worlds, 1))
        learner, states, batch, _ = self._live(run, world)
        frames = draw(self.suite.env, world, states, episode_length(batch))
        return told(self.setup, learner, batch, frames, self.suite.env.success)

    def _live(self, run: Run, world: World):
        """One horizon of the first seed -> (its learner, states, transitions, signals)."""
        learner = jax.tree.map(lambda leaf: leaf[0], run.learner)
        return learner, *self._recording(world, learner, jax.random.key(self.plan.base + 3))

    @functools.cached_property
    def _recording(self) -> Callable:
        return jax.jit(partial(live, self.setup, self.suite.env), compiler_options=QUICK)

    def close(self) -> None:
        """Nothing is open."""


def draw(env: Env, world: World, states: Any, length: int) -> np.ndarray:
    """Pictures [T, H, W, 3] of the first environment's states [T, B, ...]."""
    canvas, frames = env.render_init(world.params), []
    states = jax.tree.map(lambda leaf: np.asarray(leaf[:length, 0]), states)
    for t in range(length):
        state = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        canvas, frame = env.render_image(state, canvas, world.params)
        frames.append(frame)
    return np.stack(frames)


@functools.cache
def _scorer(agent: Any, env: Env, rows: int, episodes: int, optimise: bool) -> Callable:
    """One compiled program for all arms whose agents have the same shapes."""
    score = partial(_score, agent=agent, env=env, episodes=episodes)
    return over_seeds(score, rows, shared=2, optimise=optimise)


def _score(agent_state, worlds, key, *, agent, env, episodes):
    return evaluate(agent_state, agent, env, worlds, key, episodes, SEEDS)


def _same(world: World, key: jax.Array) -> World:
    return world


def _draw(suite: Suite, key: jax.Array) -> World:
    return suite.randomised(suite.world, 1.0, key)


def live(
    setup: Setup, env: Env, world: World, learner: Learner, key: jax.Array, greedy: bool = True
):
    """The states [T, B, ...], transitions [T, B] and signals [T, B, K] of one horizon."""
    k_begin, k_live = jax.random.split(key)
    worlds = partial(_same, world)

    def act(key, obs):
        return setup.agent.act(learner.agent, None if greedy else key, obs)

    def step(lives, key):
        after, batch = rollout(key, env, worlds, act, lives, 1)
        return after, (lives.state, jax.tree.map(lambda leaf: leaf[0], batch))

    lives = begin(k_begin, env, worlds, setup.num_envs)
    _, (states, batch) = jax.lax.scan(step, lives, jax.random.split(k_live, env.horizon))
    return states, batch, setup.blend.feel(learner.feelings, batch)[0]
