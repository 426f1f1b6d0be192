"""Lock an output folder for one process, claim it for one study, and replace a file atomically.

The lock is filelock's, version 4 or later: earlier versions leave it open in forked children, such
as environment workers, and empty the file that names the holder.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runs.errors import UserError


@contextmanager
def hold_lock(directory: Path, wait: bool = False) -> Iterator[None]:
    """Hold `directory` for this process alone until the block ends or the process dies.

    With `wait`, another holder is waited for. The lock is an exclusive `flock` on
    `<directory>/.lock`, a file that contains the holder's process id and is left behind (a
    left-over file without a holder locks nothing). The directory is made when it is missing.

    Raises:
        UserError: another holder has it (directory, process id and remedy are named), or the lock
            file cannot be written or locked.
    """
    from filelock import FileLock, Timeout  # 80 ms, which `--help` need not wait for

    path = Path(directory) / ".lock"
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, blocking=wait, thread_local=False, fallback_to_soft=False)
            stack.enter_context(lock)
            path.write_text(str(os.getpid()))
        except Timeout as error:
            holder = path.read_text(errors="replace").strip() or "unknown"
            raise UserError(
                f"{directory} is in use by another run (process {holder}): wait for it, stop that "
                "process, or choose another --out"
            ) from error
        except OSError as error:
            raise UserError(f"{directory} cannot be used: {error}; choose another --out") from error
        yield


def claim_folder(out: Path, identity: str) -> None:
    """Write the study's identity into its folder, or check that it matches.

    Raises:
        UserError: if the folder holds another identity.
    """
    marker = out / "identity"
    if not marker.exists():
        replace_file(marker, identity)
    elif marker.read_text() != identity:
        raise UserError(
            f"{out} holds a study with other settings; choose another --out, or delete it"
        )


def replace_file(path: Path, text: str) -> None:
    """Write a file atomically: after a crash it holds the old or the new text, whole."""
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
