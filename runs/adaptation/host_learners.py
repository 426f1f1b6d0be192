"""Train agents of a host-stepped environment on any reward mix, as `JaxLearners` in a jitted one.

A shift of a host environment samples nothing, so all worlds of a pool are alike, and one is used.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import jax
import numpy as np

from affect import Transition
from envs.host.suite import HostEnv
from envs.world import World
from runs.adaptation.host_pools import HostPools, HostRunnerState
from runs.adaptation.jax_learners import JaxLearners, LearnerSizes, never_stop
from runs.adaptation.label_noise import learner_aurocs
from runs.adaptation.reward_mix import (
    EpisodeSums,
    RewardMix,
    init_learner,
    mixed_update,
    with_new_critic,
)
from runs.engine.train import EpisodeStats, Learner, TrainConfig, seed_keys, vmap_seeds, zero_stats
from runs.errors import UserError

WARMUP_STEPS, TIMED_STEPS = 4, 28  # steps of all environments: untimed ones first, then timed ones


class HostLearners(JaxLearners):
    """`JaxLearners` of a host-stepped environment; closing one also closes those of `with_agent`.

    Args:
        env: the environment.
        agent, blend, sizes: as for `JaxLearners`.
        pools: worker processes to share; None for new ones.
    """

    def __init__(
        self,
        env: HostEnv,
        agent: Any,
        blend: Any,
        sizes: LearnerSizes,
        pools: HostPools | None = None,
    ):
        super().__init__(env, agent, blend, sizes)
        self.pools = pools or HostPools(agent, env, sizes)

    def with_agent(self, agent: Any) -> "HostLearners":
        """The same learners and processes with an agent that differs in its optimiser alone."""
        return HostLearners(self.env, agent, self.blend, self.sizes, self.pools)

    def init(self, pool: World) -> HostRunnerState:
        """Initialise all learners and reset their environments in a world."""
        keys = seed_keys(self.sizes.base, np.arange(self.sizes.rows))
        return self._reset(*self._compiled(_init, 0)(keys), pool, self.sizes.base)

    def transfer_renewed(
        self, run: Any, pool: World, key: jax.Array, critic_kept: bool = False
    ) -> HostRunnerState:
        """Move policies and heads to another world, as `JaxLearners.transfer_renewed`."""
        kept = self._per_row(float(critic_kept))
        state = self._compiled(_transfer_renewed, 0)(run.learner, self._row_keys(key), kept)
        return self._reset(*state, pool, self._seed(key))

    def transfer(self, run: Any, pool: World, key: jax.Array) -> HostRunnerState:
        """Move the learners to another world, as `JaxLearners.transfer`."""
        state = self._compiled(_transfer, 0)(run.learner, self._row_keys(key))
        return self._reset(*state, pool, self._seed(key))

    def train(
        self,
        run: HostRunnerState,
        pool: World,
        mix: RewardMix,
        updates: int,
        heads_learn: bool = False,
        stopped: Callable[[], bool] = never_stop,
    ) -> tuple[HostRunnerState, EpisodeSums]:
        """Train all learners in their present world, as `JaxLearners.train`.

        Raises:
            ValueError: if `pool` is another world: `transfer` there first.
            Interrupted: if a stop is requested.
        """
        if _differ(self._only(pool), run.world):
            raise ValueError(
                f"{self.env.id}: the learners are in another world; transfer them first"
            )
        stepper, channel, update_sums = self.pools.stepper, run.world.channel, []
        update = self._compiled(_update, 1, True, heads_learn=heads_learn)
        self.pools.restore(run)
        learner, host_obs, episode_stats, keys = run[:4]
        for _ in range(updates):
            inputs = self.pools.pool, Learner(learner.agent, ()), host_obs, keys, channel
            host_obs, batch = stepper.rollout(*inputs, self.sizes.num_steps, stopped)
            learner, episode_stats, keys, sums = update(learner, episode_stats, keys, batch, mix)
            update_sums.append(jax.tree.map(np.asarray, sums))
        run = HostRunnerState(
            learner, host_obs, episode_stats, keys, run.world, run.seed, self.pools.snapshot()
        )
        return run, jax.tree.map(lambda *leaves: np.stack(leaves, 1), *update_sums)

    def score(
        self, agents: Any, worlds: World, key: jax.Array, stopped: Callable[[], bool] = never_stop
    ) -> dict[str, np.ndarray]:
        """Scores [rows, P] of agents in worlds [P, draws], one world after another.

        Raises:
            Interrupted: if a stop is requested.
        """
        learner, seed, evaluator = Learner(agents, ()), self._seed(key), self.pools.evaluator
        results = [
            evaluator.scores(learner, world, seed, stopped) for world in self._points(worlds)
        ]
        return {name: np.stack([result[name] for result in results], 1) for name in results[0]}

    def head_aurocs(
        self,
        learner: Learner,
        worlds: World,
        key: jax.Array,
        suffixes: Sequence[str],
        stopped: Callable[[], bool] = never_stop,
    ) -> dict[str, np.ndarray]:
        """AUROCs [rows, P] as `JaxLearners.head_aurocs`, one world after another.

        Raises:
            Interrupted: if a stop is requested.
        """
        aurocs = partial(learner_aurocs, config=self.config, suffixes=tuple(suffixes))
        aurocs = vmap_seeds(aurocs, self.sizes.rows, optimise=self.sizes.optimise)
        actor, seed, evaluator = Learner(learner.agent, ()), self._seed(key), self.pools.evaluator
        results = [
            aurocs(learner, *evaluator.episodes(actor, world, seed, stopped))
            for world in self._points(worlds)
        ]
        return {
            name: np.stack([np.asarray(result[name]) for result in results], 1)
            for name in results[0]
        }

    def progress_units(self, chunk: int, arm: int) -> tuple[int, int]:
        """Units of progress: the numbers of updates, as host steps take most of the time."""
        return chunk, arm

    def time_estimate(self, pool: World, updates: int, points: int) -> str | None:
        """Message with the steps of updates and evaluations, and their time, measured now."""
        run, stepper = self.init(pool), self.pools.stepper
        self.pools.restore(run)
        agents, host_obs, start = Learner(run.learner.agent, ()), run.host_obs, 0.0
        for t in range(WARMUP_STEPS + TIMED_STEPS):
            start = time.monotonic() if t == WARMUP_STEPS else start
            inputs = self.pools.pool, agents, host_obs, run.key, run.world.channel
            host_obs = stepper.step(*inputs, t)[0]
        envs = self.sizes.rows * self.sizes.num_envs
        rate = TIMED_STEPS * envs / (time.monotonic() - start)
        train_steps = updates * envs * self.sizes.num_steps
        eval_steps = points * self.sizes.rows * self.sizes.episodes * self.env.horizon
        least, most = (
            timedelta(seconds=round(n / rate)) for n in (train_steps, train_steps + eval_steps)
        )
        return (
            f"stepped on the host, {rate:,.0f} steps a second just now: {train_steps:,} steps of "
            f"training and at most {eval_steps:,} of evaluation; {least} to {most}, without updates"
        )

    def close(self) -> None:
        """End the worker processes."""
        self.pools.close()

    def _reset(
        self,
        learner: Learner,
        episode_stats: EpisodeStats,
        k_obs: jax.Array,
        keys: jax.Array,
        pool: World,
        seed: int,
    ) -> HostRunnerState:
        """Reset the environments in a world, and gather the state of training."""
        world = self._only(pool)
        obs, snapshot = self.pools.reset(world, seed)
        host_obs = self.pools.stepper.observe_reset(k_obs, obs, world.channel)
        return HostRunnerState(learner, host_obs, episode_stats, keys, world, seed, snapshot)

    def _only(self, pool: World) -> World:
        """The one world of a pool [N] of equal worlds."""
        if any(np.ptp(np.asarray(leaf), 0).any() for leaf in jax.tree.leaves(pool)):
            raise UserError(
                f"{self.env.id}: a shift samples several worlds, but a host-stepped environment "
                "takes one; choose shifts without sampling"
            )
        return jax.tree.map(lambda leaf: leaf[0], pool)

    def _points(self, worlds: World) -> list[World]:
        """Each world of [P, draws], as a list of P."""
        count = worlds.channel.noise.shape[0]
        return [self._only(jax.tree.map(lambda leaf, i=i: leaf[i], worlds)) for i in range(count)]

    def _seed(self, key: jax.Array) -> int:
        """Seed of host episodes, in [0, 2^31), from a key that no learner uses."""
        return int(jax.random.bits(jax.random.fold_in(key, self.sizes.rows))) >> 1


def _differ(world: World, other: World) -> bool:
    """Whether two worlds differ in any leaf."""
    leaves = zip(jax.tree.leaves(world), jax.tree.leaves(other), strict=True)
    return any(np.any(np.asarray(a) != np.asarray(b)) for a, b in leaves)


TransferState = tuple[Learner, EpisodeStats, jax.Array, jax.Array]


def _init(key: jax.Array, *, config: TrainConfig, env: HostEnv) -> TransferState:
    k_agent, k_heads, k_transfer = jax.random.split(key, 3)
    return _transfer(
        init_learner(k_agent, k_heads, config, env.spec), k_transfer, config=config, env=env
    )


def _transfer_renewed(
    learner: Learner, key: jax.Array, critic_kept: jax.Array, *, config: TrainConfig, env: HostEnv
) -> TransferState:
    k_critic, k_transfer = jax.random.split(key)
    return _transfer(
        with_new_critic(learner, k_critic, critic_kept, config, env.spec),
        k_transfer,
        config=config,
        env=env,
    )


def _transfer(
    learner: Learner, key: jax.Array, *, config: TrainConfig, env: HostEnv
) -> TransferState:
    """Transfer one learner -> (learner, episode stats, key of the first obs, its stream)."""
    k_obs, key = jax.random.split(key)
    return learner, zero_stats(config.num_envs), k_obs, key


def _update(
    learner: Learner,
    episode_stats: EpisodeStats,
    key: jax.Array,
    batch: Transition,
    mix: RewardMix,
    *,
    config: TrainConfig,
    env: HostEnv,
    heads_learn: bool,
) -> tuple[Learner, EpisodeStats, jax.Array, EpisodeSums]:
    # The steps of the batch used the numbers below 2 T, and splitting is folding in 0, 1, ...
    """Update one learner on a batch, with the next key of its stream."""
    k_update, key = jax.random.split(jax.random.fold_in(key, 2 * batch.reward.shape[0]))
    options = {"config": config, "success": env.success, "heads_learn": heads_learn}
    learner, episode_stats, sums = mixed_update(
        learner, episode_stats, k_update, batch, mix, **options
    )
    return learner, episode_stats, key, sums
