"""Train agents in jitted worlds on any reward mix, with one compiled program for all arms.

Worlds are data, a pool [N] from which each episode draws one, and so is the reward mix: weights of
the task reward and of each signal, and whether the signals are shams. So every arm in every world
runs the same program; only training with or without the heads needs another.
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
from runs.adaptation.label_noise import partial_aurocs
from runs.adaptation.reward_mix import (
    EpisodeSums,
    RewardMix,
    init_learner,
    mixed_update,
    with_new_critic,
)
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

CHUNK_UNITS = 3  # time of a chunk of training at home, relative to that of an arm in a shift


def never_stop() -> bool:
    """False: no stop is requested."""
    return False


@dataclass(frozen=True)
class LearnerSizes:
    """Numbers of learners, environments, steps and episodes.

    Attributes:
        seeds: S, learners.
        rows: learners computed, S rounded up to what the devices share evenly.
        num_envs: B, environments a learner.
        num_steps: T, steps in each of them an update.
        episodes: evaluated at each point.
        base: seed of all seeds.
        optimise: whether programs run long enough to be compiled with full optimisation.
    """

    seeds: int
    rows: int
    num_envs: int
    num_steps: int
    episodes: int
    base: int = 0
    optimise: bool = True


class JaxLearners:
    """S learners with one blend of K heads, and all compiled programs for them.

    Call `init` once, then any sequence of `train`, `transfer_renewed` and `transfer`; `score` and
    `head_aurocs` at any time. All take and return leaves [rows, ...]; nothing is changed in place.
    `stopped` is checked between calls here, and at every step by
    `runs.adaptation.host_learners.HostLearners`, which raises `runs.errors.Interrupted`.

    Args:
        env: the family of worlds.
        agent: an `agents.actor_critic.ActorCriticAgent`.
        blend: the heads.
        sizes: numbers of learners, environments, steps and episodes.
    """

    def __init__(self, env: Env, agent: Any, blend: Blend, sizes: LearnerSizes):
        self.env, self.agent, self.blend, self.sizes = env, agent, blend, sizes
        self.config = TrainConfig(agent, blend, sizes.num_envs, sizes.num_steps)
        self._programs: dict[tuple, Callable] = {}

    def with_agent(self, agent: Any) -> "JaxLearners":
        """The same learners with an agent that differs in its optimiser alone."""
        return JaxLearners(self.env, agent, self.blend, self.sizes)

    def init(self, pool: World) -> RunnerState:
        """Initialise all learners and reset their environments in a pool of worlds [N]."""
        keys = seed_keys(self.sizes.base, np.arange(self.sizes.rows))
        return self._compiled(_init, 1)(keys, pool)

    def transfer_renewed(
        self, run: RunnerState, pool: World, key: jax.Array, critic_kept: bool = False
    ) -> RunnerState:
        """Move the policies and heads to other worlds, with a new critic and a new optimiser.

        Args:
            run: state of the learners.
            pool: of worlds [N].
            key: of the environments there; each learner folds in its own number.
            critic_kept: keep the critic. Without a task reward it is a signal by itself: an old
                critic's errors teach what it valued, and zero reward looks like success.
        """
        program = self._compiled(_transfer_renewed, 1)
        return program(run.learner, self._row_keys(key), self._per_row(float(critic_kept)), pool)

    def transfer(self, run: RunnerState, pool: World, key: jax.Array) -> RunnerState:
        """Move the learners, critic and optimiser included, to other worlds."""
        return self._compiled(_transfer, 1)(run.learner, self._row_keys(key), pool)

    def train(
        self,
        run: RunnerState,
        pool: World,
        mix: RewardMix,
        updates: int,
        heads_learn: bool = False,
        stopped: Callable[[], bool] = never_stop,
    ) -> tuple[RunnerState, EpisodeSums]:
        """Train all learners on one reward mix -> (run, sums [rows, updates]).

        Heads are frozen unless `heads_learn`: then they learn from the same experience
        (`runs.adaptation.reward_mix.train_heads`; give the blend `epochs=1`).
        """
        del stopped
        program = self._compiled(_train, 2, True, updates=updates, heads_learn=heads_learn)
        return program(run, pool, mix)

    def score(
        self, agents: Any, worlds: World, key: jax.Array, stopped: Callable[[], bool] = never_stop
    ) -> dict[str, np.ndarray]:
        """Scores [rows, P] of agents in worlds [P, draws], the same episodes for all."""
        del stopped
        program = self._compiled(_score, 2, True, episodes=self._episodes_per_draw(worlds))
        return {name: np.asarray(x) for name, x in program(agents, worlds, key).items()}

    def head_aurocs(
        self,
        learner: Learner,
        worlds: World,
        key: jax.Array,
        suffixes: Sequence[str],
        stopped: Callable[[], bool] = never_stop,
    ) -> dict[str, np.ndarray]:
        """AUROCs [rows, P] of the heads of all learners in worlds [P, draws].

        See `runs.adaptation.label_noise.head_aurocs`.
        """
        del stopped
        aurocs = partial_aurocs(self.config, self.env, self._episodes_per_draw(worlds), suffixes)
        program = vmap_seeds(aurocs, self.sizes.rows, 2, self.sizes.optimise)
        return {name: np.asarray(x) for name, x in program(learner, worlds, key).items()}

    def progress_units(self, chunk: int, arm: int) -> tuple[int, int]:
        """Units of progress of a chunk at home and of an arm in a shift, given their updates."""
        del chunk, arm
        return CHUNK_UNITS, 1

    def time_estimate(self, pool: World, updates: int, points: int) -> str | None:
        """Message with the time that updates and evaluations take; None where unknown."""
        del pool, updates, points

    def close(self) -> None:
        """Do nothing: no resources are open."""

    def reward_mix(
        self,
        signal_weights: Mapping[str, float] | None = None,
        task_weight: float = 0.0,
        sham: bool = False,
    ) -> RewardMix:
        """Reward mix from signal weights by head name; heads that are not named get weight 0.

        Raises:
            ValueError: for a name that is not in the blend.
        """
        by_name = signal_weights or {}
        unknown = [name for name in by_name if name not in self.blend.names]
        if unknown:
            available = ", ".join(self.blend.names) or "none"
            raise ValueError(f"{unknown[0]} is no head of this blend: its heads are {available}")
        values = jnp.array([by_name.get(name, 0.0) for name in self.blend.names], jnp.float32)
        return RewardMix(jnp.float32(task_weight), values, jnp.float32(sham))

    def _compiled(self, fn: Callable, shared: int, long: bool = False, **static: Any) -> Callable:
        """A function of this module, vmapped over rows and compiled; cached."""
        signature = (fn, *static.items())
        if signature not in self._programs:
            self._programs[signature] = vmap_seeds(
                partial(fn, config=self.config, env=self.env, **static),
                self.sizes.rows,
                shared=shared,
                optimise=self.sizes.optimise and long,
                together=ENVS_AT_ONCE // self.sizes.num_envs,
            )
        return self._programs[signature]

    def _episodes_per_draw(self, worlds: World) -> int:
        """Episodes in each of the worlds [P, draws]."""
        return max(self.sizes.episodes // worlds.channel.noise.shape[1], 1)

    def _row_keys(self, key: jax.Array) -> jax.Array:
        """A key for each learner, [rows]."""
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(self.sizes.rows))

    def _per_row(self, value: float) -> jax.Array:
        """A value repeated for each learner, [rows]."""
        return jnp.full((self.sizes.rows,), value, jnp.float32)


def sample_world(pool: World, key: jax.Array) -> World:
    """Draw one world from a pool [N]."""
    chosen = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[chosen], pool)


def _init(key: jax.Array, pool: World, *, config: TrainConfig, env: Env) -> RunnerState:
    k_agent, k_heads, k_transfer = jax.random.split(key, 3)
    learner = init_learner(k_agent, k_heads, config, env.spec)
    return _transfer(learner, k_transfer, pool, config=config, env=env)


def _transfer_renewed(
    learner, key, critic_kept, pool, *, config: TrainConfig, env: Env
) -> RunnerState:
    k_critic, k_transfer = jax.random.split(key)
    learner = with_new_critic(learner, k_critic, critic_kept, config, env.spec)
    return _transfer(learner, k_transfer, pool, config=config, env=env)


def _transfer(
    learner: Learner, key: jax.Array, pool: World, *, config: TrainConfig, env: Env
) -> RunnerState:
    k_reset, key = jax.random.split(key)
    env_states = reset_batch(k_reset, env, partial(sample_world, pool), config.num_envs)
    return RunnerState(learner, env_states, zero_stats(config.num_envs), key)


def _train(
    run: RunnerState,
    pool: World,
    mix: RewardMix,
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
        options = {"config": config, "success": env.success, "heads_learn": heads_learn}
        learner, episode_stats, sums = mixed_update(
            run.learner, run.episode_stats, k_update, batch, mix, **options
        )
        return RunnerState(learner, env_states, episode_stats, key), sums

    return jax.lax.scan(step, run, length=updates)


def _score(agent_state, worlds, key, *, config, env, episodes):
    return evaluate(agent_state, config.agent, env, worlds, key, episodes, SEED_AXIS)
