"""States of blends survive what users save with: pickle, deepcopy, cloudpickle, Orbax, Flax."""

import copy
import pickle

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from affect import Blend, Curiosity, Mood, Potential
from tests.affect.cases import CASES, KEY, SPEC, B, experience, same_bits
from tests.tiers import slow


@pytest.fixture(scope="module")
def state():
    """State of a blend of every head and wrapper, with random numbers everywhere."""
    blend = Blend(**{name: (1.0, factory) for name, factory in CASES.items()})
    rng = np.random.default_rng(0)
    state = blend.init(KEY, SPEC, B)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), state)


def by_orbax(state, path):
    """The state, saved and restored by Orbax."""
    checkpoint = pytest.importorskip("orbax.checkpoint")
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path / "state", target=state)


def zeros(state):
    return jax.tree.map(jnp.zeros_like, state)


WAYS = {
    "pickle": lambda state, path: pickle.loads(pickle.dumps(state)),
    "deepcopy": lambda state, path: copy.deepcopy(state),
    "cloudpickle": lambda state, path: cloudpickle.loads(cloudpickle.dumps(state)),
    "orbax": by_orbax,
    "flax bytes": lambda state, path: serialization.from_bytes(
        zeros(state), serialization.to_bytes(state)
    ),
    "flax state": lambda state, path: serialization.from_state_dict(
        zeros(state), serialization.to_state_dict(state)
    ),
}


@pytest.mark.parametrize("way", [slow(way) if way == "orbax" else way for way in WAYS])
def test_the_state_of_every_head_and_wrapper_comes_back(way, state, tmp_path):
    again = WAYS[way](state, tmp_path)
    for name in CASES:
        own, other = ((s.heads[name], s.carry[name]) for s in (state, again))
        assert same_bits(own, other), name
    assert same_bits(again, state)


@pytest.mark.parametrize("way", [way if way in ("pickle", "orbax") else slow(way) for way in WAYS])
def test_training_goes_on_as_before_without_another_trace(way, tmp_path):
    blend, traces = Blend(epochs=1, it=(1.0, Potential(Curiosity)), mood=(1.0, Mood)), []

    def update(state, batch):
        traces.append(way)
        return blend.update(state, batch)

    compiled = jax.jit(update)
    state = compiled(blend.init(KEY, SPEC, B), experience())[1]
    again = WAYS[way](state, tmp_path)
    assert same_bits(*(compiled(s, experience(seed=2)) for s in (again, state)))
    assert len(traces) == 1


def test_other_arrays_than_those_of_a_head_are_refused():
    state = Blend(it=(1.0, Mood), that=(1.0, Curiosity)).init(KEY, SPEC, B)
    content = serialization.to_state_dict(state)
    content["heads"]["that"]["net"].pop("predictor.out.bias")
    with pytest.raises(ValueError, match="Curiosity has .*predictor.out.bias"):
        serialization.from_state_dict(state, content)
