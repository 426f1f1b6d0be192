"""Describe settings, functions and objects as JSON, equal in every process that defines them alike.

An experiment's identity is a hash of such descriptions, so that another shift, environment, head or
agent is another experiment, and the same script run again is the same.
"""

import hashlib
import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from affect import Factory
from affect.inheritance import Inheritance

ROOT = Path(__file__).parents[1]
PROJECT = ("affect", "agents", "envs", "runs")


def describe(value: Any) -> Any:
    """JSON of a value: what it is made of, without addresses in memory.

    Functions and classes are described by module, name, what they captured and, if they are not of
    this project or an installed package, a hash of their source. Objects are described by their
    attributes, but for fields with `compare=False`, arrays by a hash of their bytes. What was
    described before is only named.
    """
    return _describe(value, set())


def _describe(value: Any, seen: set[int]) -> Any:
    """JSON of a value; functions and objects in `seen`, by their addresses, are only named."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    within = partial(_describe, seen=seen)
    if isinstance(value, Inheritance):
        return value.digest
    if isinstance(value, Factory):
        return [within(value.cls), [], within(value.settings)]
    if isinstance(value, partial):
        return [within(value.func), within(value.args), within(value.keywords)]
    if isinstance(value, Mapping):
        return [[str(key), within(value[key])] for key in sorted(value, key=str)]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, tuple | list):
        return [within(item) for item in value]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _array(value)
    kind = value if hasattr(value, "__qualname__") else type(value)
    name = [kind.__module__, kind.__qualname__]
    if id(value) in seen or inspect.ismodule(value):
        return name
    seen.add(id(value))
    if inspect.isroutine(value) or inspect.isclass(value):
        return [*name, _source(value), within(_captured(value))]
    attributes = _attributes(value)
    if attributes is None:
        text = repr(value)
        return [*name, "" if " at 0x" in text else text]
    return [*name, _source(type(value)), within(attributes)]


def _attributes(value: Any) -> dict | None:
    """Attributes of an object, without fields of a dataclass that it is not compared by."""
    attributes = getattr(value, "__dict__", None)
    if attributes is None or not is_dataclass(value):
        return attributes
    ignored = {field.name for field in fields(value) if not field.compare}
    return {name: item for name, item in attributes.items() if name not in ignored}


def _array(array: Any) -> list:
    """Type, shape and hash of an array."""
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return [str(array.dtype), array.shape, _digest(content)]


def _captured(function: Any) -> list:
    """Variables of enclosing functions, defaults, and the object of a bound method."""
    cells = []
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # not filled yet
            cells.append(cell.cell_contents)
    defaults = [getattr(function, name, None) for name in ("__defaults__", "__kwdefaults__")]
    return [cells, defaults, getattr(function, "__self__", None)]


def _source(function: Any) -> str:
    """Hash of the source of a user's function or class; "" of one of a package or this project."""
    try:
        file = Path(inspect.getfile(function)).resolve()
        if "site-packages" in file.parts or any(file.is_relative_to(ROOT / p) for p in PROJECT):
            return ""
        return _digest(inspect.getsource(function).encode())
    except (OSError, TypeError):  # built in, or typed into an interpreter
        return ""


def _digest(content: bytes) -> str:
    """First 12 hex digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:12]
