"""One arm in a jitted world: what a study asks of a trainer, as compiled functions."""

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from envs.suite import Point, Suite
from envs.world import Env, World, reset_batch, rollout
from runs.engine.arms import Arm
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.evaluate import evaluate
from runs.engine.run_config import RunConfig
from runs.engine.train import (
    FAST_COMPILE,
    SEED_AXIS,
    Learner,
    RunnerState,
    TrainConfig,
    init_runner,
    seed_keys,
    train,
    vmap_seeds,
)
from runs.probes.probe import EPISODES, probe_learner
from runs.report.episode_trace import EpisodeTrace, episode_length, trace_episode

DRAWS = 16  # worlds drawn for a shift that draws
ENVS_AT_ONCE = 128  # environments, of all the seeds a core trains at once, that still fit its cache


class JaxBackend:
    """Trains and scores S seeds of one arm.

    Args:
        suite: of jitted worlds.
        arm: what is trained.
        run_config: sizes.
    """

    def __init__(self, suite: Suite, arm: Arm, run_config: RunConfig):
        self.suite, self.arm, self.run_config = suite, arm, run_config
        self.config = TrainConfig(
            run_config.agent, arm.blend, run_config.num_envs, run_config.num_steps
        )
        worlds = (
            partial(_random_world, suite)
            if arm.randomised
            else partial(_constant_world, suite.world)
        )
        build = partial(init_runner, config=self.config, env=suite.env, worlds=worlds)
        step = partial(
            train, config=self.config, env=suite.env, worlds=worlds, num_updates=run_config.updates
        )
        self._build = vmap_seeds(build, run_config.rows, optimise=False)
        together = ENVS_AT_ONCE // run_config.num_envs
        self._train = vmap_seeds(
            step, run_config.rows, optimise=run_config.optimise, together=together
        )

    def prepare(self) -> "JaxBackend":
        """Compiles what trains, so that the first chunk need not."""
        self._train.lower(self.start()).compile()
        return self

    def start(self) -> RunnerState:
        """All seeds before their first step."""
        return self._build(seed_keys(self.run_config.base, np.arange(self.run_config.rows)))

    def resume(self, run: RunnerState) -> None:
        """Nothing outside the run has to be brought back."""

    def chunk(
        self, run: RunnerState, stopped: Callable[[], bool]
    ) -> tuple[RunnerState, dict, jax.Array]:
        """A chunk of updates -> (run, metrics [S], sound [S, U, sources])."""
        del stopped
        return self._train(run)

    def score(
        self,
        run: RunnerState,
        done: int,
        stopped: Callable[[], bool],
        exam: EvalProtocol | None = None,
    ) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
        """Each point of an exam from the `done`-th on, with scores [S]; by default in public."""
        del stopped
        exam = exam or EvalProtocol(self.suite)
        draws = min(DRAWS, self.run_config.episodes)
        k_worlds, k_episodes = exam.keys(self.run_config.base)
        worlds = exam.suite.worlds(k_worlds, draws)
        run_config, env = self.run_config, self.suite.env
        scoring = _compiled_evaluate(
            run_config.agent,
            env,
            run_config.rows,
            run_config.episodes // draws,
            run_config.optimise,
        )
        scores = scoring(run.learner.agent, worlds, k_episodes)
        scores = {name: np.asarray(score) for name, score in scores.items()}
        for i, point in list(enumerate(exam.suite.points()))[done:]:
            yield point, {name: score[:, i] for name, score in scores.items()}

    def ask(self, run: RunnerState, stopped: Callable[[], bool]) -> dict[str, np.ndarray]:
        """What the arm's signals know in public, each [S, P, ...] (`runs.probes.probe.probe_learner`)."""
        del stopped
        draws = min(DRAWS, self._asked)
        k_worlds, k_episodes = EvalProtocol(self.suite).keys(self.run_config.base)
        made = seed_keys(self.run_config.base + 7, np.arange(self.run_config.rows))
        told = self._asking(run.learner, made, self.suite.worlds(k_worlds, draws), k_episodes)
        return {name: np.asarray(leaf) for name, leaf in told.items()}

    @functools.cached_property
    def _asking(self) -> Callable:
        each = self._asked // min(DRAWS, self._asked)
        asking = partial(probe_learner, config=self.config, env=self.suite.env, episodes=each)
        return vmap_seeds(asking, self.run_config.rows, shared=2, optimise=self.run_config.optimise)

    @property
    def _asked(self) -> int:
        return min(EPISODES, self.run_config.episodes)

    def film(self, run: RunnerState) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        world = self.suite.world
        _, states, batch, felt = self._live(run, world)
        length = episode_length(batch)
        felt = np.asarray(felt)[:length, 0]
        frames = render_states(self.suite.env, world, states, length)
        return frames, {name: felt[:, k] for k, name in enumerate(self.arm.blend.names)}

    def timeline(self, run: RunnerState, point: int = 0) -> EpisodeTrace:
        """One episode of the first seed at a point, with what its heads and its critic say."""
        k_worlds, _ = EvalProtocol(self.suite).keys(self.run_config.base)
        world = jax.tree.map(lambda leaf: leaf[point, 0], self.suite.worlds(k_worlds, 1))
        learner, states, batch, _ = self._live(run, world)
        frames = render_states(self.suite.env, world, states, episode_length(batch))
        return trace_episode(self.config, learner, batch, frames, self.suite.env.success)

    def _live(self, run: RunnerState, world: World):
        """One horizon of the first seed -> (its learner, states, transitions, signals)."""
        learner = jax.tree.map(lambda leaf: leaf[0], run.learner)
        return learner, *self._recording(world, learner, jax.random.key(self.run_config.base + 3))

    @functools.cached_property
    def _recording(self) -> Callable:
        return jax.jit(
            partial(record_horizon, self.config, self.suite.env), compiler_options=FAST_COMPILE
        )

    def close(self) -> None:
        """Nothing is open."""


def render_states(env: Env, world: World, states: Any, length: int) -> np.ndarray:
    """Pictures [T, H, W, 3] of the first environment's states [T, B, ...]."""
    canvas, frames = env.render_init(world.params), []
    states = jax.tree.map(lambda leaf: np.asarray(leaf[:length, 0]), states)
    for t in range(length):
        state = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        canvas, frame = env.render_image(state, canvas, world.params)
        frames.append(frame)
    return np.stack(frames)


@functools.cache
def _compiled_evaluate(agent: Any, env: Env, rows: int, episodes: int, optimise: bool) -> Callable:
    """One compiled program for all arms whose agents have the same shapes."""
    score = partial(_evaluate, agent=agent, env=env, episodes=episodes)
    return vmap_seeds(score, rows, shared=2, optimise=optimise)


def _evaluate(agent_state, worlds, key, *, agent, env, episodes):
    return evaluate(agent_state, agent, env, worlds, key, episodes, SEED_AXIS)


def _constant_world(world: World, key: jax.Array) -> World:
    return world


def _random_world(suite: Suite, key: jax.Array) -> World:
    return suite.randomised(suite.world, 1.0, key)


def record_horizon(
    config: TrainConfig,
    env: Env,
    world: World,
    learner: Learner,
    key: jax.Array,
    greedy: bool = True,
):
    """The states [T, B, ...], transitions [T, B] and signals [T, B, K] of one horizon."""
    k_begin, k_live = jax.random.split(key)
    worlds = partial(_constant_world, world)

    def act(key, obs):
        return config.agent.act(learner.agent, None if greedy else key, obs)

    def step(env_states, key):
        after, batch = rollout(key, env, worlds, act, env_states, 1)
        return after, (env_states.state, jax.tree.map(lambda leaf: leaf[0], batch))

    env_states = reset_batch(k_begin, env, worlds, config.num_envs)
    _, (states, batch) = jax.lax.scan(step, env_states, jax.random.split(k_live, env.horizon))
    return states, batch, config.blend.feel(learner.blend_state, batch)[0]
