"""The check of key reuse, which is made of calls with keys alone, finds what it found of all."""

import jax
import jax.numpy as jnp
import pytest
from jax.errors import KeyReuseError

draw = jax.jit(jax.random.normal)


def twice(sample):
    """Two samples of one key."""
    return lambda key: [sample(key) for _ in range(2)]


def in_a_loop(key):
    return jax.lax.scan(lambda carry, _: (carry, jax.random.normal(key)), 0, length=2)


@pytest.mark.parametrize(
    "reuse",
    [
        twice(jax.random.normal),
        twice(jax.random.split),
        twice(draw),
        twice(jax.jit(lambda key: (key, jax.random.normal(key)))),
        jax.jit(twice(jax.random.normal)),
        jax.jit(in_a_loop),
        lambda key: twice(draw)(jax.random.split(key)[0]),
        lambda key: twice(jax.jit(lambda _: jax.random.normal(key)))(0.0),
        lambda key: draw(jax.jit(lambda: (jax.random.normal(key := jax.random.key(2)), key))()[1]),
        lambda key: jax.vmap(twice(jax.random.normal))(jax.random.split(key)),
    ],
)
def test_reuse_of_a_key_is_an_error(reuse):
    key = jax.random.key(0)
    with pytest.raises(KeyReuseError):
        reuse(key)


def test_calls_without_keys_are_as_without_the_check():
    x = jnp.arange(6.0).reshape(2, 3)
    assert jax.config.jax_debug_key_reuse
    assert (x[1] + jnp.where(x > 1, x, 0.0).sum(0)).tolist() == [6, 8, 12]
    assert jax.random.normal(jax.random.key(0)).shape == ()
