"""Backend of host-stepped environments: rollout by `host_step`, updates as of jitted worlds.

The environments of all seeds are stepped by one pool of worker processes, which is kept from phase
to phase and from arm to arm. A state holds a snapshot of them: a state that is not the last one is
continued by replaying the actions of its episodes under way.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Transition
from envs.host.pool import HostPool
from envs.host.results import HostStep
from envs.host.stepping import choose_workers, measured_seconds, stepping_line
from envs.host.suite import HostEnv
from envs.shift import with_channel
from envs.world import World
from runs.engine.config import RunConfig
from runs.engine.evaluate import EvalPoints
from runs.engine.host_evaluate import HostEvaluator
from runs.engine.host_step import (
    HostObservation,
    HostStepper,
    by_seed,
    changes_nothing,
    choose_actions,
    observe_reset,
    observe_step,
)
from runs.engine.jax_backend import agent_key, train_config
from runs.engine.phases import Phase, RewardMix, Sampler, carry_over
from runs.engine.seeds import (
    Stream,
    stream_key,
    stream_keys,
    stream_seed,
    take_seeds,
    vmap_seeds,
)
from runs.engine.train import (
    EpisodeStats,
    Learner,
    TrainConfig,
    finite_checks,
    init_learner,
    select_leaves,
    summaries,
    update,
    update_stats,
    zero_stats,
)
from runs.errors import UserError

FILM = 300  # most frames of a recorded episode
GROUPED_ENVS = 512  # environments in which points are scored side by side, at most
PROBED_KEYS = 4  # keys at which a sampler must return the same world


class HostRunnerState(NamedTuple):
    """Training state of all S seeds.

    Attributes:
        learner: agent and heads, leaves [S, ...].
        host_obs: last observations, leaves [S, ...].
        episode_stats: of the running episodes, [S, B] each.
        key: [S].
        pool: snapshot of the S x B environments (`envs.host.pool.HostPool.snapshot`).
        world: in which the environments are.
        seed: of their episodes.
    """

    learner: Learner
    host_obs: HostObservation
    episode_stats: EpisodeStats
    key: jax.Array
    pool: dict[str, np.ndarray]
    world: World
    seed: int

    def where(self, alive: np.ndarray, old: "HostRunnerState") -> "HostRunnerState":
        """This state for the seeds that are `alive` [S], `old` for the others; one pool."""
        selected = select_leaves(alive, tuple(self[:4]), tuple(old[:4]))
        return HostRunnerState(*selected, self.pool, self.world, self.seed)

    def one_seed(self, seed: int) -> "HostRunnerState":
        """Slice of one seed: leaves [1, ...], and its B environments."""
        parts = take_seeds(tuple(self[:4]), slice(seed, seed + 1))
        count = self.host_obs.first.shape[1]
        rows = slice(seed * count, (seed + 1) * count)
        pool = {name: leaf[rows] for name, leaf in self.pool.items()}
        return HostRunnerState(*parts, pool, self.world, self.seed)


class HostBackend:
    """Trains, evaluates and records S seeds in one pool of S x B host-stepped environments.

    See `runs.engine.backend.Backend`.

    Args:
        env: the environment.
        run_config: sizes.
    """

    draws = 1  # a shift of a host environment samples nothing
    block: int | None = None  # seeds that a device computes together (`vmap_seeds`)
    free = ("['actions']",)  # the longer an episode without a limit, the more actions a state holds

    def __init__(self, env: HostEnv, run_config: RunConfig):
        count = run_config.rows * run_config.num_envs
        if (env.workers or 0) > count:
            raise UserError(
                f"workers={env.workers}: more than the {count} environments of {env.id} "
                f"({run_config.rows} seeds x {run_config.num_envs}); use at most {count}"
            )
        self.env, self.run_config = env, run_config
        self._pool: HostPool | None = None
        self._current: dict | None = None  # the snapshot that equals the present state of the pool
        self._evaluators: dict[Any, HostEvaluator] = {}
        self._programs: dict[Any, Callable] = {}
        self._steppers: dict[Any, HostStepper] = {}

    @property
    def stepping(self) -> str:
        """Where the environments are stepped, in one line; measures a step's time if need be."""
        count = self.run_config.rows * self.run_config.num_envs
        return stepping_line(self.env, count, self._step_seconds)

    def init(self, phase: Phase, keys: jax.Array | None = None) -> HostRunnerState:
        """Untrained learners, in environments reset in the phase's world."""
        program = partial(_init, config=train_config(phase, self.run_config), env=self.env)
        return self._reset(phase, keys, self._over_seeds(program, optimise=False))

    def enter(
        self, learner: Learner, phase: Phase, keys: jax.Array | None = None
    ) -> HostRunnerState:
        """Trained learners at the beginning of a phase, in environments reset in its world."""
        config = train_config(phase, self.run_config)
        program = partial(_enter, config=config, env=self.env, phase=phase)
        program = self._over_seeds(program, optimise=False)
        return self._reset(phase, keys, partial(program, learner))

    def prepare(self, phase: Phase) -> None:
        """Do nothing: stepping takes longer than compiling."""

    def train(
        self, state: HostRunnerState, phase: Phase, first: int, stopped: Callable[[], bool]
    ) -> tuple[HostRunnerState, dict, np.ndarray]:
        """Train a chunk of a phase -> (state, metrics [S], finite [S, U, sources]).

        Raises:
            Interrupted: if a stop is requested.
        """
        state = self._restore(state, phase)
        channel, stepper = with_channel(state.world).channel, self._stepper(phase.agent)
        update_seeds, rows = self.updating(phase, state.learner), []
        learner, host_obs, episode_stats, keys = state[:4]
        teacher = () if phase.teacher is None else phase.teacher.state
        for mix in phase.mixes(first):
            inputs = self._pool, learner, host_obs, keys, channel
            host_obs, batch = stepper.rollout(*inputs, self.run_config.num_steps, stopped)
            learner, episode_stats, keys, *row = update_seeds(
                learner, episode_stats, batch, keys, teacher, mix
            )
            rows.append(row)
        rows = jax.tree.map(np.asarray, rows)
        metrics, sums, finite = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)
        state = HostRunnerState(
            learner, host_obs, episode_stats, keys, self._snapshot(), state.world, state.seed
        )
        return state, summaries(metrics, sums), finite

    def evaluate(
        self,
        learner: Learner,
        agent: Any,
        points: EvalPoints,
        stopped: Callable[[], bool],
        first: int = 0,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Scores [S] at each point from the `first` on.

        Points that differ in their disturbances alone are scored side by side.

        Raises:
            Interrupted: if a stop is requested.
        """
        rows, episodes, done = self.run_config.rows, self.run_config.episodes, 0
        for group in point_groups(self._worlds(points), GROUPED_ENVS // (rows * episodes)):
            done += len(group)
            if done > first:
                evaluator = self._evaluator(agent, episodes, len(group))
                scores = evaluator.scores(*_side_by_side(learner, group), points.seed, stopped)
                for i in range(max(first - done + len(group), 0), len(group)):
                    yield {name: x[i * rows : (i + 1) * rows] for name, x in scores.items()}

    def record(
        self,
        learner: Learner,
        agent: Any,
        points: EvalPoints,
        stopped: Callable[[], bool],
        episodes: int,
    ) -> Iterator[tuple[Transition, np.ndarray]]:
        """Whole episodes at each point -> (transitions, alive), each [S, T, B].

        Raises:
            Interrupted: if a stop is requested.
        """
        evaluator = self._evaluator(agent, episodes)
        for world in self._worlds(points):
            yield evaluator.episodes(learner, world, points.seed, stopped)

    def record_batches(
        self, state: HostRunnerState, phase: Phase, number: int, stopped: Callable[[], bool]
    ) -> Transition:
        """Batches [S, N, T, B] of each seed's policy in its present world, without training.

        Raises:
            Interrupted: if a stop is requested.
        """
        state = self._restore(state, phase)
        recording_keys = jax.vmap(partial(stream_key, stream=Stream.RECORDING))
        channel, stepper = with_channel(state.world).channel, self._stepper(phase.agent)
        host_obs, keys, batches = state.host_obs, recording_keys(state.key), []
        for _ in range(number):
            inputs = self._pool, state.learner, host_obs, keys, channel
            host_obs, batch = stepper.rollout(*inputs, self.run_config.num_steps, stopped)
            batches.append(batch)
            keys = recording_keys(keys)
        return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *batches)

    def film(
        self, learner: Learner, agent: Any, world: World, seed: int
    ) -> tuple[Transition, np.ndarray]:
        """One episode of the first seed -> (transitions [T, B] of B copies, frames)."""
        learner = take_seeds(learner, 0)
        env = self.env.maker(world, render_mode="rgb_array")()
        channel, key = with_channel(world).channel, jax.random.key(seed)
        choose = self._one_choice(agent, learner)
        observe, frames, steps, done = jax.jit(partial(observe_step, self.env)), [], [], False
        try:
            obs, _ = env.reset(seed=seed)
            host_obs = observe_reset(self.env, key, jnp.asarray(obs)[None], channel)
            while len(frames) < FILM and not done:
                frames.append(env.render())
                action, executed, host_obs = choose(key, host_obs, channel, len(steps))
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
        return copies, np.stack(frames)

    def _one_choice(self, agent: Any, learner: Learner) -> Callable:
        """Choice of actions of one seed by the mode of its policy, as `choose_actions`."""
        choose = jax.jit(partial(choose_actions, agent, self.env, greedy=True))
        return lambda key, *inputs: choose(key, learner, *inputs)

    def close(self) -> None:
        """End the worker processes; the next reset or evaluation starts new ones."""
        for evaluator in self._evaluators.values():
            evaluator.close()
        if self._pool is not None:
            self._pool.close()
        self._pool, self._current = None, None

    # --- environments ---------------------------------------------------------------------------

    def _reset(self, phase: Phase, keys: jax.Array | None, start: Callable) -> HostRunnerState:
        """Reset the environments in a phase's world, and gather the state of training."""
        if phase.per_seed or phase.numbers:
            raise UserError(
                f"{self.env.id}: all seeds of a host-stepped environment have the same worlds, "
                "rewards and agent; train those that differ in phases of their own"
            )
        run_config, world = self.run_config, only_world(self.env, phase.worlds)
        if keys is None:
            keys = stream_keys(run_config, Stream.TRAINING)
        seed = stream_seed(keys[0], Stream.HOST_EPISODES)
        self._move(world, seed)
        obs = by_seed(self._pool.reset(), run_config.rows)
        host_obs = self._stepper(phase.agent).observe_reset(keys, obs, with_channel(world).channel)
        learner, episode_stats, keys = start(keys)
        return HostRunnerState(
            learner, host_obs, episode_stats, keys, self._snapshot(), world, seed
        )

    @cached_property
    def _step_seconds(self) -> float | None:
        """Time of a step of one environment, measured once."""
        return measured_seconds(self.env)

    def _move(self, world: World, seed: int) -> None:
        """Move the environments to a world, starting the worker processes if there are none."""
        make = self.env.maker(world)
        if self._pool is None or self._pool.closed:
            count = self.run_config.rows * self.run_config.num_envs
            workers = choose_workers(self.env, count, self._step_seconds)
            options = {"name": self.env.id, "workers": workers, "timeout": self.env.timeout}
            self._pool = HostPool(make, count, seed, **options)
        else:
            self._pool.remake(make, seed)

    def _restore(self, state: HostRunnerState, phase: Phase) -> HostRunnerState:
        """Bring the environments to a state, unless they are still in it -> the state.

        Environments that are not reproducible begin new episodes, and so does the state.
        """
        if self._current is not state.pool:
            self._move(state.world, int(state.seed))
            obs = self._pool.restore({name: np.asarray(x) for name, x in state.pool.items()})
            if not self.env.reproducible:
                inputs = state.key, by_seed(obs, self.run_config.rows)
                channel = with_channel(state.world).channel
                host_obs = self._stepper(phase.agent).observe_reset(*inputs, channel)
                zero = jax.tree.map(jnp.zeros_like, state.episode_stats)
                state = state._replace(host_obs=host_obs, episode_stats=zero)
        self._current = None
        return state

    def _snapshot(self) -> dict[str, np.ndarray]:
        """Snapshot of the present state of all environments."""
        self._current = self._pool.snapshot()
        return self._current

    # --- programs -------------------------------------------------------------------------------

    def _stepper(self, agent: Any, points: int = 1) -> HostStepper:
        """Policies and channels of an agent in the worlds of some points side by side."""
        key = agent_key(agent), points
        if key not in self._steppers:
            sizes = points * self.run_config.rows, self.run_config.optimise
            self._steppers[key] = HostStepper(agent, self.env, *sizes)
        return self._steppers[key]

    def _evaluator(self, agent: Any, episodes: int, points: int = 1) -> HostEvaluator:
        """Evaluator of an agent at some points side by side, with worker processes of its own."""
        key = agent_key(agent), episodes, points
        if key not in self._evaluators:
            sizes = points * self.run_config.rows, episodes
            workers = choose_workers(self.env, sizes[0] * sizes[1], self._step_seconds)
            stepper = self._stepper(agent, points)
            self._evaluators[key] = HostEvaluator(stepper, self.env, *sizes, workers)
        return self._evaluators[key]

    def updating(self, phase: Phase, learner: Learner) -> Callable:
        """Compiled `_update` over seeds; arms whose heads differ in numbers alone share it."""
        config = train_config(phase, self.run_config)
        heads = phase.blend.rule, jax.tree.structure(learner.blend_state)
        key = agent_key(phase.agent), heads, phase.heads, agent_key(config.teacher)
        if key not in self._programs:
            program = partial(_update, config=config, env=self.env)
            self._programs[key] = self._over_seeds(program, 1, self.run_config.optimise)
        return self._programs[key]

    def _over_seeds(self, program: Callable, shared: int = 0, optimise: bool = True) -> Callable:
        """`program` compiled over seeds (`vmap_seeds`)."""
        return vmap_seeds(program, self.run_config.rows, shared, optimise, block=self.block)

    def _worlds(self, points: EvalPoints) -> list[World]:
        """The world of each point."""
        return [
            jax.tree.map(lambda leaf, i=i: leaf[i, 0], points.worlds)
            for i in range(len(points.points))
        ]


def point_groups(worlds: list[World], most: int) -> list[list[World]]:
    """Divide worlds into runs of at most `most` that differ in their disturbances alone.

    An undisturbed world is alone, since its environments act by themselves.
    """
    groups: list[list[World]] = []
    for world in worlds:
        last = groups[-1] if groups else []
        joins = 0 < len(last) < most and not any(map(_acts_by_itself, (world, last[0])))
        if joins and world.params == last[0].params:
            last.append(world)
        else:
            groups.append([world])
    return groups


def _acts_by_itself(world: World) -> bool:
    """Whether a world has no disturbances."""
    return changes_nothing(world.channel)


def _side_by_side(learner: Learner, worlds: list[World]) -> tuple[Learner, World]:
    """S learners once for each of P worlds, leaves [P S, ...], and a world with all channels."""
    if len(worlds) == 1:
        return learner, worlds[0]
    rows, count = jax.tree.leaves(learner.agent)[0].shape[0], len(worlds)
    agent = take_seeds(learner.agent, np.tile(np.arange(rows), count))
    channels = [world.channel for world in worlds]
    channel = jax.tree.map(lambda *leaves: np.repeat(np.float32(leaves), rows), *channels)
    return Learner(agent, ()), worlds[0]._replace(channel=channel)


def only_world(env: HostEnv, worlds: Sampler) -> World:
    """The one world that a sampler always returns.

    Raises:
        UserError: if it returns several: a host-stepped environment takes one.
    """
    sampled = [worlds(jax.random.key(i)) for i in range(PROBED_KEYS)]
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *sampled)
    if any((leaf != leaf[:1]).any() for leaf in jax.tree.leaves(stacked)):
        raise UserError(
            f"{env.id}: a shift samples several worlds, but a host-stepped environment takes one; "
            "choose shifts without sampling"
        )
    return sampled[0]


def _init(
    key: jax.Array, *, config: TrainConfig, env: HostEnv
) -> tuple[Learner, EpisodeStats, jax.Array]:
    """Initialise one seed -> (learner, episode statistics, key)."""
    k_learner, key = jax.random.split(key)
    return init_learner(k_learner, config, env.spec), zero_stats(config.num_envs), key


def _enter(learner, key, *, config, env, phase):
    """Carry one seed's learner into a phase -> (learner, episode statistics, key)."""
    untrained, episode_stats, key = _init(key, config=config, env=env)
    return carry_over(learner, untrained, phase.renew, phase.hand_over), episode_stats, key


def _update(
    learner: Learner,
    episode_stats: EpisodeStats,
    batch: Transition,
    key: jax.Array,
    teacher: Any,
    mix: RewardMix,
    *,
    config: TrainConfig,
    env: HostEnv,
):
    """Update one seed on a batch [T, B] -> (learner, stats, key, metrics, episode sums, finite)."""
    k_update, key = jax.random.split(stream_key(key, Stream.UPDATE))
    learner, metrics = update(config, learner, k_update, batch, mix, teacher)
    episode_stats, sums = update_stats(episode_stats, batch, env.success)
    return learner, episode_stats, key, metrics, sums, finite_checks(learner, batch, metrics)
