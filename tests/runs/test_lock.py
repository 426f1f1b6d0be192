"""The lock on an output directory: exclusive, held by a named process, released with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runs.errors import UserError
from runs.lock import claim_folder, hold_lock, replace_file

ROOT = Path(__file__).parents[2]

HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from runs.errors import UserError
from runs.lock import hold_lock

print("ready", flush=True)
sys.stdin.readline()
try:
    with hold_lock(Path(sys.argv[1])):
        kind = sys.argv[2]
        child = 0
        if kind == "fork":
            child = os.fork()
        elif kind == "exec":
            child = subprocess.Popen(["sleep", "60"], close_fds=False).pid
        elif kind == "unwind":
            child = os.fork()
            if not child:
                sys.exit()  # runs the end of the with block in the child
            os.waitpid(child, 0)
        if kind != "fork" or not child:  # a forked child prints after its fork hook has run
            print(child or os.getpid(), flush=True)
        time.sleep(60)
except UserError:
    print("refused", flush=True)
"""


@contextmanager
def holders(directory: Path, kind: str, count: int = 1) -> Iterator[list[subprocess.Popen]]:
    """Processes that lock `directory` at the same time, killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(directory), kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(count)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * count
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("kind", ["alone", "unwind"])
def test_the_error_names_directory_process_and_remedy(tmp_path, kind):
    """A forked child that leaves the block does not free its parent's lock."""
    with holders(tmp_path, kind) as [holder]:
        holder.stdout.readline()
        with pytest.raises(UserError) as caught, hold_lock(tmp_path):
            pass
        message = f"{tmp_path} is in use by another run (process {holder.pid}): wait for it, stop "
        assert str(caught.value) == f"{message}that process, or choose another --out"


@pytest.mark.parametrize("kind", ["fork", "exec"])
def test_sigkill_frees_the_lock_while_a_child_is_running(tmp_path, kind):
    with holders(tmp_path, kind) as [holder]:
        child = int(holder.stdout.readline())
        with pytest.raises(UserError), hold_lock(tmp_path):
            pass
        holder.kill()
        holder.wait()
        try:
            os.kill(child, 0)  # raises if the child is gone
            with hold_lock(tmp_path):
                assert (tmp_path / ".lock").read_text() == str(os.getpid())
        finally:
            os.kill(child, signal.SIGKILL)


def test_only_one_of_several_simultaneous_processes_gets_the_lock(tmp_path):
    with holders(tmp_path, "alone", 4) as processes:
        lines = [process.stdout.readline().strip() for process in processes]
    assert sorted(line.isdigit() for line in lines) == [False, False, False, True]


def test_the_lock_is_released_at_the_end_of_the_block_and_after_an_error(tmp_path):
    directory = tmp_path / "made" / "here"
    for error in (KeyError, OSError):
        with pytest.raises(error), hold_lock(directory):
            raise error
    with hold_lock(directory), hold_lock(tmp_path), pytest.raises(UserError), hold_lock(directory):
        pass


def test_a_directory_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"), hold_lock(tmp_path / "file"):
        pass
    for name in ("a\\b", "a[b"):
        with pytest.raises(UserError, match="need a path without"), hold_lock(tmp_path / name):
            pass
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_is_claimed_by_one_identity(tmp_path):
    for _ in range(2):
        claim_folder(tmp_path, "one")
    with pytest.raises(UserError, match="holds a study with other settings; choose another --out"):
        claim_folder(tmp_path, "two")


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    replace_file(tmp_path / "a.txt", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replace_file(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
