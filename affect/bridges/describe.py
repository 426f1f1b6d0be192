"""Describe a blend as text, the same for equal blends, and find the classes of unbuilt heads."""

from functools import partial
from typing import Any

from affect.blend import Blend
from affect.factory import Factory, shown
from affect.transition import is_a


def blend_text(blend: Blend) -> dict[str, str]:
    """Head -> its factory in words; weights are left out."""
    return {name: factory_text(factory) for name, (_, factory) in blend.heads.items()}


def factory_text(factory: Any) -> str:
    """A factory of heads in words: class and settings, functions by their names."""
    if is_a(factory, Factory):
        settings = (f"{name}={_text(value)}" for name, value in factory.settings.items())
        return f"{factory.cls.__name__}({', '.join(settings)})"
    if is_a(factory, partial):
        given = [*map(_text, factory.args)]
        given += [f"{name}={_text(value)}" for name, value in factory.keywords.items()]
        return f"{factory_text(factory.func)}({', '.join(given)})"
    return getattr(factory, "__name__", type(factory).__name__)


def _text(value: Any) -> str:
    """A setting in words."""
    digest = getattr(value, "digest", None)
    if digest is not None:
        return str(digest)
    if is_a(value, Factory | partial):
        return factory_text(value)
    if is_a(value, tuple):
        return f"({', '.join(map(_text, value))})"
    return shown(value)


def first_with(blend: Blend, kind: type) -> str | None:
    """Name of the first head of a class, or with one of it inside; None without."""
    names = (name for name, (_, factory) in blend.heads.items() if kind in classes_in(factory))
    return next(names, None)


def classes_in(factory: Any) -> list[Any]:
    """The classes of a head and of those inside it, as far as its factory shows them."""
    if is_a(factory, Factory):
        return [
            factory.cls,
            *(cls for value in factory.settings.values() for cls in classes_in(value)),
        ]
    if is_a(factory, partial):
        inside = [factory.func, *factory.args, *factory.keywords.values()]
        return [cls for value in inside for cls in classes_in(value)]
    return [factory] if is_a(factory, type) else []
