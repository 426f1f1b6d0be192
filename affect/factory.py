"""Factories: a class of heads with its settings, which builds a head once the shapes are known.

Any head class called without a spec gives one: `Fear(horizon=20)`, `Potential(Hope, gamma=0.99)`.
"""

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import FunctionType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from flax.core import FrozenDict
from flax.nnx.module import ModuleMeta

from affect.transition import Spec, is_a

NOT_SETTINGS = ("spec", "rngs")  # arguments of every constructor of heads


@dataclass(frozen=True)
class Origin:
    """What a head was built from; static, and equal by value.

    Attributes:
        spec: the shapes of the world.
        settings: by name, without those that are read from attributes (`Head.held`); None where
            one of them has no value to compare by.
        facts: fields of the card of its file that are known (`Head.with_facts`).
    """

    spec: Spec
    settings: FrozenDict | None
    facts: FrozenDict = FrozenDict()


@dataclass(frozen=True, repr=False)
class Factory:
    """A class of heads and its settings: `factory(spec, rngs=rngs)` builds a head.

    Factories can be pickled and hashed, and are equal if they are of one class with equal settings.
    Lists and arrays among the settings become tuples.

    Attributes:
        cls: the class of heads.
        settings: arguments of its constructor beside `spec` and `rngs`, by name.

    Raises:
        ValueError: a setting that the class does not have, or one that it refuses.
    """

    cls: Any
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        checked = self.cls.checked(bound_settings(self.cls, **self.settings))
        given = {name: _frozen(checked[name]) for name in self.settings}
        try:
            hash(FrozenDict(given))
        except TypeError as error:
            raise ValueError(
                f"{self.cls.__name__}: {error}, so that settings cannot be compared: give numbers, "
                "strings, tuples or functions, or use functools.partial"
            ) from None
        object.__setattr__(self, "settings", FrozenDict(given))

    def __call__(self, spec: Spec, *, rngs: nnx.Rngs, **settings: Any) -> Any:
        """Builds the head; `settings` replace those of the factory."""
        return self.cls(spec, rngs=rngs, **{**self.settings, **settings})

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={shown(value)}" for name, value in self.settings.items())
        return f"{self.cls.__name__}({settings})"

    def __copy__(self) -> "Factory":
        return self

    def __deepcopy__(self, memo: dict) -> "Factory":
        return self

    def __reduce__(self) -> tuple:
        return Factory, (self.cls, picklable(self.cls.__name__, self.settings))


class HeadType(ModuleMeta):
    """The class of head classes: called with a spec they build a head, without one a factory."""

    checked: Callable[[dict[str, Any]], dict[str, Any]]
    held: tuple[str, ...]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Builds a head, or where no spec is given its factory."""
        building = "rngs" in kwargs or "spec" in kwargs or (args and is_a(args[0], Spec))
        if not building:
            return Factory(cls, bound_settings(cls, *args, defaults=False, **kwargs))
        call = _bind(cls, *args, **kwargs)
        settings = cls.checked({k: v for k, v in call.items() if k not in NOT_SETTINGS})
        head = super().__call__(call["spec"], rngs=call["rngs"], **settings)
        static = {name: x for name, x in settings.items() if name not in cls.held}
        head.origin = Origin(call["spec"], _comparable(static))
        return head

    @property
    def __signature__(cls) -> inspect.Signature:
        """Signature of the constructor."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def bound_settings(cls: Any, *args: Any, defaults: bool = True, **kwargs: Any) -> dict[str, Any]:
    """Settings by name of a call of a head class without spec and rngs.

    Args:
        cls: the class of heads.
        *args: settings by position.
        defaults: whether to add those that were not given.
        **kwargs: settings by name.

    Raises:
        ValueError: one is missing, unknown or given twice.
    """
    call = _bind(cls, None, *args, rngs=None, defaults=defaults, **kwargs)
    return {name: value for name, value in call.items() if name not in NOT_SETTINGS}


def _bind(cls: Any, *args: Any, defaults: bool = True, **kwargs: Any) -> dict[str, Any]:
    """Arguments of a constructor by name.

    Raises:
        ValueError: one is missing, unknown or given twice.
    """
    signature = inspect.signature(cls)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        names = [name for name in signature.parameters if name not in NOT_SETTINGS]
        has = f"its settings are {', '.join(names)}" if names else "it has no settings"
        raise ValueError(f"{cls.__name__}: {error}; {has}") from None
    if defaults:
        bound.apply_defaults()
    call = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        value: Any = call.get(name, True)
        if is_a(value, Fraction):
            call[name] = float(value)
        if parameter.annotation in (bool, "bool") and not is_a(value, bool | np.bool_):
            raise ValueError(f"{cls.__name__}: {name} is True or False, not {value!r}")
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            call |= call.pop(name, {})
    return call


def _comparable(settings: dict[str, Any]) -> FrozenDict | None:
    """Settings that can be hashed and compared by value; None if one of them cannot."""
    try:
        frozen: FrozenDict = FrozenDict({name: _frozen(value) for name, value in settings.items()})
        hash(frozen)
    except TypeError:
        return None
    return frozen


def _frozen(value: Any) -> Any:
    """A setting as a value that can be hashed: tuples for lists and arrays, factories for heads."""
    if is_a(value, functools.partial) and is_a(value.func, HeadType):
        value = value.func(*value.args, **value.keywords)
    if is_a(value, Factory):
        return value if value.settings else value.cls
    if is_a(value, list | tuple):
        return tuple(map(_frozen, value))
    if is_a(value, Mapping):
        return FrozenDict({name: _frozen(value[name]) for name in value})
    if hasattr(value, "tolist") and not is_a(value, jax.core.Tracer):
        return _frozen(value.tolist())
    return value


def shown(value: Any) -> str:
    """A setting as it is written in code."""
    return getattr(value, "__name__", None) or repr(value)


def picklable(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings or attributes of the class `name` as picklers get them: see `LocalFunction`."""
    return {
        key: LocalFunction(f"{name}({key}={shown(value)})", value)
        if is_a(value, FunctionType) and "<" in value.__qualname__
        else value
        for key, value in values.items()
    }


class LocalFunction(NamedTuple):
    """A lambda or a function within a function, for picklers; unpickled it is the function itself.

    `pickle` stores the name of a function in its module, and its error is the name that it does not
    find there. So it gets a copy of the function whose name is the remedy. What stores the code of
    a function, as `cloudpickle` does, takes the copy.
    """

    place: str
    function: Any

    def __reduce__(self) -> tuple:
        copy: Any = COPIES.get(self.function)
        if copy is None:
            names = "__code__", "__globals__", "__name__", "__defaults__", "__closure__"
            copy = FunctionType(*(getattr(self.function, name) for name in names))
            functools.update_wrapper(copy, self.function)
            del copy.__wrapped__
            copy.__kwdefaults__ = self.function.__kwdefaults__
            copy.__qualname__ = f"{self.place}: {REMEDY}"
            COPIES[self.function] = copy
        return _renamed, (copy, self.function.__qualname__)


COPIES: Any = weakref.WeakKeyDictionary()  # function -> its copy, one for all places that hold it
REMEDY = "a lambda or a function within a function, define it with def at the top of a module"


def _renamed(function: FunctionType, name: str) -> FunctionType:
    """The function with a qualified name."""
    function.__qualname__ = name
    return function
