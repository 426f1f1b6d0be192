"""Executors of cells: processes of this machine, tasks of Ray, or jobs of Slurm.

A cell is a command in a folder that may be run any number of times; an executor only chooses where.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from runs.cli.settings import parse_yaml
from runs.errors import UserError
from runs.scale import processes
from runs.scale.processes import LOST, LocalProcesses
from runs.scale.ray_tasks import RayTasks


class Executor(Protocol):
    """Runs cells somewhere, at most `slots` at a time."""

    slots: int

    def start(self, folders: Sequence[Path]) -> Sequence[Any]:
        """Begin the cells of some folders -> a handle of each."""

    def code(self, handle: Any) -> int | None:
        """Exit code of a cell's command; None while it runs, LOST if its worker was lost."""

    def close(self, handles: Iterable[Any]) -> None:
        """Stop cells that run; they go on when they are begun again."""


def make_executor(
    name: str,
    out: Path,
    workers: int = 0,
    address: str = "",
    options: Sequence[str] = (),
    collect: bool = False,
) -> Executor:
    """The executor `local`, `ray` or `slurm`.

    Args:
        name: of the executor.
        out: folder of the sweep.
        workers: cells at a time; 0 for one an accelerator or one for all cores, one a CPU of the
            Ray cluster, or 256 jobs of Slurm.
        address: of a Ray cluster; empty for one of this machine.
        options: KEY=VALUE, of `ray.remote` or of submitit.
        collect: Ray's workers run cells in folders of their own, whose files are sent back.

    Raises:
        UserError: for a package that is missing, an address that does not answer, workers that do
            not share the folder, or an option that is not of the executor or not KEY=VALUE.
    """
    values = {}
    for key, equals, value in (option.partition("=") for option in options):
        if not (key and equals and value):
            raise UserError(f"--options {key}: write it as KEY=VALUE")
        values[key] = parse_yaml(value, f"--options {key}")
    of_ray, of_both = {"--address": address, "--collect": collect}, {"--options": options}
    for flag, value in (of_ray | of_both if name == "local" else of_ray).items():
        if value and name != "ray":
            raise UserError(f"{flag}: not of the executor {name}")
    if name == "ray":
        return RayTasks(out, workers, address, values, collect)
    return SlurmJobs(out, workers, values) if name == "slurm" else LocalProcesses(workers)


class CellJob:
    """Job of a cell, which Slurm may preempt and queue again: it resumes itself."""

    def __call__(self, command: Sequence[str], folder: Path) -> int:
        """Run the command of the cell -> exit code."""
        return processes.start_command(command, folder).wait()

    def checkpoint(self, command: Sequence[str], folder: Path) -> Any:
        """The job that is queued after a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, command, folder)


class SlurmJobs:
    """Jobs of Slurm by submitit, submitted in arrays; the option cluster=local for processes."""

    def __init__(self, out: Path, workers: int, options: Mapping[str, Any]):
        submitit, options = processes.optional_package("submitit", "slurm"), dict(options)
        cluster, self.slots = options.pop("cluster", "slurm"), workers or 256
        try:
            self.executor = submitit.AutoExecutor(folder=out / "slurm", cluster=cluster)
            self.executor.update_parameters(name="sweep", **options)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise UserError(f"--executor slurm: {error}; see --options") from None
        os.environ["PYTHONPATH"] = processes.python_path()  # jobs inherit it

    def start(self, folders: Sequence[Path]) -> list[Any]:
        """Submit an array of jobs, one for each cell."""
        return self.executor.map_array(
            CellJob(), list(map(processes.cell_command, folders)), folders
        )

    def code(self, handle: Any) -> int | None:
        """Exit code of a job's command; None while it waits or runs, LOST if the job failed."""
        if not handle.done():
            return None
        return LOST if handle.exception() else handle.result()

    def close(self, handles: Iterable[Any]) -> None:
        """Cancel jobs."""
        for job in handles:
            job.cancel()
