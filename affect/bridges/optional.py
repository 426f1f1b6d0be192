"""Checks that an optional library is installed, and recent enough."""

import re
from importlib import import_module
from types import ModuleType


def check_library(name: str, package: str, least: str) -> ModuleType:
    """Imports an optional library.

    Args:
        name: of its module.
        package: its name for pip.
        least: the oldest version that works, such as "1.1".

    Raises:
        ImportError: it is missing, cannot be imported or is too old.
    """
    remedy = f"pip install '{package}>={least}'"
    try:
        module = import_module(name)
    except ImportError as error:
        cause = " ".join(str(error).split())
        raise ImportError(f"this bridge needs {package}: {remedy} ({cause})") from None
    version = str(getattr(module, "__version__", least))
    if version_numbers(version) < version_numbers(least):
        raise ImportError(
            f"this bridge needs {package} {least} or later, and {version} is installed: {remedy}"
        )
    return module


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (2, 9, 0) of "2.9.0a4"."""
    parts = (re.match(r"\d+", part) for part in version.split("."))
    return tuple(int(part.group()) for part in parts if part)
