"""Train and score one arm in a host-stepped environment; the update is that of jitted worlds."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.host.pool import HostPool, HostStep
from envs.host.suite import HostEnv
from envs.shift import with_channel
from envs.suite import Point, Suite
from envs.world import World
from runs.engine.arms import Arm
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.host_evaluate import HostEvaluator
from runs.engine.host_step import (
    HostObservation,
    by_seed,
    choose_actions,
    compiled_stepper,
    observe_reset,
    observe_step,
)
from runs.engine.run_config import RunConfig
from runs.engine.train import (
    EpisodeStats,
    Learner,
    TrainConfig,
    finite_checks,
    init_learner,
    seed_keys,
    summary,
    update,
    update_stats,
    vmap_seeds,
    zero_stats,
)
from runs.probes.host_probe import probe_host_points
from runs.probes.probe import all_signals, probe_point
from runs.report.episode_trace import EpisodeTrace, trace_episode

FILM = 300  # most frames of a recorded episode


class HostRunnerState(NamedTuple):
    """Training state of all S seeds, leaves [S, ...]; `pool` is a snapshot of the environments."""

    learner: Learner
    host_obs: HostObservation
    episode_stats: EpisodeStats
    key: jax.Array
    pool: dict[str, np.ndarray]


class HostBackend:
    """Train and score S seeds of one arm in one pool of S x B host-stepped environments.

    Args:
        suite: of a `HostEnv`.
        arm: its heads.
        run_config: sizes.
    """

    def __init__(self, suite: Suite, arm: Arm, run_config: RunConfig):
        self.suite, self.arm, self.run_config = suite, arm, run_config
        self.host: HostEnv = suite.env
        self.config = config = TrainConfig(
            run_config.agent, arm.blend, run_config.num_envs, run_config.num_steps
        )
        self.channel = with_channel(suite.world).channel
        self.stepper = compiled_stepper(run_config.agent, self.host, run_config.rows)
        self._init_seeds = vmap_seeds(
            partial(reset_seed, config, self.host), run_config.rows, optimise=False
        )
        self._update_seeds = vmap_seeds(
            partial(update_seed, config, self.host), run_config.rows, optimise=run_config.optimise
        )
        self.pool = self._open(suite.world, run_config.rows * run_config.num_envs, run_config.base)
        self.evaluator = HostEvaluator(
            run_config.agent, self.host, run_config.rows, run_config.episodes
        )

    def start(self) -> HostRunnerState:
        """Initialise the training state of all seeds and reset the environments."""
        keys = seed_keys(self.run_config.base, np.arange(self.run_config.rows))
        host_obs = self.stepper.observe_reset(
            keys, by_seed(self.pool.reset(), self.run_config.rows), self.channel
        )
        learner, episode_stats, keys = self._init_seeds(keys)
        return HostRunnerState(learner, host_obs, episode_stats, keys, self.pool.snapshot())

    def resume(self, state: HostRunnerState) -> None:
        """Restore the environments of a restored training state from its snapshot."""
        self.pool.restore({name: np.asarray(leaf) for name, leaf in state.pool.items()})

    def chunk(
        self, state: HostRunnerState, stopped: Callable[[], bool]
    ) -> tuple[HostRunnerState, dict, np.ndarray]:
        """Roll out and update U times -> (state, metrics [S], finite [S, U, sources])."""
        rows = []
        for _ in range(self.run_config.updates):
            state, *row = self._rollout_and_update(state, stopped)
            rows.append(jax.tree.map(np.asarray, row))
        metrics, sums, finite = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)
        state = state._replace(pool=self.pool.snapshot())
        return state, jax.vmap(summary)(metrics, sums), finite

    def score(
        self,
        state: HostRunnerState,
        done: int,
        stopped: Callable[[], bool],
        protocol: EvalProtocol | None = None,
    ) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
        """Evaluate the points of a protocol from the `done`-th on; default: the public split."""
        protocol = protocol or EvalProtocol(self.suite)
        worlds, seed = (
            protocol.suite.worlds(protocol.keys(self.run_config.base)[0], 1),
            protocol.seed(self.run_config.base),
        )
        for i, point in list(enumerate(protocol.suite.points()))[done:]:
            world = jax.tree.map(lambda leaf, i=i: leaf[i, 0], worlds)
            yield point, self.evaluator.scores(state.learner, world, seed, stopped)

    def ask(self, state: HostRunnerState, stopped: Callable[[], bool]) -> dict[str, np.ndarray]:
        """Readouts of all signals at the public points, [S, P, ...] (`runs.probes.probe`)."""
        run_config, spec = self.run_config, self.host.spec
        untrained_keys = seed_keys(run_config.base + 7, np.arange(run_config.rows))
        probe = partial(probe_point, config=self.config, spec=spec)
        probe = vmap_seeds(
            probe, run_config.rows, shared=1, optimise=run_config.optimise, together=1
        )
        first_learner = jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.learner))
        signals = len(all_signals(first_learner, untrained_keys[0], self.config, spec)[0])
        inputs = state.learner, signals, self.evaluator, self.suite, run_config.base, stopped
        return probe_host_points(partial(probe, state.learner, untrained_keys), *inputs)

    def film(self, state: HostRunnerState) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Record an episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        learner, batch, frames = self._record_episode(state, self.suite.world)
        signals, _ = self.arm.blend.feel(learner.blend_state, batch)
        return frames, {n: np.asarray(signals[:, 0, k]) for k, n in enumerate(self.arm.blend.names)}

    def timeline(self, state: HostRunnerState, point: int = 0) -> EpisodeTrace:
        """Record an episode of the first seed at a point, with the signals of heads and critic."""
        k_worlds, _ = EvalProtocol(self.suite).keys(self.run_config.base)
        world = jax.tree.map(lambda leaf: leaf[point, 0], self.suite.worlds(k_worlds, 1))
        learner, batch, frames = self._record_episode(state, world)
        return trace_episode(self.config, learner, batch, frames, self.host.success)

    def _record_episode(
        self, state: HostRunnerState, world: World
    ) -> tuple[Learner, Transition, np.ndarray]:
        """Step and render one episode of seed 0 -> (learner, batch [T, B] of B copies, frames)."""
        learner = jax.tree.map(lambda leaf: leaf[0], state.learner)
        env = self.host.maker(world, render_mode="rgb_array")()
        channel, key = with_channel(world).channel, jax.random.key(self.run_config.base)
        choose = jax.jit(partial(choose_actions, self.run_config.agent, self.host, greedy=True))
        observe, frames, steps, done = jax.jit(partial(observe_step, self.host)), [], [], False
        try:
            obs, _ = env.reset(seed=self.run_config.base)
            host_obs = observe_reset(self.host, key, jnp.asarray(obs)[None], channel)
            while len(frames) < FILM and not done:
                frames.append(env.render())
                action, executed, host_obs = choose(key, learner, host_obs, channel, len(steps))
                obs, *step_arrays, _ = env.step(np.asarray(executed)[0])
                step_arrays = [np.asarray([part]) for part in (obs, obs, *step_arrays)]
                host_obs, transition = observe(
                    key, host_obs, action, HostStep(*step_arrays, {}), channel, len(steps)
                )
                steps.append(transition)
                done = bool(step_arrays[-2][0] or step_arrays[-1][0])
        finally:
            env.close()
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)
        copies = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.run_config.num_envs, 1), batch)
        return learner, copies, np.stack(frames)

    def close(self) -> None:
        """End the worker processes."""
        self.pool.close()
        self.evaluator.close()

    def _rollout_and_update(self, state: HostRunnerState, stopped: Callable[[], bool]):
        """Roll out a batch [S, T, B] and update all learners -> (state, metrics, sums, finite)."""
        inputs = self.pool, state.learner, state.host_obs, state.key, self.channel
        host_obs, batch = self.stepper.rollout(*inputs, self.run_config.num_steps, stopped)
        learner, episode_stats, key, *row = self._update_seeds(
            state.learner, state.episode_stats, batch, state.key
        )
        return state._replace(
            learner=learner, host_obs=host_obs, episode_stats=episode_stats, key=key
        ), *row

    def _open(self, world: World, num_envs: int, seed: int) -> HostPool:
        """Start a pool of `num_envs` environments of this world."""
        return HostPool(self.host.maker(world), num_envs, seed, name=self.host.id)


def reset_seed(
    config: TrainConfig, host: HostEnv, key: jax.Array
) -> tuple[Learner, EpisodeStats, jax.Array]:
    """Initialise one seed -> (learner, episode statistics, key)."""
    k_learner, key = jax.random.split(key)
    return init_learner(k_learner, config, host.spec), zero_stats(config.num_envs), key


def update_seed(
    config: TrainConfig,
    host: HostEnv,
    learner: Learner,
    episode_stats: EpisodeStats,
    batch: Transition,
    key: jax.Array,
):
    """Update one seed on a batch [T, B] -> (learner, stats, key, metrics, episode sums, finite)."""
    # The batch's steps folded in the numbers below 2 T; splitting a key is folding in 0, 1, ...
    k_update, key = jax.random.split(jax.random.fold_in(key, 2 * batch.reward.shape[0]))
    learner, metrics = update(config, learner, k_update, batch)
    episode_stats, sums = update_stats(episode_stats, batch, host.success)
    return learner, episode_stats, key, metrics, sums, finite_checks(learner, batch, metrics)
