"""Learners that go on in other worlds, on whatever terms: one compiled program for all of them.

Worlds are data, a pool [N] from which each episode draws one, and so are the terms: what the task
pays, what each feeling pays, whether the feelings are one's own. So every arm in every world is the
same program, and only who learns from it (heads, or the agent alone) needs another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend
from envs.world import Env, World, reset_batch, rollout
from runs.adaptation.label_noise import compiled_aurocs
from runs.adaptation.reward_mix import EpisodeSums, RewardMix, init, mixed_update, renew
from runs.engine.evaluate import evaluate
from runs.engine.jax_backend import ENVS_AT_ONCE
from runs.engine.train import (
    SEED_AXIS,
    Learner,
    RunnerState,
    TrainConfig,
    seed_keys,
    vmap_seeds,
    zero_stats,
)

CHUNK_WORTH = 3  # a chunk of the training at home takes as long as so many arms in a shift


def never_stop() -> bool:
    """Nobody asks to stop."""
    return False


@dataclass(frozen=True)
class LearnerSizes:
    """How much of everything.

    Attributes:
        seeds: S, learners.
        rows: learners computed, S rounded up to what the devices share evenly.
        num_envs: B, environments a learner.
        num_steps: T, steps in each of them an update.
        episodes: scored at each point.
        base: seed of all seeds.
        optimise: whether programs run long enough to be compiled with care.
    """

    seeds: int
    rows: int
    num_envs: int
    num_steps: int
    episodes: int
    base: int = 0
    optimise: bool = True


class JaxLearners:
    """S learners with one blend of K feelings, and everything that is compiled for them.

    A life is `start` once, then any number of `live`, `enter` and `move`; `score` and `known`
    whenever. All take and give leaves [rows, ...]; nothing is changed in place. Whoever asks
    whether to stop (`stopped`) is heard between calls here, and at every step by
    `runs.adaptation.host_learners.HostLearners`, which raises `runs.cli.interrupt.Interrupted`.

    Args:
        env: the family of worlds.
        agent: a `agents.actor_critic.ActorCriticAgent`; it learns in `live` as it says.
        blend: the feelings.
        sizes: of it all.
    """

    def __init__(self, env: Env, agent: Any, blend: Blend, sizes: LearnerSizes):
        self.env, self.agent, self.blend, self.sizes = env, agent, blend, sizes
        self.config = TrainConfig(agent, blend, sizes.num_envs, sizes.num_steps)
        self._programs: dict[tuple, Callable] = {}

    def other(self, agent: Any) -> "JaxLearners":
        """The same with an agent that differs in how it descends, and not in how it acts."""
        return JaxLearners(self.env, agent, self.blend, self.sizes)

    def start(self, pool: World) -> RunnerState:
        """All learners before their first step in a pool of worlds [N]."""
        keys = seed_keys(self.sizes.base, np.arange(self.sizes.rows))
        return self._compiled(_start, 1)(keys, pool)

    def enter(
        self, run: RunnerState, pool: World, key: jax.Array, critic_kept: bool = False
    ) -> RunnerState:
        """The same policies and feelings in other worlds, with a new critic and a new optimiser.

        Args:
            run: of the learners.
            pool: of worlds [N].
            key: of what happens there, which each learner makes its own.
            critic_kept: keep the critic. Without a task reward it is a signal by itself: an old
                critic's errors teach what it valued, and zero reward looks like success.
        """
        enter = self._compiled(_transfer_renewed, 1)
        return enter(run.learner, self._own(key), self._each(float(critic_kept)), pool)

    def move(self, run: RunnerState, pool: World, key: jax.Array) -> RunnerState:
        """The same learners, critic and optimiser included, in other worlds."""
        return self._compiled(_transfer, 1)(run.learner, self._own(key), pool)

    def live(
        self,
        run: RunnerState,
        pool: World,
        terms: RewardMix,
        updates: int,
        heads_learn: bool = False,
        stopped: Callable[[], bool] = never_stop,
    ) -> tuple[RunnerState, EpisodeSums]:
        """`updates` updates of all learners on the same terms -> (run, sums [rows, updates]).

        Heads are frozen unless `heads_learn`: then they learn from the same experience
        (`studied`; give the blend `epochs=1`).
        """
        del stopped
        program = self._compiled(_train, 2, True, updates=updates, heads_learn=heads_learn)
        return program(run, pool, terms)

    def score(
        self, agents: Any, worlds: World, key: jax.Array, stopped: Callable[[], bool] = never_stop
    ) -> dict[str, np.ndarray]:
        """The scores [rows, P] of agent states in worlds [P, draws], the same episodes for all."""
        del stopped
        program = self._compiled(_score, 2, True, episodes=self._each_draw(worlds))
        return {name: np.asarray(x) for name, x in program(agents, worlds, key).items()}

    def known(
        self,
        learner: Learner,
        worlds: World,
        key: jax.Array,
        suffixes: Sequence[str],
        stopped: Callable[[], bool] = never_stop,
    ) -> dict[str, np.ndarray]:
        """`runs.adaptation.label_noise.head_aurocs` of all learners in worlds [P, draws], each [rows, P]."""
        del stopped
        ask = compiled_aurocs(self.config, self.env, self._each_draw(worlds), suffixes)
        asked = vmap_seeds(ask, self.sizes.rows, 2, self.sizes.optimise)
        return {name: np.asarray(x) for name, x in asked(learner, worlds, key).items()}

    def worth(self, chunk: int, arm: int) -> tuple[int, int]:
        """Units of progress of a chunk at home and of an arm in a shift, of so many updates."""
        del chunk, arm
        return CHUNK_WORTH, 1

    def cost(self, pool: World, updates: int, points: int) -> str | None:
        """How long so many updates and scored points will take, in words; None if nobody knows."""
        del pool, updates, points

    def close(self) -> None:
        """Nothing is open."""

    def terms(
        self, weights: Mapping[str, float] | None = None, pay: float = 0.0, sham: bool = False
    ) -> RewardMix:
        """Terms by the names of the feelings; one that is not named pays nothing.

        Raises:
            ValueError: for a name that is not in the blend.
        """
        given = weights or {}
        unknown = [name for name in given if name not in self.blend.names]
        if unknown:
            there = ", ".join(self.blend.names) or "none"
            raise ValueError(f"{unknown[0]} is no feeling of this blend: there are {there}")
        each = jnp.array([given.get(name, 0.0) for name in self.blend.names], jnp.float32)
        return RewardMix(jnp.float32(pay), each, jnp.float32(sham))

    def _compiled(self, fn: Callable, shared: int, long: bool = False, **static: Any) -> Callable:
        name = (fn, *static.items())
        if name not in self._programs:
            self._programs[name] = vmap_seeds(
                partial(fn, config=self.config, env=self.env, **static),
                self.sizes.rows,
                shared=shared,
                optimise=self.sizes.optimise and long,
                together=ENVS_AT_ONCE // self.sizes.num_envs,
            )
        return self._programs[name]

    def _each_draw(self, worlds: World) -> int:
        """Episodes in each world of [P, draws]."""
        return max(self.sizes.episodes // worlds.channel.noise.shape[1], 1)

    def _own(self, key: jax.Array) -> jax.Array:
        """A key for each learner."""
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(self.sizes.rows))

    def _each(self, value: float) -> jax.Array:
        return jnp.full((self.sizes.rows,), value, jnp.float32)


def sample_world(pool: World, key: jax.Array) -> World:
    """One of a pool of worlds [N]."""
    chosen = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[chosen], pool)


def _start(key: jax.Array, pool: World, *, config: TrainConfig, env: Env) -> RunnerState:
    k_agent, k_heads, k_lives = jax.random.split(key, 3)
    learner = init(k_agent, k_heads, config, env.spec)
    return _transfer(learner, k_lives, pool, config=config, env=env)


def _transfer_renewed(learner, key, kept, pool, *, config: TrainConfig, env: Env) -> RunnerState:
    k_critic, k_move = jax.random.split(key)
    learner = renew(learner, k_critic, kept, config, env.spec)
    return _transfer(learner, k_move, pool, config=config, env=env)


def _transfer(
    learner: Learner, key: jax.Array, pool: World, *, config: TrainConfig, env: Env
) -> RunnerState:
    k_lives, key = jax.random.split(key)
    env_states = reset_batch(k_lives, env, partial(sample_world, pool), config.num_envs)
    return RunnerState(learner, env_states, zero_stats(config.num_envs), key)


def _train(
    run: RunnerState,
    pool: World,
    terms: RewardMix,
    *,
    config: TrainConfig,
    env: Env,
    updates: int,
    heads_learn: bool,
) -> tuple[RunnerState, EpisodeSums]:
    def step(run: RunnerState, _: None) -> tuple[RunnerState, EpisodeSums]:
        key, k_rollout, k_update = jax.random.split(run.key, 3)
        act, world = partial(config.agent.act, run.learner.agent), partial(sample_world, pool)
        env_states, batch = rollout(k_rollout, env, world, act, run.env_states, config.num_steps)
        how = {"config": config, "success": env.success, "heads_learn": heads_learn}
        learner, episode_stats, sums = mixed_update(
            run.learner, run.episode_stats, k_update, batch, terms, **how
        )
        return RunnerState(learner, env_states, episode_stats, key), sums

    return jax.lax.scan(step, run, length=updates)


def _score(agent_state, worlds, key, *, config, env, episodes):
    return evaluate(agent_state, config.agent, env, worlds, key, episodes, SEED_AXIS)
