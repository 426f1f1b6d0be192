"""Training: rollout -> feel -> learn, in jitted chunks, `vmap`ped and sharded over seeds."""

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
    """Everything of one arm that does not change.

    Attributes:
        agent: init, act, update (see `agents.ppo.PPO`).
        blend: the feelings.
        num_envs: B, environments a seed.
        num_steps: T, steps in each of them an update.
    """

    agent: Any
    blend: Blend
    num_envs: int
    num_steps: int


class Learner(NamedTuple):
    """Everything that learns, for one seed."""

    agent: Any
    blend_state: BlendState


class EpisodeStats(NamedTuple):
    """Episodes under way, [B] each: return and length so far."""

    total: jax.Array
    length: jax.Array


class RunnerState(NamedTuple):
    """One seed's training: what learns, what it lives through, and its stream of keys."""

    learner: Learner
    env_states: EnvState
    episode_stats: EpisodeStats
    key: jax.Array


def init_learner(key: jax.Array, config: TrainConfig, spec: Spec) -> Learner:
    """An untrained agent and its feelings. The agent's key does not depend on the blend."""
    k_agent, k_heads = jax.random.split(key)
    agent = config.agent.init(k_agent, spec, len(config.blend.names))
    return Learner(agent, config.blend.init(k_heads, spec, config.num_envs))


def update(
    config: TrainConfig, learner: Learner, key: jax.Array, batch: Transition
) -> tuple[Learner, dict[str, jax.Array]]:
    """Feels, then learns, from a batch [T, B]. Shared by the jitted and the host-stepped loop."""
    signals, blend_state, felt = config.blend.update(learner.blend_state, batch)
    agent, learned = config.agent.update(learner.agent, key, batch, signals)
    return Learner(agent, blend_state), felt | learned


def zero_stats(num_envs: int) -> EpisodeStats:
    """Nothing counted yet."""
    return EpisodeStats(jnp.zeros((num_envs,)), jnp.zeros((num_envs,)))


def update_stats(
    episode_stats: EpisodeStats,
    batch: Transition,
    success: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[EpisodeStats, dict[str, jax.Array]]:
    """Counts the episodes that end in a batch -> (tally, sums over those episodes).

    Args:
        episode_stats: of the episodes under way.
        batch: [T, B] that they go on with.
        success: of a world, by the return and the length of an episode (`envs.world.Env.success`).
    """

    def step(episode_stats, now):
        reward, ended, passed = now
        total, length = episode_stats.total + reward, episode_stats.length + 1.0
        ended_well = jnp.where(passed, success(total, length), 0.0)
        each = {"episodes": 1.0, "return": total, "length": length, "success": ended_well}
        sums = {name: jnp.where(ended, value, 0.0).sum() for name, value in each.items()}
        return EpisodeStats(jnp.where(ended, 0.0, total), jnp.where(ended, 0.0, length)), sums

    ended = batch.terminated | batch.truncated
    passed = batch.info.get("success", jnp.ones_like(batch.reward)) > 0
    episode_stats, sums = jax.lax.scan(step, episode_stats, (batch.reward, ended, passed))
    return episode_stats, jax.tree.map(jnp.sum, sums)


def init_runner(key: jax.Array, config: TrainConfig, env: Env, worlds: Callable) -> RunnerState:
    """One seed before its first step in a jitted world."""
    k_learner, k_lives, key = jax.random.split(key, 3)
    learner = init_learner(k_learner, config, env.spec)
    env_states = reset_batch(k_lives, env, worlds, config.num_envs)
    return RunnerState(learner, env_states, zero_stats(config.num_envs), key)


def train(
    run: RunnerState,
    config: TrainConfig,
    env: Env,
    worlds: Callable[[jax.Array], World],
    num_updates: int,
) -> tuple[RunnerState, dict[str, jax.Array], jax.Array]:
    """A chunk of `num_updates` updates of one seed.

    Returns:
        (run, metrics averaged over the chunk, sound [num_updates, 3] bool: `finite_checks` after
        each update).
    """

    def step(run, _):
        key, k_rollout, k_update = jax.random.split(run.key, 3)
        act = partial(_act, config, run.learner)
        env_states, batch = rollout(k_rollout, env, worlds, act, run.env_states, config.num_steps)
        learner, metrics = update(config, run.learner, k_update, batch)
        episode_stats, sums = update_stats(run.episode_stats, batch, env.success)
        return RunnerState(learner, env_states, episode_stats, key), (
            metrics,
            sums,
            finite_checks(learner, batch, metrics),
        )

    run, (metrics, sums, finite) = jax.lax.scan(step, run, length=num_updates)
    return run, summary(metrics, sums), finite


def summary(metrics: dict, sums: dict) -> dict[str, jax.Array]:
    """Reduces a chunk's metrics [U] and episode sums [U] to one number each."""
    sums = jax.tree.map(jnp.sum, sums)
    episodes = jnp.where(sums["episodes"] > 0, sums["episodes"], jnp.nan)
    means = {key: sums[key] / episodes for key in ("return", "length", "success")}
    return jax.tree.map(jnp.mean, metrics) | means | {"episodes": sums["episodes"]}


SOURCES = ("the environment", "a head", "the agent")  # in the order in which trouble travels


def finite_checks(learner: Learner, batch: Transition, metrics: dict) -> jax.Array:
    """Whether there were only numbers in what each of SOURCES made, bool [3]."""
    felt = {key: value for key, value in metrics.items() if "/" in key}
    parts = batch, (learner.blend_state, felt), (learner.agent, metrics)
    return jnp.stack([_all_finite(part) for part in parts])


def _all_finite(tree: Any) -> jax.Array:
    """Whether every floating leaf holds only numbers, bool []."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


FAST_COMPILE = {"xla_backend_optimization_level": 0}
OPTIMISED_COMPILE = {"xla_backend_optimization_level": 1}
"""How programs are compiled for a CPU: for those that run once, and for all others.

Beyond the first level XLA takes a third longer to compile, and what it compiles is no faster
(a training of Drive, two cores: 6.1 s and .38 s a chunk against 8.3 s and .41 s).
"""


SEED_AXIS = "seeds"  # name of the axis over which `vmap_seeds` maps


def seed_keys(base: int, seeds: Any) -> jax.Array:
    """A key for each of `seeds` [S], the same whatever the others are."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(base)))(jnp.asarray(seeds))


def vmap_seeds(
    fn: Callable,
    num_seeds: int,
    shared: int = 0,
    optimise: bool = True,
    together: int | None = None,
) -> Callable:
    """Runs fn over a leading axis of seeds, sharded over the devices and `vmap`ped on each.

    Uses as many devices as divide `num_seeds`: virtual CPU devices or GPUs, alike.

    Args:
        fn: of one seed.
        num_seeds: S.
        shared: how many of its last arguments are the same for all seeds.
        optimise: False compiles a program that runs once in a third of the time.
        together: seeds that a CPU device takes at once, at most, so that they fit its cache; it
            takes the others after them. None takes all at once, as accelerators always do.
    """
    devices = jax.devices()
    count = largest_divisor(num_seeds, len(devices))
    on_each = num_seeds // count
    mesh = jax.sharding.Mesh(np.array(devices[:count]), ("seed",))
    seed, same = jax.sharding.PartitionSpec("seed"), jax.sharding.PartitionSpec()
    group = on_each
    if together is not None and devices[0].platform == "cpu":
        group = largest_divisor(on_each, together)

    def mapped(*args):
        own = len(args) - shared
        each = jax.vmap(fn, in_axes=(0,) * own + (None,) * shared, axis_name=SEED_AXIS)
        specs = (seed,) * own + (same,) * shared
        grouped = partial(_in_groups, each, own, group)
        sharded = jax.shard_map(grouped, mesh=mesh, in_specs=specs, out_specs=seed, check_vma=False)
        return sharded(*args)

    options = (
        (OPTIMISED_COMPILE if optimise else FAST_COMPILE) if devices[0].platform == "cpu" else None
    )
    return jax.jit(mapped, compiler_options=options)


def _in_groups(each: Callable, own: int, group: int, *args: Any) -> Any:
    """Calls `each` on `group` rows of its first `own` arguments after another."""
    rows, rest = args[:own], args[own:]
    size = jax.tree.leaves(rows)[0].shape[0]
    if size == group:
        return each(*args)
    groups = jax.tree.map(lambda leaf: leaf.reshape(size // group, group, *leaf.shape[1:]), rows)
    out = jax.lax.map(lambda some: each(*some, *rest), groups)
    return jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), out)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`."""
    return max(n for n in range(1, max(most, 1) + 1) if number % n == 0)


def _act(config: TrainConfig, learner: Learner, key: jax.Array, obs: jax.Array) -> jax.Array:
    return config.agent.act(learner.agent, key, obs)
