"""Lock an output folder for one process, claim it for one study, and replace a file atomically.

The lock is filelock's, version 4 or later: earlier versions leave it open in forked children, such
as environment workers, and empty the file that names the holder.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runs.errors import UserError

IDENTITY = "identity"  # file of a study's folder
FINISHED = "manifest.json"  # file that a finished study has (`runs.prereg.manifest`)
PACKAGES = ("affect-heads", "flax", "jax", "jaxlib", "numpy", "optax")  # that numbers depend on


@contextmanager
def hold_lock(directory: Path, wait: bool = False) -> Iterator[None]:
    """Hold `directory` for this process alone until the block ends or the process dies.

    With `wait`, another holder is waited for. The lock is an exclusive `flock` on
    `<directory>/.lock`, a file that contains the holder's process id and is left behind (a
    left-over file without a holder locks nothing). The directory is made when it is missing.

    Raises:
        UserError: another holder has it (directory, process id and remedy are named), the lock
            file cannot be written or locked, or no checkpoint can be stored there.
    """
    from filelock import FileLock, Timeout  # 80 ms, which `--help` need not wait for

    path = Path(directory) / ".lock"
    if set("[]\\") & set(str(path.absolute())):  # Orbax opens another path than it makes
        raise UserError(f"{directory}: checkpoints need a path without [, ] and \\; choose another")
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
    """Write the study's identity and the versions of PACKAGES into its folder, or compare them.

    A study is continued under the versions that it was begun under, as numbers of two versions are
    of neither; a finished one, of which nothing is computed any more, under any.

    Raises:
        UserError: if the folder holds another identity, a damaged one, or an unfinished study of
            other versions.
    """
    marker = out / IDENTITY
    if not marker.exists():
        replace_file(marker, _identity_text(identity, _versions()))
        return
    lines = marker.read_bytes().decode(errors="replace").splitlines()
    if lines == [identity]:  # written before versions were
        return
    if len(lines) != 3 or marker.read_bytes() != _identity_text(*lines[:2]).encode():
        remains = "checkpoints", "metrics.jsonl", "scores.csv", "sealed.csv", "parts"
        kept = ", ".join(name for name in remains if (out / name).exists()) or "nothing else"
        raise UserError(
            f"{marker} is damaged or of an earlier version; beside it there is {kept}: if that is "
            f"of this very command, delete {marker} and repeat it, otherwise choose another --out"
        )
    if lines[0] != identity:
        raise UserError(
            f"{out} holds a study with other settings; choose another --out, or delete it"
        )
    if lines[1] != _versions() and not (out / FINISHED).exists():
        raise UserError(
            f"{out} was begun under {lines[1]}, and this is {_versions()}: go on under the same "
            "versions, or choose another --out"
        )


def _identity_text(identity: str, versions: str) -> str:
    """Text of the identity file: identity, versions, and a checksum of both."""
    text = f"{identity}\n{versions}\n"
    return f"{text}{hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def _versions() -> str:
    """Versions of PACKAGES, those that are not installed left out."""
    return ", ".join(f"{name} {number}" for name in PACKAGES if (number := _version(name)))


def _version(package: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path of a new file that replaces `path` at the end of the block, whole and on disk.

    It has the suffix of `path`. After an error or a crash `path` is as it was before.

    Raises:
        OSError: naming `path`, such as for a full disk.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        flush(part)
        os.replace(part, path)
        flush(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file atomically: after a crash it holds the old or the new content, whole."""
    with replacing(path) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())


def append_file(path: Path, content: str | bytes, flush: bool = True) -> None:
    """Append to a file and, with `flush`, force it to disk; raises OSError naming the file."""
    try:
        with path.open("ab") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            if flush:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise


def flush(path: Path) -> None:
    """Force a file or folder to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
