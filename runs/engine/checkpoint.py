"""Crash-safe checkpoints: arrays stored by Orbax, verified by a manifest with checksums.

Orbax alone neither checksums array data nor falls back from a damaged step, and it refuses relative
paths, numpy scalars and empty arrays. A checkpoint here is a directory `<serial>-step-<step>` with
    arrays/          written by Orbax: a flat dict of numpy arrays, one a leaf
    manifest.json    name, shape, dtype and sha256 of every leaf, sha256 of every file of arrays/,
                     the step, and its own sha256
written under a temporary name, flushed, read back and only then renamed: a kill or a power cut at
any moment leaves the earlier checkpoints whole. The serial orders checkpoints by when they were
saved, so a step saved again after a fallback overwrites nothing.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from runs.errors import UserError
from runs.lock import flush
from runs.tree_io import decode_leaf, encode_leaf, named_leaves

FORMAT = 1


def _to_stderr(line: str) -> None:
    """Print a line to standard error."""
    print(line, file=sys.stderr)


class Checkpoints:
    """Store of the newest checkpoints of one run, in one directory.

    A tree is any pytree whose leaves are jax arrays (sharded over this process's devices or not),
    typed PRNG keys, numpy arrays or scalars, or Python numbers and bools. Only leaves are stored:
    the static parts of a tree (functions, sizes) come from `like`. A weakly typed jax array comes
    back strongly typed.

    One process may save at a time (`runs.lock.hold_lock`); any number may restore.
    """

    def __init__(
        self, directory: Path, keep: int = 2, warn: Callable[[str], None] = _to_stderr
    ) -> None:
        """Set the directory, which is created by the first save.

        Args:
            directory: of the checkpoints; created by the first save.
            keep: how many checkpoints to keep; with 1, a damaged one has no fallback.
            warn: receives one line for each damaged checkpoint that `restore` skips.

        Raises:
            ValueError: `keep` is below 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.directory = Path(directory).absolute()
        self.keep = keep
        self.warn = warn
        self._damaged: set[Path] = set()

    def save(self, step: int, tree: Any) -> None:
        """Save `tree` as the newest checkpoint, then delete all but the newest `keep`.

        Args:
            step: what the caller counts (updates, chunks); `restore` returns it.
            tree: the pytree to store.

        Raises:
            UserError: the disk is full or cannot be written; earlier checkpoints are untouched.
            TypeError: a leaf is of a type that cannot be stored; the message names it.
        """
        leaves = {name: encode_leaf(name, leaf) for name, leaf in named_leaves(tree).items()}
        records = {name: {**r, "sha256": _leaf_sha(array)} for name, (r, array) in leaves.items()}
        manifest = {"format": FORMAT, "step": int(step), "leaves": records}
        try:
            self._store(manifest, {name: array for name, (_, array) in leaves.items()})
        except (OSError, ValueError) as error:
            raise UserError(_save_error_message(error, self.directory)) from error
        finally:
            self._sweep()

    def restore(self, like: Any, free: tuple[str, ...] = ()) -> tuple[int, Any] | None:
        """Read the newest intact checkpoint into the structure of `like`.

        Args:
            like: a tree of the structure, shapes and dtypes that were saved. Each leaf read takes
                the kind of its counterpart and, for a jax array, its sharding.
            free: endings of the names of leaves that may have another shape than in `like`.

        Returns:
            The step and the tree, bit for bit as saved; None when no checkpoint is intact.

        Raises:
            UserError: the newest intact checkpoint was made by another configuration; the leaves
                that differ are named. Nothing is ever cast.
        """
        import jax

        leaves = named_leaves(like)
        expected = {name: encode_leaf(name, leaf)[0] for name, leaf in leaves.items()}
        for path in reversed(self._saved()):
            try:
                manifest = read_manifest(path)
                _check_fit(manifest, expected, path, free)
                arrays = read_arrays(path, manifest)
            except (UserError, ImportError):
                raise
            except Exception as error:  # Damaged bytes may make a decoder raise anything.
                self._damaged.add(path)
                self.warn(f"checkpoint {path} is damaged and skipped: {_one_line(error)}")
                continue
            decoded = [decode_leaf(arrays[name], leaf) for name, leaf in leaves.items()]
            return manifest["step"], jax.tree.unflatten(jax.tree.structure(like), decoded)
        return None

    def _store(self, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a checkpoint under a temporary name, then rename it to its final name."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._sweep()
        _check_space(self.directory, sum(array.nbytes for array in arrays.values()))
        partial = self.directory / f".partial-{os.getpid()}"
        partial.mkdir()
        _write(partial, manifest, arrays)
        serial = max(map(_serial, self._saved()), default=0) + 1
        os.rename(partial, self.directory / f"{serial:06d}-step-{manifest['step']}")
        flush(self.directory)
        self._mark_old()

    def _saved(self) -> list[Path]:
        """Paths of the finished checkpoints, oldest first."""
        return sorted(filter(_serial, self.directory.glob("*-step-*")), key=_serial)

    def _mark_old(self) -> None:
        """Mark checkpoints older than the newest `keep` undamaged ones, for `_sweep` to delete."""
        saved = self._saved()
        kept = [path for path in saved if path not in self._damaged][-self.keep :]
        for path in saved[: saved.index(kept[0])]:
            os.rename(path, self.directory / f".partial-{path.name}")

    def _sweep(self) -> None:
        """Delete partial checkpoints of failed saves, and old ones renamed by `_mark_old`."""
        for path in self.directory.glob(".partial-*"):
            shutil.rmtree(path, ignore_errors=True)


def _serial(path: Path) -> int:
    """Serial number of a checkpoint directory, from 1; 0 if it is not a checkpoint."""
    match = re.fullmatch(r"(\d+)-step--?\d+", path.name)
    return int(match[1]) if match else 0


def _check_fit(
    manifest: dict[str, Any], expected: dict[str, Any], path: Path, free: tuple[str, ...]
) -> None:
    """Raise UserError unless names, shapes and dtypes of the leaves are those expected.

    The shape of a leaf whose name ends with one of `free` is not compared.
    """
    remedy = f"choose another --out or delete {path.parent}"
    if manifest["format"] != FORMAT:
        raise UserError(f"checkpoint {path} has another format than {FORMAT}: {remedy}")
    stored = {name: f"{r['dtype']}{r['shape']}" for name, r in manifest["leaves"].items()}
    expected = {name: f"{r['dtype']}{r['shape']}" for name, r in expected.items()}
    differing = [
        name
        for name in {**expected, **stored}
        if stored.get(name) != expected.get(name)
        and not (name.endswith(free) and name in stored and name in expected)
    ]
    if differing:
        shown = [
            f"{name} is {stored.get(name, 'missing')}, "
            f"expected {expected.get(name, 'no such leaf')}"
            for name in differing[:3]
        ]
        more = [f"{len(differing) - 3} more leaves differ"] if len(differing) > 3 else []
        causes = "; ".join(shown + more)
        raise UserError(f"checkpoint {path} is of another configuration: {causes}: {remedy}")


# Files.


@contextmanager
def _orbax() -> Iterator[Any]:
    """Open a synchronous Orbax checkpointer with its own error logging switched off."""
    import orbax.checkpoint as ocp

    logger = logging.getLogger("absl")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            yield checkpointer
    finally:
        logger.disabled = was_disabled


def _write(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write arrays and manifest into a directory, flush them to disk, and verify by reading."""
    # Orbax refuses empty arrays: one element stands in for each and is cut off when read.
    stored = {name: a if a.size else np.zeros(1, a.dtype) for name, a in arrays.items()}
    with _orbax() as checkpointer:
        checkpointer.save(path / "arrays", stored)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    manifest["files"] = {str(file.relative_to(path)): _sha(file.read_bytes()) for file in files}
    manifest["sha256"] = _manifest_sha(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for written in [path, *path.rglob("*")]:
        flush(written)
    read_arrays(path, read_manifest(path))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and verify a checkpoint's manifest; raises if it is missing or altered."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    if manifest.pop("sha256") != _manifest_sha(manifest):
        raise ValueError("manifest.json does not match its checksum")
    return manifest


def read_arrays(path: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read every leaf as a numpy array; raises if one is missing or fails its checksum."""
    for name, sha in manifest["files"].items():  # Checked before Orbax reads, which floods stderr.
        if not (path / name).resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{name} lies outside of it")
        if _sha((path / name).read_bytes()) != sha:
            raise ValueError(f"{name} does not match its checksum")
    with _orbax() as checkpointer:
        arrays = checkpointer.restore(path.absolute() / "arrays")  # Orbax refuses relative paths
    for name, record in manifest["leaves"].items():
        if 0 in record["shape"]:
            arrays[name] = arrays[name][:0].reshape(record["shape"])
        if _leaf_sha(arrays[name]) != record["sha256"]:
            raise ValueError(f"leaf {name} does not match its checksum")
    return arrays


def _sha(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _leaf_sha(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and data."""
    return _sha(f"{array.dtype.name}{array.shape}".encode() + array.tobytes())


def _manifest_sha(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its own checksum."""
    return _sha(json.dumps(manifest, sort_keys=True).encode())


def _check_space(directory: Path, size: int) -> None:
    """Raise OSError if a disk, a quota or a limit has no room for `size` bytes.

    Where Orbax finds that out, its threads print hundreds of lines to standard error.
    """
    if shutil.disk_usage(directory).free < size + 2**20:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except OSError as error:  # of another number where files cannot be allocated
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


def _save_error_message(error: Exception, directory: Path) -> str:
    """Error message for a failed save, with the remedy."""
    # Orbax raises ValueError for a full disk, with the system's words in its message.
    full = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT)]
    remedy = "or choose another --out; earlier checkpoints are untouched"
    if any(phrase in str(error) for phrase in full):
        disk = next(path for path in [directory, *directory.parents] if path.is_mount())
        return f"the disk mounted at {disk}, which holds {directory}, is full: free space {remedy}"
    return f"no checkpoint could be written to {directory}: {_one_line(error)}: fix this {remedy}"


def _one_line(error: Exception) -> str:
    """Type and message of an error as one line of at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
