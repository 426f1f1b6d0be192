"""Factories: any head class called without a spec; equal by value, checked when made."""

import copy
import inspect
import io
import itertools
import pickle
from functools import partial

import cloudpickle
import jax
import numpy as np
import pytest

import affect
from affect import (
    GRM,
    Blend,
    Care,
    Constant,
    Factory,
    Fear,
    Homeostasis,
    Hope,
    Innate,
    Mood,
    Potential,
    Sham,
    Spec,
    build,
)
from tests.affect.cases import (
    CASES,
    KEY,
    SPEC,
    B,
    T,
    apply_head,
    experience,
    run_head,
    same_bits,
)
from tests.refusal import refused


def looming(batch):
    return -batch.next_obs[..., 0]


SAME = [  # factories of the same head
    (Fear(horizon=20), Fear(20), partial(Fear, horizon=20)),
    (Potential(Hope), Potential(head=Hope), Potential(Hope())),
    (Potential(Hope(horizon=20), gamma=0.9), Potential(partial(Hope, horizon=20), gamma=0.9)),
    (Homeostasis((0.0, 1.0)), Homeostasis([0.0, 1.0]), Homeostasis(np.array([0.0, 1.0]))),
    (Innate(looming), Innate(fn=looming)),
]


@pytest.mark.parametrize("factories", SAME, ids=lambda factories: repr(factories[0]))
def test_factories_of_the_same_settings_are_equal_and_build_the_same_head(factories):
    first, *others = factories
    batch = experience()
    for other in others:
        if isinstance(other, Factory):
            assert first == other and hash(first) == hash(other) and repr(first) == repr(other)
        assert same_bits(*(run_head(factory, batch) for factory in (first, other)))
    assert first != type(first)(first.cls, {**first.settings, **DIFFERENT[first.cls]})


DIFFERENT = {
    Fear: {"horizon": 21},
    Potential: {"gamma": 0.5},
    Homeostasis: {"setpoint": 3.0},
    Innate: {"fn": abs},
}


def test_a_factory_prints_as_it_is_written():
    assert repr(Potential(Hope(horizon=20), gamma=0.9)) == (
        "Potential(head=Hope(horizon=20), gamma=0.9)"
    )
    assert repr(Sham(Fear)) == "Sham(head=Fear)"


@pytest.mark.parametrize("module", [pickle, cloudpickle, copy])
@pytest.mark.parametrize("name", CASES)
def test_a_factory_survives_pickle_and_copies(name, module):
    factory = CASES[name]
    if isinstance(factory, Factory):
        again = copy.deepcopy(factory) if module is copy else module.loads(module.dumps(factory))
        assert again == factory and hash(again) == hash(factory)


def test_a_lambda_cannot_be_pickled_but_by_cloudpickle():
    factory = Potential(Innate(lambda batch: batch.reward))
    head = build(factory, SPEC, KEY)
    for thing, pickler in itertools.product((factory, head), (pickle.Pickler, pickle._Pickler)):
        with refused(
            pickle.PicklingError, "Innate(fn=<lambda>)", match="define it with def at the top of a"
        ):
            pickler(io.BytesIO()).dump(thing)
        cloudpickle.loads(cloudpickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)


def test_a_pickler_that_takes_lambdas_decides_wherever_it_is_called_from():
    """Also one called from here, and the function comes back once, under its own name."""
    function = lambda batch: -batch.reward  # noqa: E731
    head, file = build(Potential(Innate(function)), SPEC, KEY), io.BytesIO()
    pickle.Pickler.dump(cloudpickle.Pickler(file), head)
    again = pickle.loads(file.getvalue())
    assert same_bits(*(apply_head(x, x.initial_state(B), experience())[0] for x in (head, again)))
    assert again.inner.fn is again.inner.origin.settings["fn"]
    assert again.inner.fn.__qualname__ == function.__qualname__
    assert copy.copy(head).inner.fn is head.inner.fn is function


# --- classes ----------------------------------------------------------------------------------


def test_wrappers_are_classes():
    head = build(Potential(Fear), SPEC, KEY)
    assert isinstance(head, Potential) and issubclass(GRM, affect.wrappers.StatefulWrapper)
    assert list(inspect.signature(Care).parameters) == ["spec", "head", "swap", "rngs"]
    assert list(inspect.signature(Fear).parameters) == ["spec", "horizon", "width", "rngs"]
    assert list(inspect.signature(head).parameters) == ["state", "batch"]


@pytest.mark.parametrize("name", CASES)
def test_a_built_head_remembers_its_spec_and_settings(name):
    head = build(CASES[name], SPEC, KEY)
    assert head.origin.spec == SPEC
    factory = head.factory()
    assert factory.cls is type(head)
    again = build(factory, SPEC, KEY)
    assert same_bits(again, head) and again.factory() == factory
    assert not [x for x in jax.tree.leaves(head) if isinstance(x, affect.factory.Origin)]


def test_settings_held_as_parameters_are_read_from_them_and_share_programs():
    heads = [build(Constant(value), SPEC, KEY) for value in (0.1, 2.0)]
    assert jax.tree.structure(heads[0]) == jax.tree.structure(heads[1])
    assert [head.factory().settings["value"] for head in heads] == [0.1, 2.0]
    traces = []

    def signal(head):
        traces.append(head)
        return head((), experience())[0]

    compiled = jax.jit(signal)
    assert [float(compiled(head)[0, 0]) for head in heads] == [np.float32(0.1), 2.0]
    assert len(traces) == 1
    tree = jax.tree.structure(build(Homeostasis((0.0, 1.0)), SPEC, KEY))
    assert tree == jax.tree.structure(build(Homeostasis((0.0, 2.0)), SPEC, KEY))


def test_a_program_is_traced_once_for_heads_of_equal_settings():
    blend, traces = Blend(fear=(1.0, Potential(Fear(horizon=5)))), []

    def feel(state, batch):
        traces.append(state)
        return blend.feel(state, batch)[0]

    compiled = jax.jit(feel)
    for seed in range(3):
        state = blend.init(jax.random.key(seed), Spec(**vars(SPEC)), B)
        assert compiled(state, experience()).shape == (T, B, 1)
    assert len(traces) == 1


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Fear(horizn=20), "unexpected keyword argument 'horizn'; its settings are horizon"),
        (lambda: Fear(1, 2, 3), "Fear: too many positional arguments"),
        (lambda: Constant(), "missing a required argument: 'value'"),
        (lambda: build(Potential, SPEC, KEY), "Potential: missing a required argument: 'head'"),
        (lambda: Fear(horizon=0.5), "a horizon is at least 1 step, not 0.5"),
        (lambda: Fear(horizon="20"), "a horizon is at least 1 step, not 20"),
        (lambda: Hope(width=0), "at least 1 hidden unit, not 0"),
        (lambda: Mood(tau=1), "set tau above 1"),
        (lambda: Constant(np.nan), "a value of nan: it is a finite number"),
        (lambda: Constant("1"), "a value of '1': it is a finite number"),
        (lambda: Homeostasis("full"), "a setpoint is a number or a list of numbers, not full"),
        (lambda: Homeostasis((0.0, np.inf)), "a setpoint is a number or a list"),
        (lambda: Innate(3), "fn is a function of a batch, not 3"),
        (lambda: Care(Fear, swap=3), "swap is a function of a batch, not 3"),
        (lambda: GRM(Fear, delay=0), "a delay is a whole number of steps"),
        (lambda: Potential(Hope, gamma=0), "a discount in (0, 1], not gamma=0"),
        (lambda: Potential(Hope, gamma="agent"), "a discount in (0, 1], not gamma=agent"),
        (lambda: Potential(partial(Hope, horizon=0)), "a horizon is at least 1 step"),
        (lambda: Innate(looming, reads=({"set"},)), "unhashable type: 'set'"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_factory_is_made(call, message):
    with refused(ValueError, message):
        call()
