"""Cells as tasks of Ray, in a shared folder or with files that are sent back."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from runs.errors import UserError
from runs.scale import processes
from runs.scale.cell import CELL, DONE, FAILED, LOG, RESULT, STUDY

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray listens on 127.0.0.1 alone, on Linux too
SECONDS = 5.0  # to wait for an address to answer
COLLECTED = (FAILED, LOG, RESULT, f"{STUDY}/*.*", DONE)  # files of a cell that come back, in order


class RayTasks:
    """Tasks of Ray (Moritz et al., 2018), on a cluster of this machine or at an address.

    A cluster of this machine listens on 127.0.0.1 alone, and has a token and no dashboard.
    """

    def __init__(
        self, out: Path, workers: int, address: str, options: Mapping[str, Any], collect: bool
    ):
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if address:
            check_answers(address)
        else:
            os.environ |= {LOOPBACK: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex()}
            quiet |= {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
        self.ray, self.collect = processes.optional_package("ray", "ray"), collect
        try:
            self.ray.init(address or "local", **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"--executor ray --address {address or 'local'}: {error}") from None
        self.slots = workers or max(int(self.ray.cluster_resources().get("CPU", 1)), 1)
        remote = self.ray.remote(**{"num_cpus": 1, "max_retries": 2, **options})
        self._task = remote(run_sent if collect else run_there)
        if address and not collect:
            read = remote(_read).remote
            try:
                check_shared(out, lambda path: self.ray.get(read(path), timeout=60))
            except self.ray.exceptions.RayError as error:
                raise UserError(f"--address {address}: no worker answers: {error}") from None

    def start(self, folders: Sequence[Path]) -> list[tuple[Any, Path]]:
        """Submit a task for each cell."""
        content = [
            (f / CELL).read_text() if self.collect else processes.cell_command(f) for f in folders
        ]
        tasks = map(self._task.remote, content, folders)
        return list(zip(tasks, folders, strict=True))

    def code(self, handle: tuple[Any, Path]) -> int | None:
        """Exit code of a task; LOST if its worker was, also after Ray's own retries."""
        task, folder = handle
        if not self.ray.wait([task], timeout=0)[0]:
            return None
        try:
            code, files = self.ray.get(task)
        except self.ray.exceptions.RayError:
            return processes.LOST
        write_files(folder, files)
        return code

    def close(self, handles: Iterable[tuple[Any, Path]]) -> None:
        """Cancel tasks and leave the cluster, or stop that of this machine."""
        for task, _ in handles:
            self.ray.cancel(task, force=True)
        self.ray.shutdown()


def run_there(command: Sequence[str], folder: Path) -> tuple[int, dict[str, bytes]]:
    """Run the command of a cell in a shared folder -> (exit code, no files)."""
    return processes.start_command(command, folder).wait(), {}


def run_sent(description: str, folder: Path) -> tuple[int, dict[str, bytes]]:
    """Run a cell in the user's cache, where it goes on -> (exit code, files it ends with)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    own = cache / "affect-heads" / "cells" / folder.name
    own.mkdir(parents=True, exist_ok=True)
    (own / CELL).write_text(description)
    (own / FAILED).unlink(missing_ok=True)
    code = processes.start_command(processes.cell_command(own), own).wait()
    paths = [path for pattern in COLLECTED for path in sorted(own.glob(pattern))]
    return code, {path.relative_to(own).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that were sent back into the folder of a cell; of other names none."""
    for path, content in ((Path(name), content) for name, content in files.items()):
        if path.as_posix() in COLLECTED or (path.parts[:-1] == (STUDY,) and path.suffix):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)


def check_answers(address: str) -> None:
    """Check that something listens at HOST:PORT or ray://HOST:PORT; raises UserError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--address {address}: no answer ({error}); start the cluster, or leave --address out"
        ) from None


def check_shared(out: Path, read: Callable[[Path], str]) -> None:
    """Check that `read`, on a worker, sees what is written to a folder here; raises UserError."""
    token, path = token_hex(8), out / "shared"
    path.write_text(token)
    if read(path) != token:
        raise UserError(f"--out {out}: the workers do not share this folder; add --collect")


def _read(path: Path) -> str:
    """Text of a file; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
