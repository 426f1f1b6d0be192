"""Imports a user's environments from modules and files; faults are shown as theirs; no jax."""

import importlib
import importlib.util
import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FromFile:
    """Constructor `name` of the file at `path`, imported where it is called.

    It has the signature of the constructor, and is pickled by path and name, so that worker
    processes can use what no module path leads to.
    """

    path: str
    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes what the constructor of the file makes."""
        return self.load()(*args, **kwargs)

    def load(self) -> Callable[..., Any]:
        """Imports the file and returns the class or function.

        Raises:
            ValueError: for a missing file, one that raises on import, or an unknown name.
        """
        module = _import_file(Path(self.path))
        constructor = getattr(module, self.name, None)
        if not callable(constructor):
            classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
            raise ValueError(
                f"{self.path} has no class {self.name!r}; it has {', '.join(classes) or 'none'}"
            )
        return constructor

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.load())


def from_file(entry: str) -> FromFile:
    """Constructor at "path/to/file.py:Class", imported; ValueError as in `FromFile.load`."""
    path, _, name = entry.rpartition(":")
    check_file(entry)
    constructor = FromFile(str(Path(path).resolve()), name)
    constructor.load()
    return constructor


def check_file(entry: str) -> None:
    """Checks that the file of "path/to/file.py:Class" exists; ValueError if not."""
    path = entry.rpartition(":")[0]
    if not Path(path).is_file():
        raise ValueError(f"{entry}: no such file {path}; write it as path/to/file.py:Class")


def import_module(
    name: str, remedy: str = "pip install it, or add its folder to PYTHONPATH"
) -> Any:
    """Imports a module; `remedy` is what to do if there is none.

    Raises:
        ValueError: if there is no such module, or if it raises; the message says which.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"{name} is missing: {remedy} ({error})") from None
        raise ValueError(_import_fault(name, error)) from error
    except Exception as error:  # a user's module may raise anything
        raise ValueError(_import_fault(name, error)) from error


def _import_file(path: Path) -> Any:
    """Imports a file, once a process; what lies beside it can be imported from it."""
    name = "own_env_" + re.sub(r"\W", "_", str(path))
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        del sys.modules[name]
        raise ValueError(_import_fault(str(path), error)) from error
    return module


def _import_fault(name: str, error: Exception) -> str:
    """Says that a user's module raised when it was imported."""
    remedy = "install what it imports" if isinstance(error, ImportError) else "fix it"
    return f"{name} fails when imported ({cause_of(error)}); {remedy}"


def cause_of(error: Exception) -> str:
    """An exception on one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next(f for f in reversed(frames) if not f.filename.startswith("<frozen"))
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{text}, {Path(frame.filename).name}:{frame.lineno}"


def remedy_of(error: Exception) -> str:
    """What to do about an exception of a constructor."""
    missing = re.search(r"missing \d+ required [\w-]+ arguments?: (.*)", str(error))
    if isinstance(error, TypeError) and missing:
        names = re.findall(r"'(\w+)'", missing[1])
        kwargs = json.dumps({name: "..." for name in names})
        return f"give load_suite(..., kwargs={kwargs}) or --env-kwargs '{kwargs}'"
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        return "correct kwargs"
    return "install what it imports" if isinstance(error, ImportError) else "fix the environment"
