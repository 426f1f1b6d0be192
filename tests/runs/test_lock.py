"""The lock on an output directory: exclusive, held by a named process, released with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs.errors import UserError
from runs.lock import hold_lock

ROOT = Path(__file__).parents[2]

HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from runs.lock import hold_lock

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
"""


def start(directory: Path, kind: str) -> tuple[subprocess.Popen, int]:
    """A process that holds `directory`, and the process id of its child."""
    command = [sys.executable, "-c", HOLDER, str(directory), kind]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return holder, int(holder.stdout.readline())


def test_the_error_names_directory_process_and_remedy(tmp_path):
    holder, _ = start(tmp_path, "alone")
    try:
        with pytest.raises(UserError) as caught, hold_lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    message = str(caught.value)
    assert str(tmp_path) in message and str(holder.pid) in message and "--out" in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["fork", "exec"])
def test_sigkill_frees_the_lock_while_a_child_is_running(tmp_path, kind):
    holder, child = start(tmp_path, kind)
    try:
        with pytest.raises(UserError), hold_lock(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)  # Raises if the child is gone.
        with hold_lock(tmp_path):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())
    finally:
        os.kill(child, signal.SIGKILL)
        holder.communicate()


def test_a_child_that_leaves_the_block_does_not_free_its_parents_lock(tmp_path):
    holder, _ = start(tmp_path, "unwind")
    try:
        with pytest.raises(UserError), hold_lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_the_lock_is_released_at_the_end_of_the_block_and_after_an_error(tmp_path):
    directory = tmp_path / "made" / "here"
    for _ in range(2):
        with pytest.raises(KeyError), hold_lock(directory):
            raise KeyError
    with hold_lock(directory), pytest.raises(UserError), hold_lock(directory):
        pass


def test_two_directories_are_independent(tmp_path):
    with hold_lock(tmp_path / "a"), hold_lock(tmp_path / "b"):
        pass


def test_a_directory_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"), hold_lock(tmp_path / "file"):
        pass


def test_only_one_of_several_simultaneous_processes_gets_the_lock(tmp_path):
    script = (
        "import sys; from pathlib import Path; from runs.lock import hold_lock\n"
        "from runs.errors import UserError\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    with hold_lock(Path(sys.argv[1])): print('got', flush=True); sys.stdin.readline()\n"
        "except UserError: print('refused', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(4)]
    assert [run.stdout.readline() for run in runs] == ["ready\n"] * 4
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    answers = sorted(run.stdout.readline() for run in runs)
    for run in runs:
        run.communicate()  # closes the input, so that the holder exits
    assert answers == ["got\n", "refused\n", "refused\n", "refused\n"]
