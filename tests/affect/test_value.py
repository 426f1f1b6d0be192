"""Value: TD learning of the discounted return against a closed form, as a head beside an agent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Potential, Spec, Value, build
from tests.affect.cases import KEY, SPEC, B, apply_head, experience

GAMMA, LENGTH = 0.9, 6


def corridor(envs=8):
    """Walks along a corridor [T, B] whose last step pays 2 and ends it; positions one-hot."""
    steps = 4 * LENGTH
    place = np.arange(steps) % LENGTH
    obs = np.eye(LENGTH + 1, dtype=np.float32)[place][:, None].repeat(envs, 1)
    next_obs = np.eye(LENGTH + 1, dtype=np.float32)[place + 1][:, None].repeat(envs, 1)
    ended = np.broadcast_to((place == LENGTH - 1)[:, None], (steps, envs))
    fields = {
        "obs": obs,
        "next_obs": next_obs,
        "reward": (2.0 * ended).astype(np.float32),
        "terminated": ended,
        "truncated": np.zeros_like(ended),
        "first": np.broadcast_to((place == 0)[:, None], (steps, envs)),
        "info": {},
    }
    return experience(steps=steps, envs=envs)._replace(**jax.tree.map(jnp.asarray, fields))


def test_it_learns_the_discounted_return_and_is_0_at_the_end():
    """In a corridor the value k steps before the reward of 2 is 2 gamma^(k - 1)."""
    spec, batch = Spec(LENGTH + 1, num_actions=2, discount=GAMMA), corridor()
    blend = Blend(epochs=600, value=(1.0, Value))
    after, metrics = jax.jit(blend.learn)(blend.init(KEY, spec, 8), batch)
    signal, _ = apply_head(after.heads["value"].net, (), batch)
    left = LENGTH - 1 - np.arange(LENGTH)  # steps to go after each step
    expected = np.where(left > 0, 2 * GAMMA ** (left - 1.0), 0.0)
    np.testing.assert_allclose(signal[:LENGTH, 0], expected, atol=0.03)
    assert float(metrics["value/error"]) < 1e-3


def test_the_discount_is_that_of_the_spec_unless_one_is_given():
    assert build(Value, SPEC, KEY).factory().settings["gamma"] == SPEC.discount
    assert build(Value(gamma=0.5), SPEC, KEY).gamma == 0.5
    with pytest.raises(ValueError, match="Value needs a discount: give it one, or a Spec with"):
        build(Value, Spec(3, 2), KEY)


def test_layers_may_be_one_number():
    head = build(Value(layers=8), SPEC, KEY)
    assert head.net.hidden[0].kernel.shape == (3, 8) and Value(8).settings["layers"] == (8,)


def test_whitened_observations_are_those_of_its_moments():
    head, batch = build(Value(whitened=True), SPEC, KEY), experience()
    plain = build(Value, SPEC, KEY)
    head.mean, head.variance = type(head.mean)(jnp.ones(3)), type(head.mean)(4 * jnp.ones(3))
    expected = plain.value((batch.obs - 1) / jnp.sqrt(4 + 1e-8))
    np.testing.assert_allclose(head.value(batch.obs), expected, rtol=1e-5)
    blend = Blend(it=(1.0, Value(whitened=True)))
    before = blend.init(KEY, SPEC, B)
    after = blend.learn(before, batch)[0].heads["it"].net
    assert not after.mean[...].any() and (after.variance[...] == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Value(layers=0), "layers are whole numbers of units, at least 1, not 0"),
        (lambda: Value(layers=(16, 2.5)), r"at least 1, not \(16, 2.5\)"),
        (lambda: Value(gamma=1.5), r"Value needs a discount in \(0, 1\], not gamma=1.5"),
        (lambda: Potential(Value(layers="16")), "at least 1, not '16'"),
    ],
)
def test_wrong_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
