"""One compiled training chunk: roll out, compute head signals, update; sharded over seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, BlendState, Spec, Transition
from envs.world import Env, EnvState, World, reset_batch, rollout


@dataclass(frozen=True)
class TrainConfig:
    """Static training configuration of one arm.

    Attributes:
        agent: with `init`, `act` and `update` (see `agents.ppo.PPO`).
        blend: the heads.
        num_envs: B, environments per seed.
        num_steps: T, steps of each environment per update.
    """

    agent: Any
    blend: Blend
    num_envs: int
    num_steps: int


class Learner(NamedTuple):
    """Trainable state of one seed: the agent's and the heads'."""

    agent: Any
    blend_state: BlendState


class EpisodeStats(NamedTuple):
    """Return and length so far of the running episodes, [B] each."""

    total: jax.Array
    length: jax.Array


class RunnerState(NamedTuple):
    """Training state of one seed: learner, environments, episode statistics and random key."""

    learner: Learner
    env_states: EnvState
    episode_stats: EpisodeStats
    key: jax.Array


def init_learner(key: jax.Array, config: TrainConfig, spec: Spec) -> Learner:
    """Initialise agent and heads of one seed; the agent's key does not depend on the blend."""
    k_agent, k_heads = jax.random.split(key)
    agent = config.agent.init(k_agent, spec, len(config.blend.names))
    return Learner(agent, config.blend.init(k_heads, spec, config.num_envs))


def update(
    config: TrainConfig, learner: Learner, key: jax.Array, batch: Transition
) -> tuple[Learner, dict[str, jax.Array]]:
    """Update heads, then the agent with their signals, on a batch [T, B] -> (learner, metrics)."""
    signals, blend_state, head_metrics = config.blend.update(learner.blend_state, batch)
    agent, agent_metrics = config.agent.update(learner.agent, key, batch, signals)
    return Learner(agent, blend_state), head_metrics | agent_metrics


def zero_stats(num_envs: int) -> EpisodeStats:
    """Zero return and length of B episodes."""
    return EpisodeStats(jnp.zeros((num_envs,)), jnp.zeros((num_envs,)))


def update_stats(
    episode_stats: EpisodeStats,
    batch: Transition,
    success: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[EpisodeStats, dict[str, jax.Array]]:
    """Add a batch to the episode statistics -> (statistics, sums over episodes that ended in it).

    Args:
        episode_stats: of the running episodes.
        batch: their next transitions, [T, B].
        success: (return, length) -> whether an episode succeeded (`envs.world.Env.success`).
    """

    def step(episode_stats, inputs):
        reward, ended, passed = inputs
        total, length = episode_stats.total + reward, episode_stats.length + 1.0
        succeeded = jnp.where(passed, success(total, length), 0.0)
        values = {"episodes": 1.0, "return": total, "length": length, "success": succeeded}
        sums = {name: jnp.where(ended, value, 0.0).sum() for name, value in values.items()}
        return EpisodeStats(jnp.where(ended, 0.0, total), jnp.where(ended, 0.0, length)), sums

    ended = batch.terminated | batch.truncated
    passed = batch.info.get("success", jnp.ones_like(batch.reward)) > 0
    episode_stats, sums = jax.lax.scan(step, episode_stats, (batch.reward, ended, passed))
    return episode_stats, jax.tree.map(jnp.sum, sums)


def init_runner(key: jax.Array, config: TrainConfig, env: Env, worlds: Callable) -> RunnerState:
    """Initialise the training state of one seed: learner, and environments reset."""
    k_learner, k_envs, key = jax.random.split(key, 3)
    learner = init_learner(k_learner, config, env.spec)
    env_states = reset_batch(k_envs, env, worlds, config.num_envs)
    return RunnerState(learner, env_states, zero_stats(config.num_envs), key)


def train(
    state: RunnerState,
    config: TrainConfig,
    env: Env,
    worlds: Callable[[jax.Array], World],
    num_updates: int,
) -> tuple[RunnerState, dict[str, jax.Array], jax.Array]:
    """Train one seed for `num_updates` updates: roll out, update heads and agent, count episodes.

    Args:
        state: of the seed.
        config: of the arm.
        env: the environment.
        worlds: key -> the world of an episode.
        num_updates: U.

    Returns:
        (state, metrics averaged over the chunk, [U, 3] bool: `finite_checks` of each update).
    """

    def step(state, _):
        key, k_rollout, k_update = jax.random.split(state.key, 3)
        act = partial(_act, config, state.learner)
        env_states, batch = rollout(k_rollout, env, worlds, act, state.env_states, config.num_steps)
        learner, metrics = update(config, state.learner, k_update, batch)
        episode_stats, sums = update_stats(state.episode_stats, batch, env.success)
        return RunnerState(learner, env_states, episode_stats, key), (
            metrics,
            sums,
            finite_checks(learner, batch, metrics),
        )

    state, (metrics, sums, finite) = jax.lax.scan(step, state, length=num_updates)
    return state, summary(metrics, sums), finite


def summary(metrics: dict, sums: dict) -> dict[str, jax.Array]:
    """Reduce a chunk's metrics [U] to means, and its episode sums [U] to means per episode."""
    sums = jax.tree.map(jnp.sum, sums)
    episodes = jnp.where(sums["episodes"] > 0, sums["episodes"], jnp.nan)
    means = {key: sums[key] / episodes for key in ("return", "length", "success")}
    return jax.tree.map(jnp.mean, metrics) | means | {"episodes": sums["episodes"]}


SOURCES = ("the environment", "a head", "the agent")  # in the order in which NaN spreads


def finite_checks(learner: Learner, batch: Transition, metrics: dict) -> jax.Array:
    """Whether the outputs of each of SOURCES are free of NaN and infinity, bool [3]."""
    head_metrics = {key: value for key, value in metrics.items() if "/" in key}
    parts = batch, (learner.blend_state, head_metrics), (learner.agent, metrics)
    return jnp.stack([_all_finite(part) for part in parts])


def _all_finite(tree: Any) -> jax.Array:
    """Whether every floating leaf is free of NaN and infinity, bool []."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


FAST_COMPILE = {"xla_backend_optimization_level": 0}
OPTIMISED_COMPILE = {"xla_backend_optimization_level": 1}
"""Compiler options on a CPU, for programs that run once and for all others.

Higher optimisation levels take a third longer to compile and give no faster programs (training
Drive on two cores: 6.1 s and .38 s per chunk against 8.3 s and .41 s).
"""


SEED_AXIS = "seeds"  # name of the axis over which `vmap_seeds` maps


def seed_keys(base: int, seeds: Any) -> jax.Array:
    """Derive a key for each of `seeds` [S], independent of the other seeds."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(base)))(jnp.asarray(seeds))


def vmap_seeds(
    fn: Callable,
    num_seeds: int,
    shared: int = 0,
    optimise: bool = True,
    together: int | None = None,
) -> Callable:
    """Compile `fn` over a leading axis of seeds, sharded over devices and `vmap`ped on each.

    Uses as many devices (virtual CPU devices or GPUs) as divide `num_seeds`.

    Args:
        fn: function of one seed.
        num_seeds: S.
        shared: number of last arguments that have no seed axis.
        optimise: False compiles in a third of the time, for programs that run once.
        together: most seeds that a CPU device computes at once, so that they fit its cache; groups
            run in sequence. None, and any accelerator, computes all at once.
    """
    devices = jax.devices()
    count = largest_divisor(num_seeds, len(devices))
    seeds_per_device = num_seeds // count
    mesh = jax.sharding.Mesh(np.array(devices[:count]), ("seed",))
    sharded_axis, replicated = jax.sharding.PartitionSpec("seed"), jax.sharding.PartitionSpec()
    group = seeds_per_device
    if together is not None and devices[0].platform == "cpu":
        group = largest_divisor(seeds_per_device, together)

    def mapped(*args):
        num_mapped = len(args) - shared
        vmapped = jax.vmap(fn, in_axes=(0,) * num_mapped + (None,) * shared, axis_name=SEED_AXIS)
        specs = (sharded_axis,) * num_mapped + (replicated,) * shared
        grouped = partial(_in_groups, vmapped, num_mapped, group)
        program = jax.shard_map(
            grouped, mesh=mesh, in_specs=specs, out_specs=sharded_axis, check_vma=False
        )
        return program(*args)

    options = (
        (OPTIMISED_COMPILE if optimise else FAST_COMPILE) if devices[0].platform == "cpu" else None
    )
    return jax.jit(mapped, compiler_options=options)


def _in_groups(fn: Callable, num_mapped: int, group: int, *args: Any) -> Any:
    """Call `fn` sequentially on groups of `group` seeds of its first `num_mapped` arguments."""
    mapped, shared = args[:num_mapped], args[num_mapped:]
    size = jax.tree.leaves(mapped)[0].shape[0]
    if size == group:
        return fn(*args)
    groups = jax.tree.map(lambda leaf: leaf.reshape(size // group, group, *leaf.shape[1:]), mapped)
    results = jax.lax.map(lambda group_args: fn(*group_args, *shared), groups)
    return jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), results)


def largest_divisor(number: int, most: int) -> int:
    """Largest divisor of `number` that is at most `most`."""
    return max(n for n in range(1, max(most, 1) + 1) if number % n == 0)


def _act(config: TrainConfig, learner: Learner, key: jax.Array, obs: jax.Array) -> jax.Array:
    """Sample actions [B] of one seed's policy for obs [B, D]."""
    return config.agent.act(learner.agent, key, obs)
