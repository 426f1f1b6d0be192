"""Learners that go on in other worlds of a host-stepped environment: only the stepping differs.

A shift of a host draws nothing, so all worlds of a pool are alike, and one is lived in.
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
from runs.adaptation.reward_mix import EpisodeSums, RewardMix, init, mixed_update, renew
from runs.engine.train import EpisodeStats, Learner, TrainConfig, seed_keys, vmap_seeds, zero_stats
from runs.errors import UserError

WARM, PACED = 4, 28  # steps of all environments before they are timed, and steps that are


class HostLearners(JaxLearners):
    """`JaxLearners` in a host-stepped environment; they must be closed, which closes `other`s too.

    Args:
        env: the environment.
        agent, blend, sizes: as for `JaxLearners`.
        places: where others live already; None for new ones.
    """

    def __init__(
        self,
        env: HostEnv,
        agent: Any,
        blend: Any,
        sizes: LearnerSizes,
        places: HostPools | None = None,
    ):
        super().__init__(env, agent, blend, sizes)
        self.places = places or HostPools(agent, env, sizes)

    def other(self, agent: Any) -> "HostLearners":
        """The same, in the same places, with an agent that differs in how it descends alone."""
        return HostLearners(self.env, agent, self.blend, self.sizes, self.places)

    def start(self, pool: World) -> HostRunnerState:
        """All learners before their first step in a world."""
        keys = seed_keys(self.sizes.base, np.arange(self.sizes.rows))
        return self._begin(*self._compiled(_start, 0)(keys), pool, self.sizes.base)

    def enter(
        self, run: Any, pool: World, key: jax.Array, critic_kept: bool = False
    ) -> HostRunnerState:
        """As `JaxLearners.enter`."""
        kept = self._each(float(critic_kept))
        entered = self._compiled(_enter, 0)(run.learner, self._own(key), kept)
        return self._begin(*entered, pool, self._seed(key))

    def move(self, run: Any, pool: World, key: jax.Array) -> HostRunnerState:
        """As `JaxLearners.move`."""
        moved = self._compiled(_move, 0)(run.learner, self._own(key))
        return self._begin(*moved, pool, self._seed(key))

    def live(
        self,
        run: HostRunnerState,
        pool: World,
        terms: RewardMix,
        updates: int,
        heads_learn: bool = False,
        stopped: Callable[[], bool] = never_stop,
    ) -> tuple[HostRunnerState, EpisodeSums]:
        """As `JaxLearners.live`, in the world where they are.

        Raises:
            ValueError: if `pool` is another world: `move` there first.
            Interrupted: if it was asked to stop.
        """
        if _differ(self._only(pool), run.world):
            raise ValueError(f"{self.env.id}: the learners are in another world; move them first")
        turn, channel, rows = self.places.turn, run.world.channel, []
        learn = self._compiled(_learn, 1, True, heads_learn=heads_learn)
        self.places.back(run)
        learner, host_obs, episode_stats, keys = run[:4]
        for _ in range(updates):
            there = self.places.pool, Learner(learner.agent, ()), host_obs, keys, channel
            host_obs, batch = turn.batch(*there, self.sizes.num_steps, stopped)
            learner, episode_stats, keys, sums = learn(learner, episode_stats, keys, batch, terms)
            rows.append(jax.tree.map(np.asarray, sums))
        run = HostRunnerState(
            learner, host_obs, episode_stats, keys, run.world, run.seed, self.places.here()
        )
        return run, jax.tree.map(lambda *leaves: np.stack(leaves, 1), *rows)

    def score(
        self, agents: Any, worlds: World, key: jax.Array, stopped: Callable[[], bool] = never_stop
    ) -> dict[str, np.ndarray]:
        """As `JaxLearners.score`, one world after another.

        Raises:
            Interrupted: if it was asked to stop.
        """
        learner, seed, stage = Learner(agents, ()), self._seed(key), self.places.stage
        found = [stage.scores(learner, w, seed, stopped) for w in self._points(worlds)]
        return {name: np.stack([one[name] for one in found], 1) for name in found[0]}

    def known(
        self,
        learner: Learner,
        worlds: World,
        key: jax.Array,
        suffixes: Sequence[str],
        stopped: Callable[[], bool] = never_stop,
    ) -> dict[str, np.ndarray]:
        """As `JaxLearners.known`, one world after another.

        Raises:
            Interrupted: if it was asked to stop.
        """
        ask = partial(learner_aurocs, config=self.config, suffixes=tuple(suffixes))
        ask = vmap_seeds(ask, self.sizes.rows, optimise=self.sizes.optimise)
        actor, seed, stage = Learner(learner.agent, ()), self._seed(key), self.places.stage
        found = [
            ask(learner, *stage.episodes(actor, world, seed, stopped))
            for world in self._points(worlds)
        ]
        return {name: np.stack([np.asarray(o[name]) for o in found], 1) for name in found[0]}

    def worth(self, chunk: int, arm: int) -> tuple[int, int]:
        """As many units of progress as updates, since the steps of a host take the time."""
        return chunk, arm

    def cost(self, pool: World, updates: int, points: int) -> str | None:
        """The steps of so many updates and scored points, and how long they take from now on."""
        run, turn = self.start(pool), self.places.turn
        self.places.back(run)
        agents, host_obs, begun = Learner(run.learner.agent, ()), run.host_obs, 0.0
        for t in range(WARM + PACED):
            begun = time.monotonic() if t == WARM else begun
            there = self.places.pool, agents, host_obs, run.key, run.world.channel
            host_obs = turn.take(*there, t)[0]
        each = self.sizes.rows * self.sizes.num_envs
        pace = PACED * each / (time.monotonic() - begun)
        lived = updates * each * self.sizes.num_steps
        scored = points * self.sizes.rows * self.sizes.episodes * self.env.horizon
        least, most = (timedelta(seconds=round(n / pace)) for n in (lived, lived + scored))
        return (
            f"stepped on the host, {pace:,.0f} steps a second just now: {lived:,} steps to learn "
            f"from and at most {scored:,} to be scored by, {least} to {most} beside the learning"
        )

    def close(self) -> None:
        """Ends the worker processes."""
        self.places.close()

    def _begin(
        self,
        learner: Learner,
        episode_stats: EpisodeStats,
        k_ears: jax.Array,
        keys: jax.Array,
        pool: World,
        seed: int,
    ) -> HostRunnerState:
        world = self._only(pool)
        obs, snapshot = self.places.begin(world, seed)
        host_obs = self.places.turn.attend(k_ears, obs, world.channel)
        return HostRunnerState(learner, host_obs, episode_stats, keys, world, seed, snapshot)

    def _only(self, pool: World) -> World:
        """The world of a pool [N]."""
        if any(np.ptp(np.asarray(leaf), 0).any() for leaf in jax.tree.leaves(pool)):
            raise UserError(
                f"{self.env.id}: a shift draws its worlds, and a host lives in one; choose others"
            )
        return jax.tree.map(lambda leaf: leaf[0], pool)

    def _points(self, worlds: World) -> list[World]:
        """Each world of [P, draws]."""
        count = worlds.channel.noise.shape[0]
        return [self._only(jax.tree.map(lambda leaf, i=i: leaf[i], worlds)) for i in range(count)]

    def _seed(self, key: jax.Array) -> int:
        """Of host episodes, in [0, 2^31), by a key that none of the learners has."""
        return int(jax.random.bits(jax.random.fold_in(key, self.sizes.rows))) >> 1


def _differ(one: World, other: World) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(np.any(np.asarray(a) != np.asarray(b)) for a, b in leaves)


Moved = tuple[Learner, EpisodeStats, jax.Array, jax.Array]


def _start(key: jax.Array, *, config: TrainConfig, env: HostEnv) -> Moved:
    k_agent, k_heads, k_lives = jax.random.split(key, 3)
    return _move(init(k_agent, k_heads, config, env.spec), k_lives, config=config, env=env)


def _enter(
    learner: Learner, key: jax.Array, kept: jax.Array, *, config: TrainConfig, env: HostEnv
) -> Moved:
    k_critic, k_move = jax.random.split(key)
    return _move(renew(learner, k_critic, kept, config, env.spec), k_move, config=config, env=env)


def _move(learner: Learner, key: jax.Array, *, config: TrainConfig, env: HostEnv) -> Moved:
    """One learner in other places -> (it, its tally, key of what it first senses, its stream)."""
    k_ears, key = jax.random.split(key)
    return learner, zero_stats(config.num_envs), k_ears, key


def _learn(
    learner: Learner,
    episode_stats: EpisodeStats,
    key: jax.Array,
    batch: Transition,
    terms: RewardMix,
    *,
    config: TrainConfig,
    env: HostEnv,
    heads_learn: bool,
) -> tuple[Learner, EpisodeStats, jax.Array, EpisodeSums]:
    # The steps of the batch used the numbers below 2 T, and splitting is folding in 0, 1, ...
    k_update, key = jax.random.split(jax.random.fold_in(key, 2 * batch.reward.shape[0]))
    how = {"config": config, "success": env.success, "heads_learn": heads_learn}
    learner, episode_stats, sums = mixed_update(
        learner, episode_stats, k_update, batch, terms, **how
    )
    return learner, episode_stats, key, sums
