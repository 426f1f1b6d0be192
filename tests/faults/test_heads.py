"""Faults of a user's head: each is one line with file and line before anything is trained."""

import re
import time
from pathlib import Path

import pytest

from envs import load_suite
from runs.engine.arms import check_arms, comparison_arms
from runs.engine.trial import try_heads
from runs.errors import UserError
from tests.faults.bench import report
from tests.runs.small_study import CONFIG, without_key_check
from tests.tiers import slow

no_key_check = pytest.fixture(autouse=True)(without_key_check)

HEADER = """from __future__ import annotations

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect import Head, Spec

"""
GOOD = {
    "base": "Head",
    "attributes": "sign = 0",
    "init": "self.net = nnx.Linear(spec.obs_dim, 1, rngs=rngs)",
    "state": "return jnp.zeros((num_envs,))",
    "call": "return self.net(batch.obs)[..., 0], state + 1.0",
    "loss": "return jnp.square(self.net(batch.obs)[..., 0] - batch.reward).mean(), {'x': 1.0}",
    "arguments": "self, spec, *, rngs",
}


def source(**parts: str) -> str:
    """Text of a file with a head Own, of which some parts are replaced."""
    parts = GOOD | parts
    return (
        HEADER
        + f"""
class Own({parts["base"]}):
    {parts["attributes"]}

    def __init__({parts["arguments"]}):
        {parts["init"]}

    def initial_state(self, num_envs):
        {parts["state"]}

    def __call__(self, state, batch):
        {parts["call"]}

    def loss(self, state, batch):
        {parts["loss"]}
"""
    )


def returning(signal: str) -> str:
    return source(call=f"return {signal}, state")


OWN = r"own\.py:\d+"  # the place that a message must name
FAULTS = {
    "init: raises": (source(init="raise OSError('no such file')"), OWN),
    "init: another signature": (source(arguments="self"), "own|Own"),
    "init: a setting without a default": (source(arguments="self, spec, size, *, rngs"), "size"),
    "init: an attribute that is missing": (source(init="self.net = spec.width"), OWN),
    "init: an integer parameter": (
        source(
            init="self.net = nnx.Param(jnp.arange(2))",
            call="return batch.reward, state",
            loss="return batch.reward.mean(), {}",
        ),
        "int32",
    ),
    "init: exits": (source(init="sys.exit(3)"), OWN),
    "state: raises": (source(state="return num_envs / 0"), OWN),
    "state: of another number of environments": (
        source(state="return jnp.zeros(3)", call="return batch.reward, state + batch.reward[0]"),
        OWN,
    ),
    "state: changes its shape": (source(call="return batch.reward, state[:1]"), "carries|state"),
    "state: changes its type": (source(call="return batch.reward, state.astype(int)"), "state"),
    "state: changes its structure": (source(call="return batch.reward, (state,)"), "structure"),
    "state: is not finite": (source(call="return batch.reward, state / 0"), "not finite"),
    "signal: None": (source(call="pass"), "expected|return"),
    "signal: no state": (source(call="return batch.reward"), "expected|return"),
    "signal: without time": (returning("batch.reward[0]"), r"\[|shape"),
    "signal: of vectors": (returning("batch.obs"), "shape|float"),
    "signal: a number": (returning("0.0"), "shape|expected|return"),
    "signal: not a number": (returning("batch.reward / 0.0 * 0.0"), "nan|inf"),
    "signal: infinite": (returning("batch.reward * jnp.inf"), "inf|nan"),
    "signal: raises": (returning("batch.rewards"), OWN),
    "signal: shapes that do not fit": (returning("batch.obs @ jnp.ones((9, 9))"), OWN),
    "signal: an if on a value": (
        source(call="return (state if batch.reward.sum() > 0 else 0), 0"),
        OWN,
    ),
    "signal: a float of a value": (returning("float(batch.reward.sum()) * batch.reward"), OWN),
    "signal: NumPy of a value": (returning("np.asarray(batch.reward)"), OWN),
    "signal: an attribute is written": (
        source(call="self.x = batch.reward; return self.x, state"),
        "sets an attribute",
    ),
    "signal: needs two steps": (
        returning("batch.reward[1] + batch.reward"),
        "index|shape|expected|nan",
    ),
    "signal: reads what no world reports": (returning("batch.info['pain']"), OWN),
    "loss: raises": (source(loss="raise KeyError('x')"), OWN),
    "loss: no metrics": (source(loss="return jnp.zeros(())"), "expected|return"),
    "loss: a vector": (source(loss="return batch.reward, {}"), "expected|shape"),
    "loss: not a number": (
        source(loss="return jnp.log(-jnp.ones(())) * self.net.bias[0], {}"),
        "finite|nan",
    ),
    "loss: a metric that is none": (
        source(loss="return self.net.bias[0], {'x': 'high'}"),
        "x|str|JAX|type",
    ),
    "loss: moves no parameter": (source(loss="return batch.reward.mean(), {}"), "moves none"),
    "loss: an integer": (source(loss="return 3, {}"), "int|expected|shape|moves"),
    "base: no head": (source(base="object"), "affect.Head"),
    "base: no signal": (HEADER + "class Own(Head):\n    pass\n", "signal|__call__"),
    "file: raises": ("1 / 0\n", OWN),
    "file: a syntax error": ("class Own(:\n", "own.py"),
    "file: imports what is missing": ("import nowhere_to_be_found\n", "install what it imports"),
    "file: exits": ("import sys; sys.exit(1)\n", OWN),
    "file: has no such name": ("class Other: ...\n", "no class or function 'Own'"),
}
DEFAULT = "init: raises", "state: changes its shape"
NAMES = ("Tx", "Epochs", "Constant", "Potential", "None_", "Random", "Lesion", "Constant_Plus")


def attempt(text: str, folder: Path) -> None:
    """Tries the arms of a head in a file, as `runs.compare --heads own.py:Own` does."""
    (folder / "own.py").write_text(text)
    suite = load_suite("CartPole")
    arms = comparison_arms((f"{folder / 'own.py'}:Own",), 0.99, suite)
    check_arms(arms, suite, CONFIG)
    try_heads(arms, suite, CONFIG)


@pytest.mark.parametrize("fault", [f if f in DEFAULT else slow(f) for f in FAULTS])
def test_a_fault_is_one_line_before_anything_is_trained(fault, tmp_path, record_property):
    text, words = FAULTS[fault]
    begun = time.process_time()  # of a machine that may be busy
    with pytest.raises(UserError) as caught:
        attempt(text, tmp_path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700, message
    assert re.search(words, message), message
    assert time.process_time() - begun < 10
    report(record_property, "kinds of fault of a head", 1)


@pytest.mark.slow
def test_a_head_with_a_dataclass_and_an_import_of_a_sibling_is_accepted(tmp_path):
    (tmp_path / "beside_own.py").write_text("SCALE = 2.0\n")
    setting = "from beside_own import SCALE\n@dataclasses.dataclass\nclass Setting:\n"
    setting += "    x: float = SCALE\n"
    text = source(call="return Setting().x * batch.reward, state")
    attempt(text.replace("\nclass Own", f"\n{setting}\nclass Own"), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_with_the_name_of_something_else_is_refused(name, tmp_path):
    (tmp_path / "own.py").write_text(source().replace("class Own", f"class {name}"))
    taken = f"head '{name.lower()}': an arm, a head or a setting of every comparison"
    if name == "None_":  # which is no other name
        comparison_arms((f"{tmp_path / 'own.py'}:{name}",), 0.99, load_suite("CartPole"))
        return
    with pytest.raises(UserError, match=taken):
        comparison_arms((f"{tmp_path / 'own.py'}:{name}",), 0.99, load_suite("CartPole"))


def test_there_are_many_kinds_of_fault():
    assert len(FAULTS) >= 35
