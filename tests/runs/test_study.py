"""The command line of all studies: folder, page, exit code, and errors of one line."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envs.host.fault import HostFailure
from runs.cli import study
from runs.cli.study import Job, claimed_folder, identity, run_study, study_folder
from runs.errors import Interrupted, UserError
from runs.lock import hold_lock
from runs.report.page import Page
from tests.refusal import refusal

PROGRAM = "python -m runs.some_study"


@dataclass(frozen=True)
class Settings:
    """Settings of a study.

    Attributes:
        size: a number.
        heads: names.
        out: folder.
        config: a YAML file.
        record: also write to the folder of results.
    """

    size: int = 1
    heads: tuple[str, ...] = ()
    out: Path | None = None
    config: Path | None = None
    record: bool = False


def check(settings: Settings) -> None:
    if settings.size < 0:
        raise UserError(f"--size {settings.size}: must not be negative")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def run(work, *argv: str) -> int:
    return run_study(PROGRAM, "Question?", Settings, check, work, list(argv))


def a_page(job: Job) -> Page:
    def draw(path: Path) -> None:
        path.write_bytes(b"png")

    return Page("some_study", f"size {job.settings.size}", {"": draw, "-curves": draw}, code=3)


def test_page_is_printed_and_written_and_its_code_returned(capsys, results):
    assert run(a_page, "--size", "2", "--out", "here") == 3
    assert {path.name: path.read_text() for path in Path("here").glob("some_study*")} == {
        "some_study.md": "size 2",
        "some_study.png": "png",
        "some_study-curves.png": "png",
    }
    assert capsys.readouterr().out == "size 2\npage, figures   here/some_study*\n"
    assert not results.exists()


def test_recorded_page_is_also_written_to_the_results(capsys, results):
    run(a_page, "--record", "--out", "here")
    assert (
        len(list(results.glob("some_study*"))) == len(list(Path("here").glob("some_study*"))) == 3
    )
    assert f"page, figures   {results}/some_study*" in capsys.readouterr().out


def test_a_study_without_a_page_has_printed_its_results(capsys):
    def work(job: Job) -> None:
        assert job.command == f"{PROGRAM} --heads 'a b' --out here"
        assert job.out == Path("here") and not job.stopped()
        with pytest.raises(UserError, match="is in use by another run"), hold_lock(job.out):
            pass
        job.progress.say("working")

    assert run(work, "--heads", "a b", "--out", "here") == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "working\n")


def test_a_signal_stops_the_study_which_says_how_to_go_on(capsys):
    def work(job: Job) -> Page:
        os.kill(os.getpid(), signal.SIGTERM)
        while not job.stopped():
            pass
        raise Interrupted

    assert run(work, "--out", "here") == 128 + signal.SIGTERM
    message = f"stopped; what was done is kept. Go on with:\n  {PROGRAM} --out here"
    assert message in capsys.readouterr().err
    assert not list(Path("here").glob("some_study*"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("bad head"), "bad head"),
        (
            HostFailure("Ant-v5: environment 3 raised it", [3], [0], "raised"),
            "Ant-v5: environment 3 raised it; then repeat the command to resume",
        ),
        (OSError(28, "No space left on device", "a.csv"), "a.csv: No space left on device"),
        (OSError(28, "No space left on device"), "here: No space left on device"),
    ],
)
def test_errors_of_users_hosts_and_disks_are_one_line(error, message):
    def work(job: Job) -> Page:
        raise error

    assert refusal(run, work, "--out", "here") == message


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--size -1", "--size -1: must not be negative"),
        ("--size two", "--size: invalid literal for int"),
        ("--sise 2", "Perhaps you meant"),
        ("--config none.yaml", "config none.yaml: no such file"),
    ],
)
def test_invalid_settings_are_refused_before_there_is_a_folder(argv, message, tmp_path):
    assert message in refusal(run, a_page, *argv.split())
    assert not list(tmp_path.iterdir())


def test_folder_is_named_by_all_settings_that_change_a_result():
    assert study_folder(Settings(out=Path("here")), PROGRAM) == Path("here")
    folder = study_folder(Settings(), PROGRAM)
    assert folder.parent == Path("runs/logs/some_study") and folder.name == identity(Settings())
    same = Settings(out=Path("a"), config=Path("b"), record=True)
    assert identity(same) == identity(Settings()) != identity(replace(same, size=2))

    @dataclass(frozen=True)
    class InWorld:
        env: str = "gymnax:CartPole-v1"

    folder = study_folder(InWorld(), PROGRAM)
    assert folder.name == f"gymnax_CartPole-v1-{identity(InWorld())}"


def test_editing_the_file_of_a_head_makes_another_study(tmp_path):
    path = tmp_path / "my_head.py"
    settings = Settings(heads=(f"{path}:Dread",))
    identities = {identity(settings)}  # of a file that is missing
    for text in ("a = 1\n", "a = 2\n"):
        path.write_text(text)
        identities.add(identity(settings))
    assert len(identities) == 3


def test_folder_of_another_study_is_refused():
    with claimed_folder(Settings(out=Path("here")), PROGRAM) as out:
        assert out == Path("here")
    run(a_page, "--out", "here")
    message = "here holds a study with other settings; choose another --out, or delete it"
    assert refusal(run, a_page, "--out", "here", "--size", "2") == message
