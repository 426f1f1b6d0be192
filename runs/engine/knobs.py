"""Settings of heads and their wrappers by name: their types, their values, and changes of them."""

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from affect import Blend, Constant, Factory
from affect.factory import NOT_SETTINGS, bound_settings

PLAIN = (bool, int, float, str)
DATA = ("scale", "shift", "value", "k")  # settings that are parameters: data of a program


def with_knobs(blend: Blend, knobs: Mapping[str, Any]) -> Blend:
    """The blend with other weights and settings of its heads; itself if no knob is one of its own.

    Raises:
        ValueError: for a value that a head refuses.
    """
    heads = dict(blend.heads)
    for name, value in knobs.items():
        for head in [name.split(".")[1]] if name != "weight" else _not_constant(blend):
            if head in heads:
                weight, factory = heads[head]
                knob = name.rpartition(".")[2]
                changed = None if knob == "weight" else with_setting(factory, knob, value)
                heads[head] = (value, factory) if knob == "weight" else (weight, changed or factory)
    return blend if heads == blend.heads else Blend(blend.tx, blend.epochs, **heads)


def with_setting(factory: Any, name: str, value: Any) -> Factory | None:
    """The factory of a head with a setting of its outermost wrapper that has it; None if none has.

    Raises:
        ValueError: for a value that the head refuses.
    """
    cls, settings = _parts(factory)
    if name in _parameters(cls):
        return Factory(cls, {**settings, name: value})
    if "head" not in settings:
        return None
    inner = with_setting(settings["head"], name, value)
    return None if inner is None else Factory(cls, {**settings, "head": inner})


def knob_values(agent: Any, blend: Blend) -> dict[str, Any]:
    """Values of all settings of an agent and of the heads of a blend, by name."""
    values = {f.name: getattr(agent, f.name) for f in fields(agent)} if is_dataclass(agent) else {}
    columns = {f"agent.{name}": value for name, value in values.items()}
    for head, (weight, factory) in blend.heads.items():
        columns[f"heads.{head}.weight"] = weight
        for cls, settings in chain_of(factory):
            for name, value in bound_settings(cls, **settings).items():
                if name != "head" and not isinstance(value, Factory):
                    columns.setdefault(f"heads.{head}.{name}", value)
    return columns


def masked(factory: Any) -> Any:
    """The factory with one value for every number of DATA that its heads hold as a parameter.

    Heads of equal masked factories share a training program (`affect.Blend.rule`). A plain
    potential (scale 1, shift 0) holds none.
    """
    cls, settings = _parts(factory)
    changes = {"head": masked(settings["head"])} if "head" in settings else {}
    if held := set(DATA) & set(getattr(cls, "held", ())):
        bound = bound_settings(cls, **settings)
        if (bound.get("scale"), bound.get("shift")) != (1, 0):
            changes |= dict.fromkeys(held, 2.0)
    return Factory(cls, {**settings, **changes}) if changes else factory


def knob_kinds(factory: Any) -> Iterator[tuple[str, Any]]:
    """(name, type) of the settings of a head and its wrappers, the innermost first."""
    for cls, _ in reversed(list(chain_of(factory))):
        for name, parameter in _parameters(cls).items():
            default = parameter.default
            if is_plain(parameter.annotation):
                yield name, parameter.annotation
            elif isinstance(default, PLAIN):
                yield name, type(default)


def chain_of(factory: Any) -> Iterator[tuple[Any, dict]]:
    """(class, settings) of a factory, from its outermost wrapper to its head."""
    cls, settings = _parts(factory)
    yield cls, settings
    if "head" in settings:
        yield from chain_of(settings["head"])


def _parts(factory: Any) -> tuple[Any, dict[str, Any]]:
    """Class and given settings of a factory, a `functools.partial` of a class, or a class."""
    if isinstance(factory, Factory):
        return factory.cls, dict(factory.settings)
    if isinstance(factory, partial):
        return factory.func, dict(factory.keywords)
    return factory, {}


def _parameters(cls: Any) -> dict[str, inspect.Parameter]:
    """Settings of a class of heads by name, without the inner head."""
    parameters = inspect.signature(cls).parameters
    return {k: p for k, p in parameters.items() if k not in (*NOT_SETTINGS, "head", "self")}


def is_plain(kind: Any) -> bool:
    """Whether a type is a number, a truth value or a text, or one of these or None."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return all(member in (*PLAIN, types.NoneType) for member in typing.get_args(kind))
    return kind in PLAIN


def _not_constant(blend: Blend) -> list[str]:
    """Names of the heads of a blend that are no constants."""
    return [
        name for name, (_, factory) in blend.heads.items() if _parts(factory)[0] is not Constant
    ]
