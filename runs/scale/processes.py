"""Start cells of a sweep as processes of this machine, and the command that each runs."""

import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

from runs.errors import UserError
from runs.scale.cell import LOG

ROOT = Path(__file__).resolve().parents[2]
LOST = -1  # exit code of a command whose worker was lost


def cell_command(folder: Path) -> list[str]:
    """The command of a cell."""
    return [sys.executable, "-m", "runs.sweep", "--cell", str(folder)]


def start_command(command: Sequence[str], folder: Path, **variables: str) -> Popen:
    """Start the command of a cell with further environment variables, with output in its LOG."""
    environment = {**os.environ, "PYTHONPATH": python_path(), **variables}
    with (folder / LOG).open("wb") as log:
        return Popen(command, env=environment, stdin=DEVNULL, stdout=log, stderr=STDOUT)


def python_path() -> str:
    """PYTHONPATH with this checkout in front."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


class LocalProcesses:
    """Processes of this machine, which share its accelerators or divide its cores."""

    def __init__(self, workers: int):
        self.accelerators = len(list(Path("/dev").glob("nvidia[0-9]*")))
        self.slots = workers or max(self.accelerators, 1)
        self._free = list(range(self.slots))

    def start(self, folders: Sequence[Path]) -> list[tuple[int, Popen]]:
        """Start a process for each cell, on the accelerator or the cores of a free slot."""
        return [(slot := self._free.pop(), self._start(slot, folder)) for folder in folders]

    def _start(self, slot: int, folder: Path) -> Popen:
        """Start the process of a cell in a slot."""
        command = cell_command(folder)
        if self.accelerators:
            visible = str(slot % self.accelerators)
            return start_command(command, folder, CUDA_VISIBLE_DEVICES=visible)
        if not hasattr(os, "sched_setaffinity"):
            return start_command(command, folder)
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores_of(slot, self.slots, allowed))  # which a child inherits
        try:
            return start_command(command, folder)
        finally:
            os.sched_setaffinity(0, allowed)

    def code(self, handle: tuple[int, Popen]) -> int | None:
        """Exit code of a process; None while it runs."""
        slot, process = handle
        if process.poll() is not None:
            self._free.append(slot)
        return process.returncode

    def close(self, handles: Iterable[tuple[int, Popen]]) -> None:
        """Stop processes, which save a checkpoint, and wait for them."""
        for end in (Popen.terminate, Popen.wait):
            for _, process in list(handles):
                end(process)


def cores_of(slot: int, slots: int, allowed: Sequence[int] | set[int]) -> list[int]:
    """Cores of a slot: an equal part of those allowed, at least one."""
    cores = sorted(allowed)
    part = len(cores) // slots
    return cores[slot * part : (slot + 1) * part] or [cores[slot % len(cores)]]


def optional_package(name: str, extra: str, flag: str = "--executor") -> Any:
    """An optional package; raises UserError with how to install it if it is missing."""
    try:
        return import_module(name)
    except ImportError:
        remedy = f"pip install -e '.[{extra}]'"
        raise UserError(f"{flag} {extra}: {name} is missing: {remedy}") from None
