"""Descriptions of settings and functions: equal where defined alike, else different."""

import json
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from runs.describe import describe


def captured(number):
    def function():
        return number

    return function


class Holder:
    def __init__(self, value):
        self.value, self.itself = value, self


class Slots:
    __slots__ = ("value",)


PAIRS = [
    (1, 2),
    ("1", 1),
    ([1, 2], [2, 1]),
    ({"a": 1}, {"a": 2}),
    ({1, 2}, {1, 3}),
    (np.zeros(2), np.zeros(3)),
    (np.zeros(2), np.zeros(2, np.float32)),
    (jax.random.key(0), jax.random.key(1)),
    (captured(1), captured(2)),
    (captured([1]), captured([2])),
    (partial(max, 1), partial(max, 2)),
    (partial(max, key=abs), partial(max, key=len)),
    (Holder(1), Holder(2)),
    (Holder(Holder(Holder(1))), Holder(Holder(Holder(2)))),
    (Holder(captured(1)), Holder(captured(2))),
    (Holder, Slots),
    (range(2), range(3)),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_differs_is_described_differently(first, second):
    texts = [json.dumps(describe(value)) for value in (first, second)]
    assert texts[0] != texts[1]
    assert " at 0x" not in "".join(texts)


def test_equal_definitions_are_described_alike():
    assert describe(captured(np.ones(2))) == describe(captured(np.ones(2)))
    assert describe({"b": 1, "a": 2}) == describe({"a": 2, "b": 1})
    assert describe(Slots()) == describe(Slots())
    assert describe(np.random.default_rng(0)) == describe(np.random.default_rng(0))


@pytest.mark.slow
def test_source_of_a_users_function_counts_and_not_the_process(tmp_path):
    """Descriptions by two processes of the same file, and of an edited one."""
    script = "import json, runs.describe\ndef own(x, factor={}):\n    return factor * x{}\n"
    script += "print(json.dumps(runs.describe.describe(own)))\n"
    printed = []
    for change in (("1", ""), ("1", ""), ("2", ""), ("1", " + 1")):
        (tmp_path / "own.py").write_text(script.format(*change))
        command = [sys.executable, str(tmp_path / "own.py")]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert printed[0] == printed[1]
    assert len(set(printed)) == 3
