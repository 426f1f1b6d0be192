"""A head of one's own, asked for as `FILE.py:NAME`: a class in a file, or any factory."""

import hashlib
import importlib.util
import inspect
from collections.abc import Iterable
from pathlib import Path

from affect import Factory
from runs.errors import UserError


def is_custom(name: str) -> bool:
    """Whether a head is asked for by file and name."""
    return ":" in name


def short_name(name: str) -> str:
    """What a head is called in arms, folders and tables: `my_head.py:Dread` is dread."""
    return name.rpartition(":")[2].lower()


def load_head(name: str) -> Factory:
    """The factory that `FILE.py:NAME` names.

    Raises:
        UserError: for a file that is not there or fails, or a name in it that cannot be called.
    """
    file, _, what = name.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"head {name}: no such file {file}; write it as my_head.py:Dread")
    spec = importlib.util.spec_from_file_location(f"own_head_{file_digest(name)}", path.resolve())
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody's file raises
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"head {name}: {file} fails ({said}); mend it") from error
    factory = getattr(module, what, None)
    if not callable(factory):
        there = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise UserError(f"head {name}: {file} has no {what!r}; it has {', '.join(there) or 'none'}")
    return factory


def file_digest(name: str) -> str:
    """Eight hexadecimal digits of the file, so that a head that was edited is another one."""
    try:
        return hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()[:8]
    except OSError:
        return "missing"


def file_digests(names: Iterable[str]) -> tuple[str, ...]:
    """The digests of those that are somebody's own."""
    return tuple(file_digest(name) for name in names if is_custom(name))
