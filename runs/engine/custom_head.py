"""Load a user's head, or another class or function, from a file given as `FILE.py:NAME`."""

import hashlib
import importlib.util
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from affect import HeadFactory
from envs.host.user_code import call_user, callables_of
from runs.errors import UserError


def is_custom(name: str) -> bool:
    """Whether a head name has the form `FILE.py:NAME`."""
    return ":" in name


def short_name(name: str) -> str:
    """Short name of a head in arms, folders and tables: `my_head.py:Dread` is `dread`."""
    return name.rpartition(":")[2].lower()


def load_head(name: str) -> HeadFactory:
    """Import the head factory `NAME` from `FILE.py`, given as `FILE.py:NAME` (`load_callable`)."""
    return load_callable(name, "head", "my_head.py:Dread")


def load_callable(name: str, kind: str, example: str) -> Any:
    """Import `NAME` from `FILE.py`, given as `FILE.py:NAME`; errors name its kind and an example.

    Raises:
        UserError: for a missing file, one that raises on import, or a name that is not callable.
    """
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{kind} {name}: no such file {file}; write it as {example}")
    module_name = f"own_{kind}_{file_digest(name)}"
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    module = importlib.util.module_from_spec(spec)
    try:
        execute = partial(spec.loader.exec_module, module)
        call_user(f"{kind} {name}: {file} fails", execute, "fix it")
    except ValueError as fault:
        raise UserError(str(fault)) from fault
    loaded = getattr(module, attribute, None)
    if not callable(loaded):
        available = callables_of(module)
        raise UserError(f"{kind} {name}: {file} has no {attribute!r}; it has {available}")
    return loaded


def file_digest(name: str) -> str:
    """First 8 hex digits of the SHA-256 of the head's file, so that an edit changes the study."""
    try:
        return hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()[:8]
    except OSError:
        return "missing"


def file_digests(names: Iterable[str]) -> tuple[str, ...]:
    """Digests of the files of those names given as `FILE.py:NAME`."""
    return tuple(file_digest(name) for name in names if ".py:" in name)
