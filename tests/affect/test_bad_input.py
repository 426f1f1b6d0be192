"""Bad input of the library: refused in one line, or harmless, whatever is wrong with it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import (
    GRM,
    WRAPPERS,
    Blend,
    Care,
    Constant,
    Curiosity,
    Fear,
    Homeostasis,
    Hope,
    Innate,
    Mood,
    Normalised,
    Potential,
    Satiation,
    Spec,
    build,
)
from tests.affect.cases import HOMEOSTASIS, KEY, SPEC, B, T, experience

BLEND = Blend(
    hope=(1.0, Potential(Hope)),
    fear=(1.0, Fear),
    curiosity=(1.0, Normalised(Curiosity)),
    mood=(1.0, Mood),
    satiation=(1.0, Satiation),
    hunger=(1.0, HOMEOSTASIS),
    care=(1.0, Care(Fear)),
    matched=(1.0, GRM(Hope)),
)
FLOATS = ("obs", "next_obs", "reward")
BATCH = experience(seed=4)
update = jax.jit(BLEND.update)


@pytest.fixture(scope="module")
def initial():
    return BLEND.init(KEY, SPEC, B)


def is_finite(tree) -> bool:
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree) if x.dtype == jnp.float32)


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Blend((0.5, Fear)), "heads are named, as in fear=(0.5, Fear)"),
        (lambda: Blend(tx=(1.0, Fear)), "have other names than tx and epochs"),
        (lambda: Blend(epochs=(1.0, Fear)), "epochs is a number of gradient steps"),
        (lambda: Blend(epochs=-2, fear=(1.0, Fear)), "at least 0, not -2"),
        (lambda: Blend(fear=(float("nan"), Fear)), "fear has a weight of nan"),
        (lambda: Blend(fear=("1", Fear)), "fear has a weight of '1'"),
        (lambda: Blend(fear=(1.0, build(Fear, SPEC, KEY))), "pass the class Fear itself"),
        (lambda: Potential(build(Fear, SPEC, KEY)), "pass the class Fear itself"),
        (lambda: Potential("Fear"), "Potential needs a head such as Fear"),
        (lambda: Spec(obs_dim=3, num_actions=2, info="embody"), "a tuple of names"),
        (lambda: Spec(obs_dim=0, num_actions=2), "obs_dim is a whole number of at least 1"),
        (lambda: Spec(obs_dim=3, num_actions=2.5), "num_actions is a whole number"),
        (lambda: Spec(obs_dim=3, num_actions=2, discount=99), "discount is in (0, 1] or None"),
        (lambda: build(Potential(Hope, gamma=99), SPEC, KEY), "a discount in (0, 1], not gamma=99"),
        (lambda: build(Potential(Hope, gamma=np.nan), SPEC, KEY), "not gamma=nan"),
        (lambda: build(partial(Hope, horizon=np.nan), SPEC, KEY), "at least 1 step, not nan"),
        (lambda: build(partial(Hope, horizon=np.inf), SPEC, KEY), "at least 1 step, not inf"),
        (lambda: build(partial(Fear, width=2.5), SPEC, KEY), "1 hidden unit, not 2.5"),
        (lambda: build(partial(Mood, tau=np.inf), SPEC, KEY), "at least 1 step, not inf"),
        (lambda: build(partial(Constant, value=np.nan), SPEC, KEY), "a finite number, not nan"),
        (lambda: build(partial(Innate, fn=len, reads="body"), SPEC, KEY), "reads=('body',)"),
        (lambda: build(partial(Innate, fn=3), SPEC, KEY), "fn is a function of a batch"),
        (lambda: build(partial(Homeostasis, setpoint=np.nan), SPEC, KEY), "not nan"),
        (lambda: Blend(fear=(1.0, Fear)).init(KEY, SPEC, 0), "at least 1 environment"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"reward": BATCH.reward[..., None]},
            f"reward is float32[{T}, {B}, 1], expected [{T}, {B}]",
        ),
        ({"terminated": 1.0 * BATCH.terminated}, "terminated is float32[6, 4], expected bool"),
        ({"action": 1.0 * BATCH.action}, "action is float32[6, 4], expected integer"),
        ({"obs": BATCH.obs[..., :2]}, "obs is float32[6, 4, 2], expected [6, 4, 3]"),
        ({"info": {}}, 'info has no "harm", which the Spec declares'),
        ({"info": BATCH.info | {"body": jnp.ones((2,))}}, 'info["body"] is float32[2]'),
    ],
)
def test_a_batch_that_does_not_fit_its_spec_is_refused(change, message, initial):
    for function in (BLEND.feel, BLEND.learn, BLEND.update):
        with pytest.raises(ValueError) as caught:
            function(initial, BATCH._replace(**change))
        assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (jax.tree.map(lambda x: x[:, :2], BATCH), "reward is float32[6, 2], expected [6, 4]"),
        (jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), BATCH), "swap the axes"),
        (jax.tree.map(lambda x: x[:0], BATCH), "a batch of 0 steps"),
        (jax.tree.map(lambda x: x[0], BATCH), "reward is float32[4], expected"),
    ],
)
def test_a_batch_of_other_steps_or_environments_is_refused(batch, message, initial):
    with pytest.raises(ValueError) as caught:
        BLEND.update(initial, batch)
    assert message in str(caught.value)


def test_info_that_nobody_declared_is_not_read(initial):
    blend, spec = Blend(fear=(1.0, Potential(Mood))), Spec(3, 2, discount=0.99)
    state, info = blend.init(KEY, spec, B), {"log": jnp.ones((7,))}
    signals, *_ = blend.update(state, BATCH._replace(info=info))
    expected, *_ = blend.update(state, BATCH._replace(info={}))
    np.testing.assert_array_equal(signals, expected)
    with pytest.raises(ValueError, match='info has "harm" but the Spec does not declare it'):
        blend.update(state, BATCH)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_corrupt_field_gives_one_line_or_the_same_signals(data, initial):
    """One field gets another shape or dtype: it is refused, unless nothing changed."""
    name = data.draw(st.sampled_from([f for f in BATCH._fields if f != "info"]))
    field = getattr(BATCH, name)
    shape = data.draw(st.lists(st.integers(0, 6), max_size=4))
    dtype = data.draw(st.sampled_from([jnp.float32, jnp.int32, bool, jnp.uint8]))
    corrupt = jnp.zeros(shape, dtype)
    valid = corrupt.shape == field.shape and (
        jnp.issubdtype(dtype, jnp.integer) if name == "action" else dtype == field.dtype
    )
    try:
        signals, _ = BLEND.feel(initial, BATCH._replace(**{name: corrupt}))
    except ValueError as error:
        assert not valid and name in str(error) and "\n" not in str(error)
    else:
        assert valid and signals.shape == (T, B, 8)


# --- numbers ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from((*FLOATS, "body")),
    value=st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 1e8, 1e20, 3e38]),
    step=st.integers(0, T - 1),
    env=st.integers(0, B - 1),
)
def test_no_number_in_one_environment_makes_anything_not_finite(name, value, step, env, initial):
    if name == "body":
        body = BATCH.info["body"].at[step, env].set(value)
        batch = BATCH._replace(info=BATCH.info | {"body": body})
    else:
        batch = BATCH._replace(**{name: getattr(BATCH, name).at[step, env].set(value)})
    signals, after, metrics = update(initial, batch)
    assert is_finite((signals, after, metrics))
    skipped = not abs(value) <= 1e6
    assert float(metrics["heads/skipped"]) == pytest.approx(skipped / (T * B))
    signals, after, metrics = update(after, BATCH)
    assert is_finite((signals, after)) and float(metrics["heads/skipped"]) == 0


def test_one_large_number_does_not_blind_curiosity():
    """Whitening goes on as without it: the deviation of the feature hardly changes."""
    blend = Blend(it=(1.0, Curiosity))
    batch = experience(seed=1, steps=200)
    state = blend.init(KEY, SPEC, B)
    _, before = blend.feel(state, batch)
    spoilt = batch._replace(obs=batch.obs.at[150, 0, 0].set(1e8))
    _, after = blend.feel(state, spoilt)
    deviations = [jnp.sqrt(s.carry["it"].variance) for s in (before, after)]
    np.testing.assert_allclose(*deviations, rtol=0.1)
    _, grown = blend.feel(after, batch._replace(obs=100 * batch.obs))
    _, grown = blend.feel(grown, batch._replace(obs=100 * batch.obs))
    assert (jnp.sqrt(grown.carry["it"].variance) > 50).all()  # a lasting change is followed


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_every_wrapper_learns_in_a_blend_of_several_environments_and_chunks(wrap):
    blend = Blend(epochs=1, it=(1.0, wrap(Hope)))
    state = blend.init(KEY, SPEC, B)
    for seed in range(2):
        signals, state, _ = blend.update(state, experience(seed=seed))
        assert signals.shape == (T, B, 1) and is_finite((signals, state))
