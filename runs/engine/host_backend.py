"""One arm in a host-stepped environment: only the rollout differs, `update` is the jitted one."""

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

FILM = 300  # frames at most


class HostRunnerState(NamedTuple):
    """The training of all seeds. `pool` is where the environments are, to be played again."""

    learner: Learner
    host_obs: HostObservation
    episode_stats: EpisodeStats
    key: jax.Array
    pool: dict[str, np.ndarray]


class HostBackend:
    """Trains and scores S seeds of one arm, all in one pool of S x B environments.

    Args:
        suite: of a `HostEnv`.
        arm: what is trained.
        run_config: sizes.
    """

    def __init__(self, suite: Suite, arm: Arm, run_config: RunConfig):
        self.suite, self.arm, self.run_config = suite, arm, run_config
        self.host: HostEnv = suite.env
        self.config = config = TrainConfig(
            run_config.agent, arm.blend, run_config.num_envs, run_config.num_steps
        )
        self.channel = with_channel(suite.world).channel
        self.turn = compiled_stepper(run_config.agent, self.host, run_config.rows)
        self._begin = vmap_seeds(
            partial(reset_seed, config, self.host), run_config.rows, optimise=False
        )
        self._learn = vmap_seeds(
            partial(update_seed, config, self.host), run_config.rows, optimise=run_config.optimise
        )
        self.pool = self._open(suite.world, run_config.rows * run_config.num_envs, run_config.base)
        self.stage = HostEvaluator(
            run_config.agent, self.host, run_config.rows, run_config.episodes
        )

    def start(self) -> HostRunnerState:
        """All seeds before their first step."""
        keys = seed_keys(self.run_config.base, np.arange(self.run_config.rows))
        host_obs = self.turn.attend(
            keys, by_seed(self.pool.reset(), self.run_config.rows), self.channel
        )
        learner, episode_stats, keys = self._begin(keys)
        return HostRunnerState(learner, host_obs, episode_stats, keys, self.pool.snapshot())

    def resume(self, run: HostRunnerState) -> None:
        """Brings the environments back to where the run left them."""
        self.pool.restore({name: np.asarray(leaf) for name, leaf in run.pool.items()})

    def chunk(
        self, run: HostRunnerState, stopped: Callable[[], bool]
    ) -> tuple[HostRunnerState, dict, np.ndarray]:
        """A chunk of updates -> (run, metrics [S], sound [S, U, sources])."""
        rows = []
        for _ in range(self.run_config.updates):
            run, *row = self._update(run, stopped)
            rows.append(jax.tree.map(np.asarray, row))
        metrics, sums, finite = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)
        run = run._replace(pool=self.pool.snapshot())
        return run, jax.vmap(summary)(metrics, sums), finite

    def score(
        self,
        run: HostRunnerState,
        done: int,
        stopped: Callable[[], bool],
        exam: EvalProtocol | None = None,
    ) -> Iterator[tuple[Point, dict[str, np.ndarray]]]:
        """Each point of an exam from the `done`-th on, one by one; by default in public."""
        exam = exam or EvalProtocol(self.suite)
        worlds, seed = (
            exam.suite.worlds(exam.keys(self.run_config.base)[0], 1),
            exam.seed(self.run_config.base),
        )
        for i, point in list(enumerate(exam.suite.points()))[done:]:
            world = jax.tree.map(lambda leaf, i=i: leaf[i, 0], worlds)
            yield point, self.stage.scores(run.learner, world, seed, stopped)

    def ask(self, run: HostRunnerState, stopped: Callable[[], bool]) -> dict[str, np.ndarray]:
        """What the arm's signals know in public, each [S, P, ...] (`runs.probes.probe.probe_learner`)."""
        run_config, spec = self.run_config, self.host.spec
        made = seed_keys(run_config.base + 7, np.arange(run_config.rows))
        ask = partial(probe_point, config=self.config, spec=spec)
        ask = vmap_seeds(ask, run_config.rows, shared=1, optimise=run_config.optimise, together=1)
        first = jax.tree.map(lambda leaf: leaf[0], jax.device_get(run.learner))
        signals = len(all_signals(first, made[0], self.config, spec)[0])
        there = run.learner, signals, self.stage, self.suite, run_config.base, stopped
        return probe_host_points(partial(ask, run.learner, made), *there)

    def film(self, run: HostRunnerState) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One episode of the first seed -> (frames [T, H, W, 3], signals by name [T])."""
        learner, batch, frames = self._live_alone(run, self.suite.world)
        felt, _ = self.arm.blend.feel(learner.blend_state, batch)
        return frames, {n: np.asarray(felt[:, 0, k]) for k, n in enumerate(self.arm.blend.names)}

    def timeline(self, run: HostRunnerState, point: int = 0) -> EpisodeTrace:
        """One episode of the first seed at a point, with what its heads and its critic say."""
        k_worlds, _ = EvalProtocol(self.suite).keys(self.run_config.base)
        world = jax.tree.map(lambda leaf: leaf[point, 0], self.suite.worlds(k_worlds, 1))
        learner, batch, frames = self._live_alone(run, world)
        return trace_episode(self.config, learner, batch, frames, self.host.success)

    def _live_alone(
        self, run: HostRunnerState, world: World
    ) -> tuple[Learner, Transition, np.ndarray]:
        """One episode of the first seed where it can be drawn -> (its learner, [T, B], frames)."""
        learner = jax.tree.map(lambda leaf: leaf[0], run.learner)
        env = self.host.maker(world, render_mode="rgb_array")()
        channel, key = with_channel(world).channel, jax.random.key(self.run_config.base)
        turn = jax.jit(partial(choose_actions, self.run_config.agent, self.host, greedy=True))
        listen, frames, seen, done = jax.jit(partial(observe_step, self.host)), [], [], False
        try:
            obs, _ = env.reset(seed=self.run_config.base)
            host_obs = observe_reset(self.host, key, jnp.asarray(obs)[None], channel)
            while len(frames) < FILM and not done:
                frames.append(env.render())
                action, taken, host_obs = turn(key, learner, host_obs, channel, len(seen))
                obs, *told_of, _ = env.step(np.asarray(taken)[0])
                told_of = [np.asarray([part]) for part in (obs, obs, *told_of)]
                host_obs, transition = listen(
                    key, host_obs, action, HostStep(*told_of, {}), channel, len(seen)
                )
                seen.append(transition)
                done = bool(told_of[-2][0] or told_of[-1][0])
        finally:
            env.close()
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
        alike = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.run_config.num_envs, 1), batch)
        return learner, alike, np.stack(frames)

    def close(self) -> None:
        """Ends the worker processes."""
        self.pool.close()
        self.stage.close()

    def _update(self, run: HostRunnerState, stopped: Callable[[], bool]):
        there = self.pool, run.learner, run.host_obs, run.key, self.channel
        host_obs, batch = self.turn.batch(*there, self.run_config.num_steps, stopped)
        learner, episode_stats, key, *row = self._learn(
            run.learner, run.episode_stats, batch, run.key
        )
        return run._replace(
            learner=learner, host_obs=host_obs, episode_stats=episode_stats, key=key
        ), *row

    def _open(self, world: World, num_envs: int, seed: int) -> HostPool:
        return HostPool(self.host.maker(world), num_envs, seed, name=self.host.id)


def reset_seed(
    config: TrainConfig, host: HostEnv, key: jax.Array
) -> tuple[Learner, EpisodeStats, jax.Array]:
    """One seed before its first step."""
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
    """One seed's update on a batch [T, B] -> (learner, tally, key, metrics, sums, sound)."""
    # The steps of the batch used the numbers below 2 T, and splitting is folding in 0, 1, ...
    k_update, key = jax.random.split(jax.random.fold_in(key, 2 * batch.reward.shape[0]))
    learner, metrics = update(config, learner, k_update, batch)
    episode_stats, sums = update_stats(episode_stats, batch, host.success)
    return learner, episode_stats, key, metrics, sums, finite_checks(learner, batch, metrics)
