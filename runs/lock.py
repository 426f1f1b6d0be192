"""Lock an output directory for one process, until that process ends or is killed.

`flock(2)` belongs to the open file, not to the process: a forked child inherits it and would keep
it alive after its parent has been killed. `exec` closes the file by itself (Python opens it with
close-on-exec); a plain fork, such as an environment worker, closes its copy in the hook below.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runs.errors import UserError

_lock_files: set[BinaryIO] = set()  # global, since the fork hook takes no arguments


def _close_in_child() -> None:
    """Close a forked child's copies of lock files; the kernel unlocks when the last copy closes."""
    while _lock_files:
        _lock_files.pop().close()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def hold_lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process alone until the block ends or the process dies.

    The lock is an exclusive, non-blocking `flock` on `<directory>/.lock`, a file that contains the
    holder's process id and is left behind (a left-over file without a holder locks nothing).
    The directory is made when it is missing.

    Args:
        directory: the output directory.

    Yields:
        Nothing.

    Raises:
        UserError: another holder has it (directory, process id and remedy are named), or the lock
            file cannot be written or locked.
    """
    path = Path(directory) / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 (the block below closes it)
    except OSError as error:
        raise UserError(f"{directory} cannot be used: {error}; choose another --out") from error
    with file:
        _lock_files.add(file)
        try:
            _lock(file, directory)
            yield
        finally:
            _lock_files.discard(file)


def _lock(file: BinaryIO, directory: Path) -> None:
    """Lock an open file exclusively and write this process's id into it; raises UserError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(20).decode(errors="replace").strip() or "unknown"
        raise UserError(
            f"{directory} is in use by another run (process {holder}): wait for it, stop that "
            "process, or choose another --out"
        ) from error
    except OSError as error:
        raise UserError(f"{directory} cannot be locked: {error}; choose another --out") from error
