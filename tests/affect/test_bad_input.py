"""Bad input of the library: refused in one line, or harmless, whatever is wrong with it."""

import copy
import pickle
from fractions import Fraction
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import (
    GRM,
    HEADS,
    WRAPPERS,
    Blend,
    Care,
    Constant,
    ConstantOf,
    ConstantPotential,
    Curiosity,
    Fear,
    Head,
    Homeostasis,
    Hope,
    Inherited,
    Innate,
    MissingInfo,
    Mood,
    Normalised,
    Potential,
    Satiation,
    Sham,
    Spec,
    Value,
    build,
    distil,
    load,
    read_card,
)
from affect.examples.learning_progress import LearningProgress
from tests.affect.cases import HOMEOSTASIS, KEY, SPEC, B, T, chunk, experience, same_bits
from tests.refusal import refused

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


@cache
def one() -> Head:
    """A fear that is built."""
    return build(Fear, Spec(3, 2), KEY)


@cache
def hungry() -> Head:
    """A hunger that is built."""
    return build(HOMEOSTASIS, SPEC, KEY)


TRUE_IS_NO_NUMBER = (
    lambda: Blend(fear=(True, Fear)),
    lambda: Blend(epochs=True, fear=(1.0, Fear)),
    lambda: Blend().init(KEY, SPEC, True),
    lambda: Spec(True, 2),
    lambda: Spec(3, 2, discount=True),
    lambda: Fear(horizon=True),
    lambda: Fear(width=True),
    lambda: Mood(tau=True),
    lambda: GRM(Hope, delay=True),
    lambda: Potential(Hope, scale=True),
    lambda: Potential(Hope, gamma=True),
    lambda: Constant(True),
    lambda: Homeostasis(True),
    lambda: Value(layers=(True,)),
    lambda: distil(jnp.sum, on=BATCH, steps=True),
    lambda: distil(jnp.sum, on=BATCH, seed=True),
    lambda: distil(jnp.sum, on=BATCH, features=True),
)
INFINITE_IN_FLOAT32 = (
    lambda: Blend(fear=(1e300, Fear)),
    lambda: Blend(fear=(10**400, Fear)),
    lambda: Constant(1e39),
    lambda: ConstantPotential(1e39),
    lambda: Potential(Hope, scale=1e39),
)


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
        (
            lambda: build(partial(Constant, value=np.nan), SPEC, KEY),
            "a value of nan: it is a finite",
        ),
        (lambda: build(partial(Innate, fn=len, reads="body"), SPEC, KEY), "reads=('body',)"),
        (lambda: build(partial(Innate, fn=3), SPEC, KEY), "fn is a function of a batch"),
        (lambda: build(partial(Homeostasis, setpoint=np.nan), SPEC, KEY), "not nan"),
        (lambda: Blend(fear=(1.0, Fear)).init(KEY, SPEC, 0), "at least 1 environment"),
        *((call, "True") for call in TRUE_IS_NO_NUMBER),
        *((call, "finite number, at most 1e+06 in size") for call in INFINITE_IN_FLOAT32),
        (lambda: Homeostasis(1e30), "not 1e+30"),
        (lambda: Homeostasis(("1", "2")), "a number or a list of numbers, not ('1', '2')"),
        (lambda: Value(whitened="no"), "whitened is True or False, not 'no'"),
        (lambda: Sham(Fear, centred="no"), "centred is True or False, not 'no'"),
        (lambda: Inherited("x", learn="no"), "learn is True or False, not 'no'"),
        (lambda: Spec(3, 2, discount="0.9"), "discount is in (0, 1] or None, not '0.9'"),
        (lambda: Spec(3, 2, discount=np.array(0.9)), "discount is in (0, 1]"),
        (lambda: Spec(3, 2, info=None), "a tuple of names"),
        (lambda: Spec(3, 2, info=("harm", "harm")), "each once"),
        (lambda: Spec(3, 2, info=("",)), "a tuple of names"),
        (lambda: Blend().init(KEY, SPEC, 2.5), "not num_envs=2.5"),
        (lambda: Blend().init(KEY, (3, 2), B), "spec is (3, 2), expected affect.Spec"),
        (lambda: Blend().init(0, SPEC, B), "key is 0, expected one key"),
        (
            lambda: Blend().init(jax.random.split(jax.random.key(1)), SPEC, B),
            "key is key<fry>[2], expected one",
        ),
        (lambda: build(int, SPEC, KEY), "is no factory, called as factory(spec, rngs=rngs)"),
        (lambda: build(lambda spec: Fear(spec), SPEC, KEY), "is no factory"),
        (lambda: build(lambda spec, rngs: Fear, SPEC, KEY), "expected an affect.Head"),
        (lambda: build(Head, SPEC, KEY), "expected an affect.Head with a signal"),
        (lambda: Potential.from_card(Fear(horizon=3)), "Fear(horizon=3) has no card"),
        (lambda: Potential({"it": one()}), "needs a head such as Fear"),
        (lambda: Inherited({"it": one()}), "needs the path of a file"),
        (lambda: build(Inherited(one(), obs=lambda obs: None), SPEC, KEY), "gives no array"),
        (lambda: Inherited(one(), obs=(True, 1, 2)), "a tuple of indices or a function"),
        (lambda: Inherited(jax.tree.map(lambda x: x / 0, one())), "not made of finite numbers"),
        (lambda: jax.tree.map(lambda x: x / 0, one()).save("x"), "not made of finite numbers"),
        (lambda: jax.tree.map(jnp.bfloat16, one()).save("x"), "parameters of another dtype"),
        (lambda: one().save("x", format=2), "no field 'format' to fill in"),
        (lambda: one().save("x", units=3), "units of a card are a text, not 3"),
        (lambda: one().save("x", date="yesterday"), "date of a card is YYYY-MM-DD"),
        (lambda: one().save(None), "None is no path of a file"),
        (lambda: load(""), "'' is no path of a file"),
        (lambda: load("a\0b"), "is no path of a file"),
        (lambda: read_card(3), "3 is no path of a file"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message):
    with refused(ValueError, message):
        call()


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
        ({"info": BATCH.info | {"body": jnp.ones((T, B, 0))}}, "expected [6, 4, n]"),
        ({"info": BATCH.info | {"body": {"a": 1}}}, "info[\"body\"] is {'a': 1}"),
        ({"info": BATCH.info | {"harm": jnp.ones((T, B, 1))}}, "expected [6, 4]"),
        ({"info": BATCH.info | {"harm": None}}, 'info["harm"] is None, expected [6, 4]'),
        ({"info": BATCH.info | {"other": 1j * BATCH.obs}}, "expected number or bool"),
        ({"info": None}, "info is None, expected a dict"),
        ({"info": []}, "info is [], expected a dict"),
        ({"reward": None}, "reward is None, expected [T, 4]"),
        ({"reward": 1.0}, "reward is 1.0, expected [T, 4]"),
        ({"reward": [[0.0] * B] * T}, "expected [T, 4]: an array"),
        ({"reward": np.full((T, B), "a")}, "reward is <U1[6, 4], expected number"),
        ({"reward": 1j * BATCH.reward}, "reward is complex64[6, 4], expected number"),
        ({"obs": np.full((T, B, 3), None)}, "obs is object[6, 4, 3], expected floating"),
    ],
)
def test_a_batch_that_does_not_fit_its_spec_is_refused(change, message, initial):
    for function in (BLEND.feel, BLEND.learn, BLEND.update):
        with refused(ValueError, message):
            function(initial, BATCH._replace(**change))


def each(change):
    """The function that changes each array of a batch."""
    return lambda batch: jax.tree.map(change, batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: None, "a batch is an affect.Transition, not a NoneType"),
        (tuple, "a batch is an affect.Transition, not a tuple"),
        (each(lambda x: x[:, :2]), "reward is float32[6, 2], expected [6, 4]"),
        (each(lambda x: jnp.swapaxes(x, 0, 1)), "swap the axes"),
        (each(lambda x: x[:0]), "a batch of 0 steps"),
        (each(lambda x: x[0]), "reward is float32[4], expected"),
    ],
)
def test_a_batch_of_other_steps_or_environments_is_refused(change, message, initial):
    with pytest.raises(ValueError) as caught:
        BLEND.update(initial, change(BATCH))
    assert message in str(caught.value)


def test_a_state_of_another_blend_is_refused(initial):
    """In another order the heads would have the weights of each other."""
    terms = dict(reversed(BLEND.heads.items()))
    for blend, state in ((Blend(**terms), initial), (BLEND, None), (BLEND, BATCH)):
        with pytest.raises(ValueError, match="expected the state of a blend of the heads"):
            blend.feel(state, BATCH)
    for active in (jnp.ones(7), jnp.ones(()), jnp.ones((1, 8))):
        with pytest.raises(ValueError, match=r"active has the shape .*, expected \(8,\)"):
            BLEND.feel(initial, BATCH, active)


@pytest.mark.parametrize(
    "other", [{}, {"next_ob": BATCH.obs}, BATCH.obs], ids=["empty", "mistyped", "array"]
)
def test_care_refuses_another_agent_that_reports_nothing_it_knows(other):
    batch = BATCH._replace(info=BATCH.info | {"other": other})
    with pytest.raises(ValueError, match=r'info\["other"\] is .*, expected a dict of fields'):
        jax.eval_shape(build(Care(Fear), SPEC, KEY), ((), ()), batch)


def head_of(signal=lambda state, batch: (batch.reward, state), loss=None):
    """A class of heads with this signal and this loss, functions of a state and a batch."""
    members = {"__call__": lambda self, state, batch: signal(state, batch)}
    if loss is not None:
        members["loss"] = lambda self, state, batch: loss(state, batch)
    return type("Own", (Head,), members)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (head_of(lambda state, batch: (jnp.zeros(3), state)), r"own returned float32\[3\], \(\)"),
        (head_of(lambda state, batch: (1j * batch.reward, state)), "own returned complex64"),
        (head_of(lambda state, batch: batch.reward), r"expected \(signal \[6, 4\], state\)"),
        (head_of(lambda state, batch: None), "own returned None, expected"),
        (
            head_of(loss=lambda state, batch: jnp.zeros(())),
            r"loss of own returned float32\[\], exp",
        ),
        (head_of(loss=lambda state, batch: (batch.reward, {})), r"expected \(number \[\], dict of"),
        (Innate(lambda batch: (batch.reward, 1)), "the fn of Innate gave"),
        (Innate(lambda batch: None), "the fn of Innate gave None"),
        (Innate(lambda batch: batch.info["v"]), r"add reads=\('v',\), and 'v' to Spec.info"),
    ],
)
def test_what_a_head_returns_is_checked(head, message):
    blend = Blend(own=(1.0, head), fear=(1.0, Fear))
    with refused(ValueError, match=message):
        jax.eval_shape(blend.update, blend.init(KEY, SPEC, B), BATCH)


@pytest.mark.parametrize(
    ("f", "on", "message"),
    [
        (Fear, BATCH, "not yet a head: build it"),
        ("x", BATCH, "f='x' cannot be evaluated"),
        (lambda obs: (obs[:, 0], 1), BATCH.obs, "written with jax.numpy"),
        (lambda obs: np.sin(np.asarray(obs[:, 0])), BATCH.obs, "written with jax.numpy"),
        (hungry, BATCH.obs, r"KeyError\('body'\)"),
        (one, BATCH.obs[..., :2], "cannot be evaluated on=float32"),
        (one, None, r"observations \[..., D\], not None"),
        (one, "x", "not 'x'"),
        (one, jnp.zeros((5, 0)), "not float32"),
        (lambda obs: 1e30 * obs[:, 0], BATCH.obs, "not finite somewhere"),
        (lambda obs: 1 + 1e-7 * obs[:, 0], BATCH.obs, "nothing to distil"),
        (lambda obs: jnp.where(jnp.arange(len(obs)) % 5, 1.0, obs[:, 0]), BATCH.obs, "nothing to"),
    ],
)
def test_distil_refuses_what_cannot_be_distilled(f, on, message):
    f = f() if f in (one, hungry) else f
    with refused(ValueError, match=message):
        distil(f, on=on, steps=1)


def test_a_file_that_cannot_be_written_is_named_by_its_own_path(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "fear"):
        with pytest.raises(OSError) as caught:
            one().save(path)
        assert caught.value.filename == str(path)


# --- what is legal ----------------------------------------------------------------------------


def test_settings_of_other_types_of_numbers_are_taken():
    half = Fraction(1, 2)
    assert (
        Spec(3, 2, discount=half).discount == Potential(Hope, gamma=half).settings["gamma"] == 0.5
    )
    assert Mood(tau=Fraction(5, 2)) == Mood(tau=2.5) and Fear(horizon=Fraction(5, 2))
    assert Blend(fear=(half, Fear)).init(KEY, SPEC, B).weights == 0.5
    assert Spec(3, 2, info=(key for key in ("harm",))).info == ("harm",)
    indices = (np.int64(0), np.int64(2), np.int64(1)), jnp.array([0, 2, 1]), [0, 2, 1]
    assert len({Inherited(one(), obs=obs) for obs in indices}) == 1


def test_blends_and_errors_can_be_pickled_and_copied():
    blend = Blend(epochs=3, fear=(1.0, Fear), hope=(0.5, Potential(Hope, gamma=0.9)))
    error = MissingInfo("Fear", "harm", ("body",))
    for again in (lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy):
        assert again(blend).rule == blend.rule and again(blend).heads == blend.heads
        assert str(again(error)) == str(error) and again(error).reported == ("body",)


def test_no_epochs_change_nothing():
    blend = Blend(epochs=0, fear=(1.0, Fear))
    state = blend.init(KEY, SPEC, B)
    _, after, metrics = jax.jit(blend.update)(state, BATCH)
    assert same_bits(after.heads, state.heads) and set(metrics) == {"heads/skipped", "fear/signal"}


def test_no_two_arrays_of_a_state_share_memory():
    """So that a jitted update may be given the memory of the state."""
    heads = *HEADS, *(wrap(Hope) for wrap in WRAPPERS), LearningProgress(Curiosity)
    state = Blend(**{f"head_{k}": (1.0, head) for k, head in enumerate(heads)}).init(KEY, SPEC, B)
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(places)) == len(places)


def test_a_batch_of_float32_can_be_scanned_where_64_bits_are_enabled():
    blend = Blend(epochs=1, a=(1.0, Value), b=(1.0, Potential(Hope)), c=(1.0, Potential(Mood)))
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), BATCH)
    with jax.enable_x64(True):
        state = blend.init(KEY, SPEC, B)
        step = lambda state, batch: (blend.update(state, batch)[1], None)  # noqa: E731
        after, _ = jax.eval_shape(partial(jax.lax.scan, step), state, batches)
    leaves = zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True)
    assert all((x.shape, x.dtype) == (y.shape, y.dtype) for x, y in leaves)


# --- batches that carry more ------------------------------------------------------------------


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


@pytest.mark.slow
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


WORSE = head_of(lambda state, batch: (jnp.sqrt(batch.reward), state))


@pytest.mark.parametrize(
    "head",
    [
        WORSE,
        Innate(lambda batch: 1 / batch.reward),
        Normalised(WORSE),
        ConstantOf(WORSE),
        Sham(WORSE, centred=True),
        Potential(WORSE),
        Potential(Normalised(WORSE)),
        GRM(WORSE, delay=3),
    ],
    ids=repr,
)
def test_a_signal_that_is_not_finite_counts_as_0_and_is_not_carried_on(head):
    """After a batch of rewards -1, 0 and 1 the signals on good batches are finite again."""
    blend, good = Blend(own=(1.0, head)), BATCH._replace(reward=1 + jnp.abs(BATCH.reward))
    compiled = jax.jit(blend.update)
    signals, after, metrics = compiled(blend.init(KEY, SPEC, B), BATCH)
    assert is_finite((signals, after))
    if head is WORSE:
        assert not np.isfinite(metrics["own/signal"])  # so that a training loop notices
        assert float(metrics["heads/skipped"]) == pytest.approx(float((BATCH.reward < 0).mean()))
        assert not signals[BATCH.reward < 0].any() and (signals[BATCH.reward > 0] == 1).all()
    signals, after, metrics = compiled(after, good)
    assert is_finite((signals, after)) and float(metrics["heads/skipped"]) == 0
    assert signals.any()


def test_potentials_of_a_head_that_fails_agree_step_by_step_and_at_once():
    blend = Blend(own=(1.0, Potential(WORSE)))
    feel, state = jax.jit(blend.feel), blend.init(KEY, SPEC, B)
    at_once, _ = feel(state, BATCH)
    for t in range(T):
        signals, state = feel(state, chunk(BATCH, t, t + 1))
        np.testing.assert_allclose(signals[0], at_once[t], rtol=1e-6)


def test_care_leaves_out_what_a_swap_makes_infinite():
    swap = lambda batch: batch._replace(reward=batch.reward / 0)  # noqa: E731
    blend = Blend(care=(1.0, Care(Mood, swap=swap)))
    signals, after = blend.feel(blend.init(KEY, SPEC, B), BATCH)
    assert is_finite((signals, after))


def test_one_huge_number_of_a_signal_does_not_blind_its_statistics():
    blend = Blend(own=(1.0, Normalised(Innate(lambda batch: batch.next_obs[..., 0] ** 5))))
    huge = BATCH._replace(next_obs=BATCH.next_obs.at[0, 0, 0].set(1e6))
    _, after = blend.feel(blend.init(KEY, SPEC, B), huge)
    assert is_finite(after) and after.carry["own"][0].variance > 0


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


@pytest.mark.slow
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_every_wrapper_learns_in_a_blend_of_several_environments_and_chunks(wrap):
    blend = Blend(epochs=1, it=(1.0, wrap(Hope)))
    state = blend.init(KEY, SPEC, B)
    for seed in range(2):
        signals, state, _ = blend.update(state, experience(seed=seed))
        assert signals.shape == (T, B, 1) and is_finite((signals, state))
