"""Cells whose command counts to ten and writes a result, for tests of executors and drivers.

As a script, `python stub_cells.py OUT EXECUTOR WORKERS [OPTION ...]` drives all cells of a folder.
"""

import contextlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from runs.scale import cell, driver, executors, processes
from runs.scale.cell import RESULT

WORK = """
import os, pathlib, sys, time
from runs.lock import hold_lock, replace_file
from runs.scale.cell import is_done, write_result
folder = pathlib.Path(sys.argv[1])
with hold_lock(folder, wait=True):
    with (folder / "tries").open("a") as file:
        file.write("x")
    if (folder / "bad").exists():
        (folder / "failed").write_text("settings that cannot be run")
        sys.exit(2)
    if is_done(folder):
        sys.exit(0)
    (folder / "pid").write_text(f"{os.getpid()} {os.getppid()}")
    deadline = time.monotonic() + 30
    while (folder / "wait").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if (folder / "crash").exists() and len((folder / "tries").read_text()) < 2:
        sys.exit(1)
    checkpoint = folder / "checkpoint"
    steps = checkpoint.read_text() if checkpoint.exists() else ""
    while len(steps) < 10:
        time.sleep(0.03)
        steps += "x"
        replace_file(checkpoint, steps)
    write_result(folder, f"result of {folder.name}")
"""


def stub_command(folder: Path) -> list[str]:
    """The command of a stub cell."""
    return [sys.executable, "-c", WORK, str(folder)]


def make_folders(out: Path, count: int) -> list[Path]:
    """Folders of stub cells."""
    folders = [out / f"cell-{i:02d}" for i in range(count)]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def write_result(folder: Path, text: str) -> None:
    """Write a result with its checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    cell.write_result(folder, text, "c")


def results(folders: Sequence[Path]) -> list[str]:
    """Results of cells, empty where there is none."""
    paths = [folder / RESULT for folder in folders]
    return [path.read_text() if path.exists() else "" for path in paths]


def cell_processes(out: Path) -> list[int]:
    """Processes that run cells in folders `cell-*` or `cells/*` below a folder."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            below = [word.removeprefix(str(out)) for word in words if word.startswith(str(out))]
            if any("/cell" in word for word in below):
                processes.append(int(path.parent.name))
    return processes


def skip_if_missing(executor: str) -> None:
    """Skip a test if the package of an executor is not installed, without importing it."""
    package = {"slurm": "submitit"}.get(executor, executor)
    if executor != "local" and find_spec(package) is None:
        pytest.skip(f"the extra {executor} is not installed")


class Silent:
    """Progress that records what is said."""

    def __init__(self):
        self.lines, self.done = [], 0

    def say(self, line: str) -> None:
        self.lines.append(line)

    def advance(self, label: str, done: int, fresh: bool = True) -> None:
        self.done = done


def drive(out: Path, name: str, workers: int, options: Sequence[str] = ()) -> dict[Path, str]:
    """Run the missing stub cells of a folder -> failures."""
    processes.cell_command = stub_command
    executor = executors.make_executor(name, out, workers, options=options)
    return driver.run_missing(sorted(out.glob("cell-*")), executor, Silent(), lambda: False)


if __name__ == "__main__":
    drive(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
