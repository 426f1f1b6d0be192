"""Named random streams, keys of seeds, and compiled programs that are `vmap`ped over seeds."""

from collections.abc import Callable
from enum import IntEnum, unique
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from runs.engine.config import RunConfig

FAST_COMPILE = {"xla_backend_optimization_level": 0}
OPTIMISED_COMPILE = {"xla_backend_optimization_level": 1}
"""Compiler options on a CPU, for programs that run once and for all others.

Higher optimisation levels take a third longer to compile and give no faster programs (training
Drive on two cores: 6.1 s and .38 s per chunk against 8.3 s and .41 s).
"""

SEED_AXIS = "seeds"  # name of the axis over which `vmap_seeds` maps
ENVS_AT_ONCE = 128  # environments that a core steps at once, summed over seeds, to fit its cache


@unique
class Stream(IntEnum):
    """What random numbers are drawn for. Each stream has keys of its own, whatever others draw.

    The first group is derived from the base seed of a study, the second from the key of a batch or
    an episode. Numbers are part of the results: a new stream takes the next one.
    """

    TRAINING = 0  # initial learners, environments and policies, of each seed
    TRAINING_WORLDS = 1  # in which a study trains, where it draws them beforehand
    EVALUATION_WORLDS = 2
    EVALUATION = 3  # episodes that are scored or recorded
    RANDOM_POLICY = 4  # episodes of random actions, of each seed
    LATER_PHASES = 5  # of each phase, world and seed
    FILM = 6  # an episode with frames
    PROBE = 7  # untrained heads, rollouts and heads of a probe, of each seed
    NEWBORNS = 14  # of each pair of a parent and a newborn
    TWINS = 15  # of parents, which stay untrained
    OWN_HEADS = 16  # of a newborn, from its key
    GENERATIONS = 17  # of parents, and of the newborns and worlds of a generation

    RESET = 8  # of an episode
    STEP = 9  # of an environment, by time
    ACTION = 10  # of a policy, by time
    UPDATE = 11  # of a learner
    RECORDING = 12  # of a trained policy, which leaves the keys of training unused
    HOST_EPISODES = 13  # the integer seed of host-stepped environments


def stream_key(source: int | jax.Array, stream: Stream) -> jax.Array:
    """Key of a stream of a base seed, or of a key."""
    key = source if isinstance(source, jax.Array) else jax.random.key(source)
    return jax.random.fold_in(key, stream)


def stream_seed(source: int | jax.Array, stream: Stream) -> int:
    """Integer seed, in [0, 2^31), of a stream of a base seed or key; for host environments."""
    return int(jax.random.bits(stream_key(source, stream))) >> 1


def stream_keys(run_config: RunConfig, stream: Stream) -> jax.Array:
    """Key of a stream for each seed of a study, [rows]."""
    return seed_keys(stream_key(run_config.base, stream), range(run_config.rows))


def seed_keys(key: jax.Array, seeds: Any) -> jax.Array:
    """Derive a key for each of `seeds` [S], independent of the other seeds."""
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(seeds))


def take_seeds(tree: Any, index: Any) -> Any:
    """Seeds of a tree of arrays [S, ...]: one (an integer), or some (a slice or integers).

    They are taken on the host, leaf by leaf: indexing an array that is spread over devices compiles
    to a collective operation of all of them. On a CPU, whose devices share threads, these can wait
    for one another for ever, and XLA then ends the process.
    """

    def take(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            bits = jnp.asarray(np.asarray(jax.random.key_data(leaf))[index])
            return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
        return jnp.asarray(np.asarray(leaf)[index])

    return jax.tree.map(take, tree)


def vmap_seeds(
    fn: Callable,
    num_seeds: int,
    shared: int = 0,
    optimise: bool = True,
    together: int | None = None,
    most: int | None = None,
    block: int | None = None,
) -> Callable:
    """Compile `fn` over a leading axis of seeds, sharded over devices and `vmap`ped on each.

    Uses as many devices (virtual CPU devices or GPUs) as divide the number of blocks.

    Args:
        fn: function of one seed.
        num_seeds: S.
        shared: number of last arguments that have no seed axis.
        optimise: False compiles in a third of the time, for programs that run once.
        together: most seeds that a CPU device computes at once, so that they fit its cache; groups
            run in sequence. None, and any accelerator, computes all at once.
        most: seeds that any device computes at once, so that they fit its memory; None for all.
        block: seeds that stay together, a divisor of S: a device computes a block at once, or equal
            parts of it, so that the bits of a seed depend on neither S nor the number of devices.
            None: all that a device has are one block.
    """
    devices = jax.devices()
    count = largest_divisor(num_seeds // (block or 1), len(devices))
    block = block or num_seeds // count
    mesh = jax.sharding.Mesh(np.array(devices[:count]), ("seed",))
    sharded_axis, replicated = jax.sharding.PartitionSpec("seed"), jax.sharding.PartitionSpec()
    if together is None or devices[0].platform != "cpu":
        together = block
    group = largest_divisor(block, min(together, most or together))

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
