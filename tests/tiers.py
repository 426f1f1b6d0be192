"""Division of parametrised tests: representatives by default, all cases in the slow tier."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest


def representative(
    cases: Iterable[Any], kind: Callable[[Any], Hashable], name: Callable[[Any], str] = str
) -> list[Any]:
    """Parameters of all cases: the first of each kind is a default test, the others are slow.

    Args:
        cases: values of the parameter.
        kind: of a case.
        name: of a case, its id.
    """
    known: set[Hashable] = set()
    params = []
    for case in cases:
        marks = [pytest.mark.slow] if kind(case) in known else []
        known.add(kind(case))
        params.append(pytest.param(case, id=name(case), marks=marks))
    return params


def slow(*values: Any) -> Any:
    """A case of a parametrised test that is in the slow tier."""
    return pytest.param(*values, marks=pytest.mark.slow)
