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
from runs.harness.train import Run, Setup, new_run, over_seeds, seed_keys, train

DRAWS = 16  # worlds drawn for a shift that draws


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
        self._build, self._train = over_seeds(build, plan.rows), over_seeds(step, plan.rows)

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
        scoring = _scorer(plan.agent, env, plan.rows, plan.episodes // draws)
        scores = scoring(run.learner.agent, worlds, jax.random.key(self.plan.base + 2))
        scores = {name: np.asarray(score) for name, score in scores.items()}
        for i, point in list(enumerate(self.suite.points()))[done:]:
            yield point, {name: score[:, i] for name, score in scores.items()}

    def film(self, run: Run) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        env, learner = self.suite.env, jax.tree.map(lambda leaf: leaf[0], run.learner)
        worlds = partial(_same, self.suite.world)
        k_begin, k_live = jax.random.split(jax.random.key(self.plan.base + 3))
        act = partial(_mode, self.setup, learner)
        lives = begin(k_begin, env, worlds, self.plan.num_envs)
        states, batch = _record(k_live, env, worlds, act, lives)
        signals, _ = self.arm.blend.feel(learner.feelings, batch)
        ended = np.asarray(batch.terminated | batch.truncated)[:, 0]
        states = jax.tree.map(lambda leaf: np.asarray(leaf[: ended.argmax() + 1, 0]), states)
        frames = draw(env, self.suite.world, states, length=int(ended.argmax()) + 1)
        named = {n: np.asarray(signals[:, 0, k]) for k, n in enumerate(self.arm.blend.names)}
        return frames, {name: signal[: len(frames)] for name, signal in named.items()}

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
def _scorer(agent: Any, env: Env, rows: int, episodes: int) -> Callable:
    """One compiled program for all arms whose agents have the same shapes."""
    return over_seeds(partial(_score, agent=agent, env=env, episodes=episodes), rows, shared=2)


def _score(agent_state, worlds, key, *, agent, env, episodes):
    return evaluate(agent_state, agent, env, worlds, key, episodes)


def _same(world: World, key: jax.Array) -> World:
    return world


def _draw(suite: Suite, key: jax.Array) -> World:
    return suite.randomised(suite.world, 1.0, key)


def _mode(setup: Setup, learner: Any, key: jax.Array, obs: jax.Array) -> jax.Array:
    return setup.agent.act(learner.agent, None, obs)


def _record(key, env, worlds, act, lives):
    """The states [T, B, ...] and transitions [T, B] of one horizon."""

    def step(lives, key):
        after, batch = rollout(key, env, worlds, act, lives, 1)
        return after, (lives.state, jax.tree.map(lambda leaf: leaf[0], batch))

    return jax.lax.scan(step, lives, jax.random.split(key, env.horizon))[1]
