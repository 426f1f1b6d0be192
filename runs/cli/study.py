"""Command line of any study: from flags to locked folder, progress, written page and exit code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runs.cli.interrupt import Progress, run_with_progress
from runs.cli.settings import fingerprint, parse_settings, shell_command
from runs.errors import UserError
from runs.lock import claim_folder, hold_lock, replace_file
from runs.names import LOGS, RESULTS, safe_name

COMMAND_FILE = "command"  # in the folder of a study: the command line that made it
NEUTRAL = ("out", "config", "record", "workers", "env_timeout")
"""Settings that change no result; those of one study alone are named by its `neutral`."""


class Job(NamedTuple):
    """What a study gets from its command line.

    Attributes:
        settings: of the study.
        out: its folder, which this process has locked.
        command: the command line, which resumes the study and is printed on its page.
        progress: receives units of work and messages.
        stopped: returns whether the user requested a stop.
    """

    settings: Any
    out: Path
    command: str
    progress: Progress
    stopped: Callable[[], bool]

    @property
    def folders(self) -> list[Path]:
        """Folders that results are written to: its own and, with `record`, RESULTS."""
        return [self.out] + ([RESULTS] if getattr(self.settings, "record", False) else [])


def run_study(
    program: str,
    doc: str | None,
    settings_class: type,
    check: Callable[[Any], None],
    work: Callable[[Job], Any],
    argv: list[str],
) -> int:
    """Parse the flags, check them, run a study in its folder, and write and print its page.

    The page is written to the study's folder and, if `settings.record` is set, to RESULTS. A
    stopped study is resumed by the same command. The `main` of a study is
    `partial(run_study, COMMAND, __doc__, Settings, check, study)`.

    Args:
        program: such as `python -m runs.credit`.
        doc: docstring of the study, for `--help`.
        settings_class: a frozen dataclass with a default for every field.
        check: raises a UserError for invalid settings, without importing jax.
        work: job -> `runs.report.page.Page`, or None if it has written and printed its results.
        argv: the flags.

    Returns:
        The exit code: that of the page, or 128 + the signal's number.

    Raises:
        UserError: for invalid settings, a folder in use or of other settings, a failing host
            environment, a disk error.
    """
    settings = parse_settings(settings_class, argv, doc or "", prog=program)
    check(settings)
    command = shell_command(program, argv)
    message = f"stopped; what was done is kept. Go on with:\n  {command}"
    return run_with_progress(message, partial(_run_in_folder, settings, program, command, work))


def _run_in_folder(
    settings: Any,
    program: str,
    command: str,
    work: Callable[[Job], Any],
    progress: Progress,
    stopped: Callable[[], bool],
) -> int:
    """Run `work` in the locked folder of the study, and write its page -> exit code."""
    from envs.host.fault import HostFailure
    from runs.engine.devices import prepare_devices
    from runs.prereg import seal
    from runs.prereg.manifest import check_kept, enter_manifest

    prepare_devices()
    out = study_folder(settings, program)
    try:
        with claimed_folder(settings, program):
            check_kept(out)
            seal.check_scores(out)
            replace_file(out / COMMAND_FILE, command + "\n")
            job = Job(settings, out, command, progress, stopped)
            page = work(job)
            for folder in job.folders if page is not None else ():
                page.write(folder)
            enter_manifest(out)
    except HostFailure as error:
        raise UserError(f"{error}; then repeat the command to resume") from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    progress.close()
    if page is None:
        return 0
    print(page.text)
    print(f"page, figures   {job.folders[-1]}/{page.name}*")
    return page.code


@contextmanager
def claimed_folder(settings: Any, program: str) -> Iterator[Path]:
    """Lock the folder of a study, and check that it holds that study or nothing -> the folder.

    Raises:
        UserError: for a folder in use, or of a study with other settings.
    """
    out = study_folder(settings, program)
    with hold_lock(out):
        claim_folder(out, identity(settings))
        yield out


def study_folder(settings: Any, program: str) -> Path:
    """Folder of a study: `settings.out`, or one named by all settings that change a result."""
    if getattr(settings, "out", None) is not None:
        return settings.out
    env = getattr(settings, "env", None)
    name = identity(settings) if env is None else f"{safe_name(env)}-{identity(settings)}"
    return LOGS / program.rpartition(".")[2] / name


def identity(settings: Any) -> str:
    """Fingerprint of all settings that change a result and of the user's files that they name."""
    from runs.engine.custom_head import file_digests

    named = (
        *getattr(settings, "heads", ()),
        getattr(settings, "head", ""),
        getattr(settings, "carrier", ""),
        getattr(settings, "env", ""),
    )
    neutral = *NEUTRAL, *getattr(settings, "neutral", ())
    return fingerprint(settings, neutral, also=file_digests(named))
