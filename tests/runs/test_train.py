"""The axis of seeds: sharded over devices, and on each of them in groups that fit its cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.engine.train import vmap_seeds

SEEDS = 12


def one(key, scale):
    """What a seed makes, with a leaf of no elements, as the discrete policy has."""
    return jax.random.normal(key, (3,)) * jnp.broadcast_to(scale, (3,)), jnp.zeros((0,))


@pytest.mark.parametrize("together", [1, 2, 3, 4, 5, 100])
def test_groups_of_seeds_make_what_all_of_them_make_at_once(together):
    keys = jax.random.split(jax.random.key(0), SEEDS)
    at_once, nothing = vmap_seeds(one, SEEDS, shared=1)(keys, jnp.array(2.0))
    again = jax.random.clone(keys)
    grouped, _ = vmap_seeds(one, SEEDS, shared=1, together=together)(again, jnp.array(2.0))
    np.testing.assert_array_equal(grouped, at_once)
    assert nothing.shape == (SEEDS, 0)


def test_no_more_seeds_than_asked_for_are_taken_at_once():
    """Six seeds on each of two devices, four together at most: three at once, two times."""
    program = vmap_seeds(jax.random.uniform, SEEDS, together=4)
    text = program.lower(jax.random.split(jax.random.key(0), SEEDS)).as_text()
    assert "stablehlo.while" in text
    assert "2x3x2xui32" in text  # two groups of three keys


def test_a_prime_number_of_seeds_still_runs():
    keys = jax.random.split(jax.random.key(0), 7)
    assert vmap_seeds(one, 7, shared=1, together=3)(keys, jnp.array(1.0))[0].shape == (7, 3)
