"""A blend: names, weights, independence of its heads, and the order of feeling and learning."""

import operator
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, ConstantOf, Curiosity, Fear, Hope, Normalised, Potential, gradient_step
from affect.head import per_env
from tests.affect.cases import SPEC, B, T, assert_close, chunk, experience, same_bits

KEY = jax.random.key(7)
THREE = {"fear": (0.5, Fear), "hope": (1.0, Potential(Hope)), "curiosity": (2.0, Curiosity)}


@pytest.fixture(scope="module")
def batch():
    return experience(seed=9)


@pytest.fixture(scope="module")
def three(batch):
    """(blend, feelings, what an update gives)."""
    blend = Blend(**THREE)
    blend_state = blend.init(KEY, SPEC, B)
    return blend, blend_state, jax.jit(blend.update)(blend_state, batch)


def test_signals_are_in_order_and_weighted(three, batch):
    blend, blend_state, (signals, _, metrics) = three
    assert blend.names == ("fear", "hope", "curiosity")
    assert signals.shape == (T, B, 3)
    for k, name in enumerate(blend.names):
        net, carry = blend_state.heads[name].net, blend_state.carry[name]
        raw, _ = net(carry, batch)
        assert_close(signals[..., k], THREE[name][0] * raw)
        assert np.isclose(metrics[f"{name}/signal"], signals[..., k].mean(), atol=1e-6)
        assert f"{name}/error" in metrics


def test_it_feels_before_it_learns(three, batch):
    blend, blend_state, (signals, after, _) = three
    felt, carried = jax.jit(blend.feel)(blend_state, batch)
    learned, _ = jax.jit(blend.learn)(blend_state, batch)
    assert_close(signals, felt)
    assert_close(after.carry, carried.carry)
    assert_close(after.heads, learned.heads, rtol=1e-3)
    assert same_bits(carried.heads, blend_state.heads)
    assert same_bits(learned.carry, blend_state.carry)
    assert not same_bits(after.heads, blend_state.heads)


def test_a_head_is_the_same_whatever_else_is_in_the_blend(three, batch):
    _, blend_state, (signals, after, _) = three
    alone = Blend(hope=THREE["hope"])
    begun = alone.init(KEY, SPEC, B)
    assert same_bits(begun.heads["hope"], blend_state.heads["hope"])
    signal, learned, _ = jax.jit(alone.update)(begun, batch)
    assert_close(signal[..., 0], signals[..., 1])
    assert_close(learned.heads["hope"], after.heads["hope"], rtol=1e-3)


def test_parts_are_learned_from_one_after_another(batch):
    """Two parts, one epoch: a step on the first half of the environments, then on the second."""
    blend = Blend(epochs=1, parts=2, curiosity=(1.0, Potential(Curiosity)))
    begun = blend.init(KEY, SPEC, B)
    learned, _ = blend.learn(begun, batch)
    trained, carry = begun.heads["curiosity"], begun.carry["curiosity"]
    own = per_env(trained.net)
    assert any(jax.tree.leaves(own)) and not all(jax.tree.leaves(own))
    for half in (slice(0, B // 2), slice(B // 2, B)):
        some = jax.tree.map(lambda leaf, half=half: leaf[:, half], batch)
        held = jax.tree.map(lambda own, x, half=half: x[half] if own else x, own, carry)
        loss = partial(lambda net, held, some: net.loss(held, some), held=held, some=some)
        trained, _ = gradient_step(trained, blend.tx, loss)
    assert_close(learned.heads["curiosity"], trained, rtol=1e-5)


def test_where_parts_do_not_divide_the_environments_there_are_fewer(batch):
    one = jax.tree.map(lambda leaf: leaf[:, :1], batch)
    learned = []
    for parts in (1, 8):
        blend = Blend(parts=parts, fear=(1.0, Fear))
        learned.append(blend.learn(blend.init(KEY, SPEC, 1), one)[0])
    assert same_bits(*learned)


def test_heads_of_different_names_begin_differently():
    blend_state = Blend(one=(1.0, Fear), other=(1.0, Fear)).init(KEY, SPEC, B)
    assert not same_bits(blend_state.heads["one"], blend_state.heads["other"])


def test_a_head_learns_from_what_it_carried_when_the_batch_began(batch):
    """Curiosity learns from observations whitened by what it has seen."""
    blend = Blend(epochs=1, curiosity=(1.0, Curiosity))
    elsewhere = batch._replace(obs=3 * batch.obs + 1)
    _, blend_state = blend.feel(blend.init(KEY, SPEC, B), elsewhere)
    *_, metrics = blend.update(blend_state, batch)
    loss, _ = blend_state.heads["curiosity"].net.loss(blend_state.carry["curiosity"], batch)
    np.testing.assert_allclose(metrics["curiosity/error"], loss, rtol=1e-5)


def test_a_head_of_weight_0_learns_and_is_not_felt(batch):
    blend = Blend(fear=(0.0, Fear))
    blend_state = blend.init(KEY, SPEC, B)
    signals, after, _ = blend.update(blend_state, batch)
    assert (signals == 0).all()
    assert not same_bits(after.heads, blend_state.heads)


def test_weights_are_data_so_one_program_serves_them_all(three, batch):
    blend, blend_state, (signals, _, _) = three
    feel = jax.jit(blend.feel)
    doubled, _ = feel(blend_state._replace(weights=2 * blend_state.weights), batch)
    assert_close(doubled, 2 * signals)


def test_an_empty_blend_is_nothing(batch):
    blend = Blend()
    blend_state = blend.init(KEY, SPEC, B)
    signals, after, metrics = jax.jit(blend.update)(blend_state, batch)
    assert signals.shape == (T, B, 0)
    assert metrics == {}
    assert jax.tree.leaves((blend_state.heads, blend_state.carry)) == []
    assert same_bits(after, blend_state)


def test_seeds_in_parallel_equal_seeds_in_a_loop():
    blend, keys = Blend(fear=(1.0, Normalised(Fear))), jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(lambda key: blend.init(key, SPEC, B)))(keys)
    for seed, key in enumerate(keys):
        alone = blend.init(key, SPEC, B)
        assert_close(jax.tree.map(operator.itemgetter(seed), together), alone)


def test_what_is_carried_goes_on_from_chunk_to_chunk():
    blend = Blend(mean=(1.0, ConstantOf(Fear)))
    blend_state, batch = blend.init(KEY, SPEC, B), experience(steps=2 * T)
    whole, _ = blend.feel(blend_state, batch)
    early, blend_state = blend.feel(blend_state, chunk(batch, 0, T))
    late, _ = blend.feel(blend_state, chunk(batch, T, 2 * T))
    assert_close(jnp.concatenate([early, late]), whole)


@pytest.mark.parametrize("term", [Fear, (0.5,), (0.5, Fear, 3), 0.5, (0.5, "fear")])
def test_a_wrong_term_is_named(term):
    complaint = "fear must be (weight, head), as in fear=(0.5, Fear)"
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Blend(fear=term)


@pytest.mark.parametrize("feeling", [Fear, Curiosity, Normalised(Curiosity)])
def test_a_feeling_is_not_turned_into_its_opposite(feeling):
    with pytest.raises(ValueError, match="it is never .* weight of -0.5 .* at least 0"):
        Blend(it=(-0.5, feeling)).init(KEY, SPEC, B)
    Blend(it=(0.0, feeling), either=(-0.5, Potential(feeling))).init(KEY, SPEC, B)
