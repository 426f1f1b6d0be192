"""Blend: names, weights, independence of its heads, and signals before training."""

import operator
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from affect import (
    Blend,
    ConstantOf,
    Curiosity,
    Fear,
    Hope,
    Normalised,
    Potential,
    Satiation,
    gradient_step,
)
from affect.learn import HeadState
from tests.affect.cases import SPEC, B, T, assert_close, chunk, experience, same_bits

KEY = jax.random.key(7)
THREE = {"fear": (0.5, Fear), "hope": (1.0, Potential(Hope)), "curiosity": (2.0, Curiosity)}


@pytest.fixture(scope="module")
def batch():
    return experience(seed=9)


@pytest.fixture(scope="module")
def three_heads(batch):
    """Blend of three heads, its initial state and the result of an update."""
    blend = Blend(**THREE)
    blend_state = blend.init(KEY, SPEC, B)
    return blend, blend_state, jax.jit(blend.update)(blend_state, batch)


def test_signals_are_in_order_and_weighted(three_heads, batch):
    blend, blend_state, (signals, _, metrics) = three_heads
    assert blend.names == ("fear", "hope", "curiosity")
    assert signals.shape == (T, B, 3)
    for k, name in enumerate(blend.names):
        net, carry = blend_state.heads[name].net, blend_state.carry[name]
        raw, _ = net(carry, batch)
        assert_close(signals[..., k], THREE[name][0] * raw)
        assert np.isclose(metrics[f"{name}/signal"], signals[..., k].mean(), atol=1e-6)
        assert f"{name}/error" in metrics


def test_signals_are_computed_before_training(three_heads, batch):
    blend, blend_state, (signals, after, _) = three_heads
    expected, after_signals = jax.jit(blend.feel)(blend_state, batch)
    after_training, _ = jax.jit(blend.learn)(blend_state, batch)
    assert_close(signals, expected)
    assert_close(after.carry, after_signals.carry)
    assert_close(after.heads, after_training.heads, rtol=1e-3)
    assert same_bits(after_signals.heads, blend_state.heads)
    assert same_bits(after_training.carry, blend_state.carry)
    assert not same_bits(after.heads, blend_state.heads)


def test_a_head_is_the_same_whatever_else_is_in_the_blend(three_heads, batch):
    _, blend_state, (signals, after, _) = three_heads
    single = Blend(hope=THREE["hope"])
    initial = single.init(KEY, SPEC, B)
    assert same_bits(initial.heads["hope"], blend_state.heads["hope"])
    signal, trained, _ = jax.jit(single.update)(initial, batch)
    assert_close(signal[..., 0], signals[..., 1])
    assert_close(trained.heads["hope"], after.heads["hope"], rtol=1e-3)


def test_each_epoch_is_one_gradient_step_on_the_whole_batch(batch):
    blend = Blend(epochs=3, curiosity=(1.0, Potential(Curiosity)))
    initial = blend.init(KEY, SPEC, B)
    learned, _ = blend.learn(initial, batch)
    train_state, carry = initial.heads["curiosity"].trained, initial.carry["curiosity"]
    nets = []
    for _ in range(3):
        train_state, _ = gradient_step(train_state, blend.tx, lambda net: net.loss(carry, batch))
        nets.append(train_state.net)
    assert_close(learned.heads["curiosity"].trained, train_state, rtol=1e-5)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *nets)
    assert_close(learned.heads["curiosity"].net, mean, rtol=1e-5)


def test_a_head_without_parameters_takes_no_step(batch):
    blend = Blend(epochs=3, satiation=(1.0, Satiation), curiosity=(1.0, Curiosity))
    initial = blend.init(KEY, SPEC, B)
    learned, metrics = blend.learn(initial, batch)
    assert {name: int(state.steps) for name, state in learned.heads.items()} == {
        "satiation": 0,
        "curiosity": 3,
    }
    assert set(metrics) == {"heads/skipped", "curiosity/error"}


def test_weights_are_averaged_over_about_the_last_hundred_steps():
    """Weights that grow by 1 a step lag by half the steps at first, by 99 in the end."""
    tx, rate = optax.sgd(1.0), jnp.zeros(())
    step = jax.jit(lambda state: state.step(tx, lambda net: (-net["grows"], {}))[0])
    state, lags = HeadState.create({"grows": rate, "rests": jnp.float32(0.1)}, tx), {}
    for count in range(1, 1001):
        state = step(state)
        lags[count] = float(state.trained.net["grows"] - state.net["grows"])
    assert [lags[count] for count in (1, 2, 100, 1000)] == pytest.approx([0, 0.5, 49.5, 99], 1e-3)
    assert state.net["rests"] == jnp.float32(0.1)  # to the last bit


def test_a_training_loop_sets_the_epochs_unless_they_are_given(batch):
    blends = Blend(fear=(1.0, Fear)), Blend(epochs=5, fear=(1.0, Fear)).with_epochs(2)
    assert [blend.with_epochs(7).epochs for blend in blends] == [7, 5]
    seven, two = blends[0].with_epochs(7), blends[0]
    trained = [blend.learn(blend.init(KEY, SPEC, B), batch)[0] for blend in (seven, two)]
    counts = [state.heads["fear"].trained.opt_state[1][0].count for state in trained]
    assert [int(count) for count in counts] == [7, 2]


def test_a_head_that_is_not_active_gives_0_and_keeps_its_state(batch):
    blend = Blend(fear=(1.0, Potential(Fear)), hope=(1.0, Potential(Hope)))
    initial = blend.init(KEY, SPEC, B)
    signals, after = jax.jit(blend.feel)(initial, batch, jnp.array([0.0, 2.0]))
    both, _ = blend.feel(initial, batch)
    assert not signals[..., 0].any()
    assert_close(signals[..., 1], both[..., 1], rtol=1e-5)
    assert same_bits(after.carry["fear"], initial.carry["fear"])
    assert not same_bits(after.carry["hope"], initial.carry["hope"])


def test_heads_of_different_names_have_different_initial_weights():
    blend_state = Blend(one=(1.0, Fear), other=(1.0, Fear)).init(KEY, SPEC, B)
    assert not same_bits(blend_state.heads["one"], blend_state.heads["other"])


def test_the_loss_uses_the_state_from_before_the_batch(batch):
    """Curiosity is trained on observations whitened by the moments in its state."""
    blend = Blend(epochs=1, curiosity=(1.0, Curiosity))
    other_batch = batch._replace(obs=3 * batch.obs + 1)
    _, blend_state = blend.feel(blend.init(KEY, SPEC, B), other_batch)
    *_, metrics = blend.update(blend_state, batch)
    loss, _ = blend_state.heads["curiosity"].net.loss(blend_state.carry["curiosity"], batch)
    np.testing.assert_allclose(metrics["curiosity/error"], loss, rtol=1e-5)


def test_a_head_of_weight_0_is_trained_and_its_signal_is_0(batch):
    blend = Blend(fear=(0.0, Fear))
    blend_state = blend.init(KEY, SPEC, B)
    signals, after, _ = blend.update(blend_state, batch)
    assert (signals == 0).all()
    assert not same_bits(after.heads, blend_state.heads)


def test_weights_can_change_without_recompiling(three_heads, batch):
    blend, blend_state, (signals, _, _) = three_heads
    feel = jax.jit(blend.feel)
    doubled, _ = feel(blend_state._replace(weights=2 * blend_state.weights), batch)
    assert_close(doubled, 2 * signals)


def test_an_empty_blend_has_no_signals_state_or_metrics(batch):
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


def test_state_continues_across_chunks():
    blend = Blend(mean=(1.0, ConstantOf(Fear)))
    blend_state, batch = blend.init(KEY, SPEC, B), experience(steps=2 * T)
    whole, _ = blend.feel(blend_state, batch)
    early, blend_state = blend.feel(blend_state, chunk(batch, 0, T))
    late, _ = blend.feel(blend_state, chunk(batch, T, 2 * T))
    assert_close(jnp.concatenate([early, late]), whole)


@pytest.mark.parametrize("term", [Fear, (0.5,), (0.5, Fear, 3), 0.5, (0.5, "fear")])
def test_a_term_that_is_no_weight_and_head_is_refused(term):
    message = "fear must be (weight, head), as in fear=(0.5, Fear)"
    with pytest.raises(ValueError, match=re.escape(message)):
        Blend(fear=term)


@pytest.mark.parametrize("factory", [Fear, Curiosity, Normalised(Curiosity)])
def test_a_negative_weight_is_refused_for_a_signal_of_known_sign(factory):
    with pytest.raises(ValueError, match="it is never .* weight of -0.5 .* at least 0"):
        Blend(it=(-0.5, factory)).init(KEY, SPEC, B)
    Blend(it=(0.0, factory), either=(-0.5, Potential(factory))).init(KEY, SPEC, B)
