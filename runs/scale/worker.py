"""The program of one cell: reads its folder, trains and scores what it describes, and exits."""

import contextlib
import csv
import ctypes
import dataclasses
import inspect
import io
import json
import shlex
import shutil
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import yaml

from envs.host.suite import HostEnv
from runs.analysis.scores import COLUMNS, rows_as_csv
from runs.arm_runner import ArmRunner, Reporter
from runs.cli.index import first_finding
from runs.cli.interrupt import run_with_progress
from runs.engine.backend import Backend, make_backend
from runs.engine.devices import prepare_devices
from runs.engine.evaluate import draw_points
from runs.engine.phases import Phase
from runs.errors import UserError
from runs.experiment import Experiment
from runs.lock import hold_lock, replace_file
from runs.names import safe_name
from runs.prereg.seal import SCORES, content_hash, newest_checkpoint
from runs.scale.cell import FAILED, STUDY, Cell, is_done, read_cell, write_result
from runs.scale.division import check_name
from runs.scale.grid import point_digest
from runs.scale.points_backend import LEAST_DEVICES, PointsBackend, padded_rows, rows_at_once
from runs.scale.processes import cell_command
from runs.scale.space import Space, study_space, typed_point

WORK = "rows-{}"  # folder of what resumes a cell, by the number of rows that its machine computes
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def run_folder(folder: Path) -> int:
    """Run the cell of a folder, which ends with the process that began it -> exit code.

    Raises:
        UserError: for settings that cannot be run; the message is kept in the folder.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGTERM)
    prepare_devices(LEAST_DEVICES)
    try:
        cell, study, argv = read_cell(folder)
        space = study_space(study, argv)
        kinds = space.kinds()
        cell = cell._replace(points=tuple(typed_point(p, kinds) for p in cell.points))
        if not check_name(space, cell):
            raise UserError(f"{folder} is of other settings, code or files: run the sweep again")
        if space.experiment is None:
            return run_study(folder, space, cell)
        command = shlex.join(cell_command(folder))
        message = f"stopped; what was done is kept. Go on with:\n  {command}"
        return run_with_progress(message, partial(_run, folder, cell, space))
    except UserError as error:
        with contextlib.suppress(OSError):
            replace_file(folder / FAILED, " ".join(str(error).split()))
        raise


def _run(folder: Path, cell: Cell, space: Space, progress: Any, stopped: Callable[[], bool]) -> int:
    """Run a cell with progress -> exit code."""
    progress.total = space.at(cell.points[0]).units_per_arm
    run_cell(folder, cell, space, Reporter(progress.say, progress.advance, stopped))
    return 0


def run_cell(folder: Path, cell: Cell, space: Space, reporter: Reporter) -> None:
    """Train and score the arm of a cell of an experiment in its folder, unless it is done.

    A folder in use by another process is waited for. What resumes a cell is deleted at its end.

    Raises:
        Interrupted: if a stop is requested; finished work is kept.
    """
    with hold_lock(folder, wait=True):
        if is_done(folder):
            return
        experiments = [space.at(point) for point in cell.points]
        rows, checkpoint = _train_and_score(folder, cell, experiments, reporter)
        text = rows_as_csv(rows, header=True, columns=("variant", *COLUMNS))
        write_result(folder, text, checkpoint)
        for path in folder.glob(WORK.format("*")):
            shutil.rmtree(path, ignore_errors=True)


def _train_and_score(
    folder: Path, cell: Cell, experiments: Sequence[Experiment], reporter: Reporter
) -> tuple[list[dict], str]:
    """Score rows of a cell, by variant, point and seed, and the hash of its checkpoint."""
    first = experiments[0]
    arm = next(arm for arm in first.all_arms if arm.name == cell.arm)
    phases = [experiment.phases[cell.arm] for experiment in experiments]
    public = first.split("dev")
    with contextlib.closing(points_backend(first, phases, cell)) as backend:
        work = folder / WORK.format(backend.run_config.rows)
        work.mkdir(exist_ok=True)
        runner = ArmRunner(work, public, backend, reporter)
        trained = runner.train(arm, phases[0])
        points = draw_points(public, backend.draws, first.base)
        before = backend.run_config.chunks
        rows = runner.score(arm, phases[0], trained, points, SCORES["dev"], before)
    for row in rows:
        index, seed = divmod(row["seed"], cell.seeds)
        row |= {"variant": cell.variants[index], "seed": cell.first + seed}
    rows.sort(key=lambda row: cell.variants.index(row["variant"]))  # stable
    checkpoint = newest_checkpoint(work / "checkpoints" / safe_name(cell.arm))
    return rows, content_hash(checkpoint) if checkpoint else ""


def points_backend(experiment: Experiment, phases: Sequence[Phase], cell: Cell) -> Backend:
    """Backend of the rows of a cell, whose bits do not depend on the number of CPU cores."""
    env, run_config = experiment.suite.env, experiment.run_config
    devices, platform = len(jax.devices()), jax.devices()[0].platform
    if isinstance(env, HostEnv):
        if platform != "cpu":
            return experiment.make_backend()
        backend = make_backend(env, dataclasses.replace(run_config, rows=run_config.seeds))
        backend.block = run_config.seeds  # all on one device
        return backend
    count = len(phases) * cell.seeds
    block = rows_at_once(count, devices, platform)
    rows = padded_rows(count, devices, block)
    run_config = dataclasses.replace(run_config, seeds=count, rows=rows)
    seeds = range(cell.first, cell.first + cell.seeds)
    return PointsBackend(env, run_config, phases, seeds, block)


def run_study(folder: Path, space: Space, cell: Cell) -> int:
    """Run a whole study in the folder of its cell, unless it is done -> exit code of the study.

    Its result is the finding that its page states.
    """
    with hold_lock(folder, wait=True):
        if is_done(folder):
            return 0
        settings = space.settings_at(cell.points[0])
        values = dataclasses.asdict(settings)
        values = {k: v for k, v in values.items() if k not in ("out", "config") and v is not None}
        path = folder / "settings.yaml"
        path.write_text(yaml.safe_dump(json.loads(json.dumps(values, default=str))))
        argv = ["--config", str(path), "--out", str(folder / STUDY)]
        if code := inspect.getmodule(type(settings)).main(argv):
            return code
        pages = sorted((folder / STUDY).glob("*.md"))
        finding = first_finding(pages[0].read_text()) if pages else ""
        text = io.StringIO()
        rows = ("point", "finding"), (point_digest(cell.points[0]), finding)
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_result(folder, text.getvalue())
    return 0
