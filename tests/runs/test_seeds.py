"""vmap over seeds: sharded over devices, and on each device in groups that fit its cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.engine.seeds import vmap_seeds

SEEDS = 12


def one_seed(key, scale):
    """Result of one seed, with an empty leaf as in a discrete policy."""
    return jax.random.normal(key, (3,)) * jnp.broadcast_to(scale, (3,)), jnp.zeros((0,))


@pytest.mark.parametrize("together", [1, 2, 3, 4, 5, 100])
def test_groups_of_seeds_give_the_results_of_all_at_once(together):
    keys = jax.random.split(jax.random.key(0), SEEDS)
    at_once, empty = vmap_seeds(one_seed, SEEDS, shared=1)(keys, jnp.array(2.0))
    keys_again = jax.random.clone(keys)
    grouped, _ = vmap_seeds(one_seed, SEEDS, shared=1, together=together)(
        keys_again, jnp.array(2.0)
    )
    np.testing.assert_array_equal(grouped, at_once)
    assert empty.shape == (SEEDS, 0)


@pytest.mark.parametrize(("block", "devices"), [(None, 2), (3, 2), (4, 1)])
def test_blocks_of_seeds_are_not_divided_among_devices(block, devices):
    keys = jax.random.split(jax.random.key(0), SEEDS)
    expected, _ = vmap_seeds(one_seed, SEEDS, shared=1)(keys, jnp.array(2.0))
    keys = jax.random.clone(keys)
    results, _ = vmap_seeds(one_seed, SEEDS, shared=1, block=block)(keys, jnp.array(2.0))
    np.testing.assert_array_equal(results, expected)
    assert len(results.sharding.device_set) == devices


def test_a_prime_number_of_seeds_runs():
    keys = jax.random.split(jax.random.key(0), 7)
    assert vmap_seeds(one_seed, 7, shared=1, together=3)(keys, jnp.array(1.0))[0].shape == (7, 3)
