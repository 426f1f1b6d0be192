"""Imports a user's environments from modules and files; faults are shown as theirs; no jax."""

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

LONGEST = 300  # characters of an exception's message
_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (str(_ROOT / name) + os.sep for name in ("affect", "agents", "envs", "runs"))
NOT_OWN = *_PACKAGES, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
"""How the paths of files begin that are of this project, of Python or of an installed package."""


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
            raise ValueError(
                f"{self.path} has no class or function {self.name!r}; it has {callables_of(module)}"
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
    if not os.path.isfile(path):  # which takes a path that is too long for none
        raise ValueError(f"{entry}: no such file {path}; write it as path/to/file.py:Class")


def import_module(
    name: str, remedy: str = "pip install it, or add its folder to PYTHONPATH"
) -> Any:
    """Imports a module; `remedy` is what to do if there is none.

    Raises:
        ValueError: if there is no such module, or if it raises; the message says which.
    """
    try:
        what = f"{name} fails when imported"
        return call_user(what, partial(importlib.import_module, name), "fix it")
    except ValueError as fault:
        error = fault.__cause__
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{name}.".startswith(f"{absent}."):
            raise ValueError(f"{name} is missing: {remedy} ({error})") from None
        raise


def _import_file(path: Path) -> Any:
    """Imports a file, once a process and content; what lies beside it can be imported from it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]  # an edited file is another module
    name = f"own_{re.sub(r'[^A-Za-z0-9]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        call_user(f"{path} fails when imported", partial(spec.loader.exec_module, module), "fix it")
    except ValueError:
        del sys.modules[name]
        raise
    return module


def callables_of(module: Any) -> str:
    """Names of the classes and functions of a module, for a message."""
    kinds = inspect.isclass, inspect.isfunction
    names = [key for key, value in vars(module).items() if any(kind(value) for kind in kinds)]
    return ", ".join(names) or "none"


def call_user(what: str, function: Callable[[], Any], remedy: str = "fix the environment") -> Any:
    """Calls a user's code -> its result.

    Args:
        what: fails if it raises, the beginning of the message.
        function: to call.
        remedy: at the end of the message, unless the exception suggests another.

    Raises:
        ValueError: if it raises anything, or exits; in one line, with the place.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{what} ({cause_of(error)}); {_remedy_of(error, remedy)}") from error


def cause_of(error: BaseException) -> str:
    """An exception on one line, with the last place in the user's code that led to it.

    That is a file which is neither of this project nor of an installed package; where there is
    none, the place where the exception was raised.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    if isinstance(error, SyntaxError):  # which names its own place
        return text
    frames = traceback.extract_tb(error.__traceback__)
    frames = [f for f in frames if not f.filename.startswith("<frozen")]
    own = [f for f in frames if not f.filename.startswith(NOT_OWN)]
    frame = (own or frames)[-1]
    return (
        text
        if frame.filename == __file__
        else f"{text}, {Path(frame.filename).name}:{frame.lineno}"
    )


def _remedy_of(error: BaseException, otherwise: str) -> str:
    """What to do about an exception of a user's code."""
    missing = re.search(r"missing \d+ required [\w-]+ arguments?: (.*)", str(error))
    if isinstance(error, TypeError) and missing:
        names = re.findall(r"'(\w+)'", missing[1])
        kwargs = json.dumps({name: "..." for name in names})
        return f"give load_suite(..., kwargs={kwargs}) or --env-kwargs '{kwargs}'"
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        own = "'render_mode'" in str(error)
        return "let it accept render_mode=None" if own else "correct kwargs"
    return "install what it imports" if isinstance(error, ImportError) else otherwise
