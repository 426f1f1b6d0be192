"""Sweeps: the command, whose cells an executor runs, and `sweep(...)`, in this process."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runs.arm_runner import Reporter
from runs.cli.interrupt import run_with_progress
from runs.engine.devices import prepare_devices
from runs.errors import UserError
from runs.experiment import Experiment
from runs.lock import hold_lock, replace_file
from runs.names import LOGS
from runs.scale.cell import CELL, failure
from runs.scale.division import divide
from runs.scale.driver import run_missing
from runs.scale.executors import make_executor
from runs.scale.grid import Axes, Point, digest, parse_axes, read_list
from runs.scale.page import report_findings, write_reports
from runs.scale.space import EXPERIMENTS, Space, study_space
from runs.scale.suggestions import Suggestions
from runs.scale.table import SweepResult
from runs.scale.worker import run_cell


def run_sweep(flags: argparse.Namespace) -> int:
    """Run a sweep -> exit code: 2 if a cell failed for good.

    Args:
        flags: of `runs.sweep.parser`; with `study`, the name of its module, its flags `argv`, and
            the whole command line `command`, which finishes the sweep.

    Raises:
        UserError: for anything that does not fit, before anything is compiled.
    """
    import jax

    if flags.claim is None:
        jax.config.update("jax_platforms", "cpu")  # accelerators are left to the workers
    prepare_devices()
    grid = read_list(flags.list) if flags.list else parse_axes(flags.grid)
    varied = [flags.argv, flags.grid, str(flags.list), flags.samples, flags.search]
    flags.out = (flags.out or LOGS / "sweep" / f"{flags.study}-{digest(varied)}").absolute()
    space, adaptive = study_space(flags.study, flags.argv), flags.search == "optuna"
    if adaptive and (flags.list or not flags.samples or space.experiment is None):
        raise UserError(f"--search optuna: give --grid and --samples, for {EXPERIMENTS[0]}")
    points = space.points(grid, flags.samples, "sobol" if adaptive else flags.search)
    if space.experiment is not None:
        space.contrast(flags.contrast)
    axes = grid if adaptive else None
    if flags.claim is not None:
        return _claim(flags, space, points, axes)
    message = f"stopped; what was done is kept. Go on with:\n  {flags.command}"
    return run_with_progress(message, partial(_work, flags, space, points, axes))


def _work(
    flags: argparse.Namespace,
    space: Space,
    points: Sequence[Point],
    axes: Axes | None,
    progress: Any,
    stopped: Callable[[], bool],
) -> int:
    """Run the cells of points, or of what Optuna suggests on axes, and report -> exit code."""
    run = partial(_run_points, flags, space, progress, stopped)
    try:
        with hold_lock(flags.out):
            study = None if axes is None else _suggestions(flags, space, axes)
            result, failures = run(study.points() if study else points)
            while study and not study.tell(result.values(flags.contrast)):
                result, failures = run(study.points())
            progress.close()
            for folder, text in failures.items():
                print(f"failed: {text} ({folder}; delete {folder}/failed to try it again)")
            whole = space.experiment is None
            report = report_findings if whole else partial(write_reports, flags.contrast)
            print(report(result, flags.command) if result.points else "no setting was run")
    except OSError as error:
        raise UserError(f"{error.filename or flags.out}: {error.strerror or error}") from error
    return 2 if failures else 0


def _suggestions(flags: argparse.Namespace, space: Space, axes: Axes) -> Suggestions:
    """The study of Optuna in the folder of the sweep."""
    path = flags.out / "optuna.log"
    return Suggestions(path, axes, space.kinds(), flags.samples, flags.together)


def _claim(
    flags: argparse.Namespace, space: Space, points: Sequence[Point], axes: Axes | None
) -> int:
    """Test the best setting of a finished sweep with new seeds, on sealed shifts -> exit code."""
    if space.experiment is None or not space.experiment.sealed:
        raise UserError("--claim: nothing is sealed; begin the sweep with --sealed FAMILY")
    with hold_lock(flags.out):
        points = points if axes is None else _suggestions(flags, space, axes).points()
        result = _result(flags, space, points)
        result = result.without([folder for folder in result.folders if failure(folder)])
        claim = result.claim(flags.claim, flags.out / f"claim-{flags.claim}", flags.contrast)
    claim.run().print_report(flags.command, record=False)
    return 0


def _result(flags: argparse.Namespace, space: Space, points: Sequence[Point]) -> SweepResult:
    """The result of some points, divided into cells by the flags."""
    division = divide(space, points, flags.block, flags.together, flags.agent_numbers)
    return SweepResult(flags.out, space, points, *division)


def _run_points(
    flags: argparse.Namespace,
    space: Space,
    progress: Any,
    stopped: Callable[[], bool],
    points: Sequence[Point],
) -> tuple[SweepResult, dict[Path, str]]:
    """Run the missing cells of some points -> (result of those that did not fail, failures)."""
    result = _result(flags, space, points)
    progress.total = len(result.cells)
    progress.say(f"{len(points)} settings, {len(result.cells)} cells -> {flags.out}")
    for folder, cell in zip(result.folders, result.cells, strict=True):
        text, path = cell.text(flags.study, flags.argv), folder / CELL
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            replace_file(path, text)
    options = flags.workers, flags.address, flags.options, flags.collect
    executor = make_executor(flags.executor, flags.out, *options)
    failures = run_missing(result.folders, executor, progress, stopped)
    return result.without(failures), failures


def sweep(
    experiment: Experiment,
    grid: Axes | Sequence[Point],
    out: Path | str | None = None,
    samples: int = 0,
    search: str = "sobol",
    together: int = 16,
    agent_numbers: bool = False,
) -> SweepResult:
    """Train and score an experiment at every point of a grid, in this process.

    Points of an arm that differ only in weights of heads, and scale and shift of potentials, are
    trained by one compiled program, to the last bit as by programs of their own. An arm that the
    settings do not change is trained once.

    Args:
        experiment: with the settings that the grid does not name; its sealed families are left out.
        grid: name of a setting (`runs.scale.space`) -> values or a `Range`; or a list of points.
        out: folder, in which the sweep is resumed by running it again; None keeps nothing.
        samples: points to draw from the grid; 0 for all of them.
        search: how they are drawn, "sobol" or "random".
        together: most points of one program.
        agent_numbers: whether points of one program may also differ in numbers that only the update
            of PPO or A2C reads (`points_backend.AGENT_NUMBERS`); results then differ by rounding.

    Raises:
        UserError: for a setting or a value that does not fit, before anything is compiled.
        KeyboardInterrupt: after Ctrl-C.
    """
    space = Space(experiment)
    points = space.points(grid, samples, search)
    temporary = None if out else tempfile.TemporaryDirectory(prefix="sweep-")
    path = Path(out or temporary.name)
    division = divide(space, points, 0, together, agent_numbers)
    result = SweepResult(path, space, points, *division, temporary)

    def work(progress: Any, stopped: Callable[[], bool]) -> int:
        progress.total = len(result.cells)
        reporter = Reporter(progress.say, lambda *units: None, stopped)
        with hold_lock(path):
            for i, (folder, cell) in enumerate(zip(result.folders, result.cells, strict=True)):
                progress.advance(cell.arm, i)
                run_cell(folder, cell, space, reporter)
        return 0

    stopped_message = f"stopped; finished cells are in {path}: run the sweep again to go on"
    if run_with_progress(stopped_message, work):
        raise KeyboardInterrupt
    return result
