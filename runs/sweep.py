"""Sweep: how does a study's score depend on its settings, its agent and its heads?

Trains and scores every setting of a grid, a list or a sample as independent cells (setting x arm x
block of seeds), in processes of this machine or on a cluster, and writes one table, one page, and
TensorBoard's HPARAMS. The same command finishes an interrupted sweep. All other flags are those of
the study: `python -m runs.sweep compare --env Drive --heads hope --seeds 20 --grid
heads.hope.horizon=5,10,20,50 weight=.3,1,3`.
"""

import argparse
from pathlib import Path

from runs.cli.settings import run_main, shell_command
from runs.errors import UserError

COMMAND = "python -m runs.sweep"


def main(argv: list[str]) -> int:
    """Run the sweep, or one of its cells -> exit code.

    Raises:
        UserError: for flags, a setting or a value that does not fit, before anything is compiled.
    """
    flags, study_argv = parser().parse_known_args(argv)
    if flags.cell is not None:
        from runs.scale.worker import run_folder

        return run_folder(flags.cell)
    if not study_argv or study_argv[0].startswith("-"):
        raise UserError(f"name the study first, as in {COMMAND} compare --env Drive --grid ...")
    if bool(flags.grid) == bool(flags.list):
        raise UserError("give either --grid or --list")
    if min(flags.samples, flags.workers, flags.block) < 0 or flags.together < 1:
        raise UserError("--samples, --workers, --block and --together: must not be negative or 0")
    from runs.scale.command import run_sweep

    flags.study, *flags.argv = study_argv
    flags.command = shell_command(COMMAND, argv)
    return run_sweep(flags)


def parser() -> argparse.ArgumentParser:
    """Parser of the flags of the sweep, which leaves those of the study."""
    flags = _Parser(prog=f"{COMMAND} STUDY", description=__doc__, allow_abbrev=False)
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    add = flags.add_argument
    add("--grid", nargs="+", default=[], metavar="NAME=V,V", help="values, or LOW:HIGH[:log]")
    add("--list", type=Path, help="a CSV file: a column a setting, a row a point")
    add("--samples", type=int, default=0, help="points to draw from the grid; 0 for all")
    add("--search", choices=("sobol", "random", "optuna"), default="sobol", help="how")
    add("--contrast", nargs="+", default=[], metavar="ARM", help="arm and reference of the score")
    add("--executor", choices=("local", "ray", "slurm"), default="local", help="where cells run")
    add("--workers", type=int, default=0, help="cells at a time; 0 for the executor's default")
    add("--block", type=int, default=0, help="seeds of a cell; 0 for all")
    add("--together", type=int, default=16, help="most points that one program trains")
    add("--agent-numbers", action="store_true", help="that program also shares lr, entropy, ...")
    add("--collect", action="store_true", help="Ray: no shared folder, cells come back as files")
    add("--address", default="", help="of a Ray cluster; by default one of this machine is started")
    add("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of ray.remote or submitit")
    add("--out", type=Path, help="folder; by default runs/logs/sweep/, named by all settings")
    add("--claim", type=int, metavar="BASE", help="test the best on sealed shifts")
    add("--cell", type=Path, help="run the cell of a folder, as executors do")
    return flags


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line."""

    def error(self, message: str) -> None:
        """Raise a UserError."""
        raise UserError(message)


if __name__ == "__main__":
    run_main(main)
