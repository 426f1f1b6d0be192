"""Load a user's head, or another class or function, from a file given as `FILE.py:NAME`."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envs.host.user_code import from_file
from runs.errors import UserError


def is_custom(name: str) -> bool:
    """Whether a head name has the form `FILE.py:NAME`."""
    return ":" in name


def short_name(name: str) -> str:
    """Short name of a head in arms, folders and tables: `my_head.py:Dread` is `dread`."""
    return name.rpartition(":")[2].lower()


def load_callable(name: str, kind: str = "head", example: str = "my_head.py:Dread") -> Any:
    """Import `NAME` from `FILE.py`, given as `FILE.py:NAME`; errors name its kind and an example.

    Raises:
        UserError: for a missing file, one that raises on import, or a name that is not callable.
    """
    file, _, _ = name.rpartition(":")
    if Path(file).suffix != ".py" or not os.path.isfile(file):
        raise UserError(f"{kind} {name:.200}: no such file {file:.200}; write it as {example}")
    try:
        return from_file(name).load()
    except ValueError as fault:
        raise UserError(f"{kind} {name}: {fault}") from fault


def file_digest(name: str) -> str:
    """First 8 hex digits of the SHA-256 of the head's file, so that an edit changes the study."""
    try:
        return hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()[:8]
    except OSError:
        return "missing"


def file_digests(names: Iterable[str]) -> tuple[str, ...]:
    """Digests of the files of those names given as `FILE.py:NAME`."""
    return tuple(file_digest(name) for name in names if ".py:" in name)
