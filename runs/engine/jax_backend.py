"""Train and score one arm in jitted worlds, with everything compiled and `vmap`ped over seeds."""

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

DRAWS = 16  # worlds per point; equal ones if the shift is not random
ENVS_AT_ONCE = 128  # environments that a core steps at once, summed over seeds, to fit its cache


class JaxBackend:
    """Train and score S seeds of one arm in jitted worlds.

    Args:
        suite: of jitted worlds.
        arm: its heads, and whether it trains under domain randomisation.
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
        init = partial(init_runner, config=self.config, env=suite.env, worlds=worlds)
        step = partial(
            train, config=self.config, env=suite.env, worlds=worlds, num_updates=run_config.updates
        )
        self._init_seeds = vmap_seeds(init, run_config.rows, optimise=False)
        together = ENVS_AT_ONCE // run_config.num_envs
        self._train = vmap_seeds(
            step, run_config.rows, optimise=run_config.optimise, together=together
        )

    def prepare(self) -> "JaxBackend":
        """Compile the training program ahead of the first chunk."""
        self._train.lower(self.start()).compile()
        return self

    def start(self) -> RunnerState:
        """Initialise the training state of all seeds."""
        return self._init_seeds(seed_keys(self.run_config.base, np.arange(self.run_config.rows)))

    def resume(self, state: RunnerState) -> None:
        """Do nothing: all training state is in `state`."""

    def chunk(
        self, state: RunnerState, stopped: Callable[[], bool]
    ) -> tuple[RunnerState, dict, jax.Array]:
        """Roll out and update U times -> (state, metrics [S], finite [S, U, sources])."""
        del stopped
        return self._train(state)

    def score(
        self,
        state: RunnerState,
        done: int,
        stopped: Callable[[], bool],
        protocol: EvalProtocol | None = None,
    ) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
        """Evaluate the points of a protocol from the `done`-th on; default: the public split."""
        del stopped
        protocol = protocol or EvalProtocol(self.suite)
        draws = min(DRAWS, self.run_config.episodes)
        k_worlds, k_episodes = protocol.keys(self.run_config.base)
        worlds = protocol.suite.worlds(k_worlds, draws)
        run_config, env = self.run_config, self.suite.env
        evaluate_seeds = _compiled_evaluate(
            run_config.agent,
            env,
            run_config.rows,
            run_config.episodes // draws,
            run_config.optimise,
        )
        scores = evaluate_seeds(state.learner.agent, worlds, k_episodes)
        scores = {name: np.asarray(score) for name, score in scores.items()}
        for i, point in list(enumerate(protocol.suite.points()))[done:]:
            yield point, {name: score[:, i] for name, score in scores.items()}

    def ask(self, state: RunnerState, stopped: Callable[[], bool]) -> dict[str, np.ndarray]:
        """Readouts of all signals at the public points, [S, P, ...] (`runs.probes.probe`)."""
        del stopped
        draws = min(DRAWS, self._probe_episodes)
        k_worlds, k_episodes = EvalProtocol(self.suite).keys(self.run_config.base)
        untrained_keys = seed_keys(self.run_config.base + 7, np.arange(self.run_config.rows))
        readouts = self._probe_all(
            state.learner, untrained_keys, self.suite.worlds(k_worlds, draws), k_episodes
        )
        return {name: np.asarray(leaf) for name, leaf in readouts.items()}

    @functools.cached_property
    def _probe_all(self) -> Callable:
        """Compiled `probe_learner` over all seeds."""
        episodes = self._probe_episodes // min(DRAWS, self._probe_episodes)
        probe = partial(probe_learner, config=self.config, env=self.suite.env, episodes=episodes)
        return vmap_seeds(probe, self.run_config.rows, shared=2, optimise=self.run_config.optimise)

    @property
    def _probe_episodes(self) -> int:
        """Episodes per point that signals are probed on."""
        return min(EPISODES, self.run_config.episodes)

    def film(self, state: RunnerState) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Record an episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        world = self.suite.world
        _, states, batch, signals = self._record(state, world)
        length = episode_length(batch)
        signals = np.asarray(signals)[:length, 0]
        frames = render_states(self.suite.env, world, states, length)
        return frames, {name: signals[:, k] for k, name in enumerate(self.arm.blend.names)}

    def timeline(self, state: RunnerState, point: int = 0) -> EpisodeTrace:
        """Record an episode of the first seed at a point, with the signals of heads and critic."""
        k_worlds, _ = EvalProtocol(self.suite).keys(self.run_config.base)
        world = jax.tree.map(lambda leaf: leaf[point, 0], self.suite.worlds(k_worlds, 1))
        learner, states, batch, _ = self._record(state, world)
        frames = render_states(self.suite.env, world, states, episode_length(batch))
        return trace_episode(self.config, learner, batch, frames, self.suite.env.success)

    def _record(self, state: RunnerState, world: World):
        """Roll out one horizon of the first seed -> (learner, states, transitions, signals)."""
        learner = jax.tree.map(lambda leaf: leaf[0], state.learner)
        return learner, *self._record_horizon(
            world, learner, jax.random.key(self.run_config.base + 3)
        )

    @functools.cached_property
    def _record_horizon(self) -> Callable:
        """Compiled `record_horizon` of this arm."""
        return jax.jit(
            partial(record_horizon, self.config, self.suite.env), compiler_options=FAST_COMPILE
        )

    def close(self) -> None:
        """Do nothing: no resources are open."""


def render_states(env: Env, world: World, states: Any, length: int) -> np.ndarray:
    """Render frames [T, H, W, 3] of environment 0 from states [T, B, ...]."""
    canvas, frames = env.render_init(world.params), []
    states = jax.tree.map(lambda leaf: np.asarray(leaf[:length, 0]), states)
    for t in range(length):
        state = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        canvas, frame = env.render_image(state, canvas, world.params)
        frames.append(frame)
    return np.stack(frames)


@functools.cache
def _compiled_evaluate(agent: Any, env: Env, rows: int, episodes: int, optimise: bool) -> Callable:
    """Compile `evaluate` over seeds; cached, so that arms with agents of equal shapes share it."""
    score = partial(_evaluate, agent=agent, env=env, episodes=episodes)
    return vmap_seeds(score, rows, shared=2, optimise=optimise)


def _evaluate(agent_state, worlds, key, *, agent, env, episodes):
    """Call `evaluate` with the argument order and axis name of `vmap_seeds`."""
    return evaluate(agent_state, agent, env, worlds, key, episodes, SEED_AXIS)


def _constant_world(world: World, key: jax.Array) -> World:
    """Return `world` for every episode key."""
    return world


def _random_world(suite: Suite, key: jax.Array) -> World:
    """Draw a world from the suite's domain randomisation at full severity."""
    return suite.randomised(suite.world, 1.0, key)


def record_horizon(
    config: TrainConfig,
    env: Env,
    world: World,
    learner: Learner,
    key: jax.Array,
    greedy: bool = True,
):
    """Roll out one horizon -> (states [T, B, ...], transitions [T, B], signals [T, B, K])."""
    k_reset, k_steps = jax.random.split(key)
    worlds = partial(_constant_world, world)

    def act(key, obs):
        return config.agent.act(learner.agent, None if greedy else key, obs)

    def step(env_states, key):
        next_states, batch = rollout(key, env, worlds, act, env_states, 1)
        return next_states, (env_states.state, jax.tree.map(lambda leaf: leaf[0], batch))

    env_states = reset_batch(k_reset, env, worlds, config.num_envs)
    _, (states, batch) = jax.lax.scan(step, env_states, jax.random.split(k_steps, env.horizon))
    return states, batch, config.blend.feel(learner.blend_state, batch)[0]
