"""One arm in a jitted world: what a study asks of a trainer, as compiled functions."""

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from envs.suite import Point, Suite
from envs.world import Env, World, begin, rollout
from runs.harness.arms import Arm
from runs.harness.evaluate import evaluate
from runs.harness.plan import Plan
from runs.harness.train import QUICK, Learner, Run, Setup, new_run, over_seeds, seed_keys, train

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
        self, run: Run, done: int, stopped: Callable[[], bool]
    ) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
        """Each point from the `done`-th on, with its scores [S]."""
        del stopped
        draws = min(DRAWS, self.plan.episodes)
        worlds = self.suite.worlds(jax.random.key(self.plan.base + 1), draws)
        plan, env = self.plan, self.suite.env
        scoring = _scorer(plan.agent, env, plan.rows, plan.episodes // draws, plan.optimise)
        scores = scoring(run.learner.agent, worlds, jax.random.key(self.plan.base + 2))
        scores = {name: np.asarray(score) for name, score in scores.items()}
        for i, point in list(enumerate(self.suite.points()))[done:]:
            yield point, {name: score[:, i] for name, score in scores.items()}

    def film(self, run: Run) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        env, learner = self.suite.env, jax.tree.map(lambda leaf: leaf[0], run.learner)
        record = partial(live, self.setup, env, self.suite.world)
        key = jax.random.key(self.plan.base + 3)
        states, batch, signals = jax.jit(record, compiler_options=QUICK)(learner, key)
        ended = np.asarray(batch.terminated | batch.truncated)[:, 0]
        length = int(ended.argmax()) + 1
        states = jax.tree.map(lambda leaf: np.asarray(leaf[:length, 0]), states)
        frames = draw(env, self.suite.world, states, length)
        signals = np.asarray(signals)[:length, 0]
        return frames, {name: signals[:, k] for k, name in enumerate(self.arm.blend.names)}

    def close(self) -> None:
        """Nothing is open."""


def draw(env: Env, world: World, states: Any, length: int) -> np.ndarray:
    """Pictures [T, H, W, 3] of states [T, ...]."""
    canvas = env.render_init(world.params)
    frames = []
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
    return evaluate(agent_state, agent, env, worlds, key, episodes)


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
