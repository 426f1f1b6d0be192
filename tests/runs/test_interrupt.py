"""Progress that can be read, and work that can be stopped, whatever it is busy with."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runs.cli import interrupt
from runs.cli.interrupt import Progress, run_interruptibly
from runs.errors import UserError

ROOT = Path(__file__).parents[2]


def soon(number: signal.Signals) -> None:
    """Sends this process a signal in a moment."""
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()


def wait_for(stopped) -> None:
    until = time.monotonic() + 20
    while not stopped():
        assert time.monotonic() < until, "nobody asked to stop"
        time.sleep(0.01)


# --- stopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [0, 2])
def test_work_that_ends_gives_its_code(result, capsys):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run_interruptibly(lambda stopped: result, lambda: "farewell") == result
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [UserError("bad"), ValueError("a bug"), SystemExit(3)])
def test_work_that_raises_raises_here(error):
    def work(stopped):
        raise error

    with pytest.raises(type(error)) as caught:
        run_interruptibly(work, lambda: "farewell")
    assert caught.value is error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_asks_to_stop(number, code, capsys):
    saved = []

    def work(stopped):
        wait_for(stopped)
        saved.append("checkpoint")
        return 0

    soon(number)
    assert run_interruptibly(work, lambda: "go on with: this") == code
    assert saved == ["checkpoint"]
    assert capsys.readouterr().err == "\ngo on with: this\n"


def test_an_error_while_stopping_is_not_hidden():
    def work(stopped):
        wait_for(stopped)
        raise UserError("the disk is full")

    soon(signal.SIGINT)
    with pytest.raises(UserError, match="the disk is full"):
        run_interruptibly(work, lambda: pytest.fail("nothing was kept"))


STUCK = """
import os, time
from runs.engine import watch
watch.PATIENCE = 0.5
progress = watch.Progress(total=2)

def work(stopped):
    progress.advance("work", 1)
    os.write(1, b"ready\\n")  # beside the bar
    time.sleep(60)

def farewell():
    progress.close()
    return "go on with: this"

watch.run_interruptibly(work, farewell)
"""


def test_work_that_hears_nothing_is_left(monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.endswith("\ngo on with: this\n")
    assert "Traceback" not in err


def test_the_terminal_is_left_as_it_was():
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how the end of a terminal reads
        pass
    os.close(ours)
    assert b"1/2" in shown
    hidden, visible = shown.rfind(b"\x1b[?25l"), shown.rfind(b"\x1b[?25h")
    assert -1 < hidden < visible
    assert shown.rstrip().endswith(b"go on with: this")


# --- progress ---------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(interrupt.time, "monotonic", lambda: self.now)


def test_lines_come_where_there_is_no_terminal(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    progress = Progress(total=1)
    progress.total = 40
    progress.say("[a line] as it is, however long it may be: " + "x" * 200)
    for done in range(1, 6):
        clock.now += 6.0
        progress.advance("none", done)
    progress.close()
    said, *lines = capsys.readouterr().err.splitlines()
    assert said.startswith("[a line] as it is") and said.endswith("x" * 200)
    assert lines == ["00:06  none  1/40  ETA 03:54", "00:18  none  3/40  ETA 03:42",
                     "00:30  none  5/40  ETA 03:30"]  # fmt: skip


def test_what_was_done_before_is_not_in_the_rate(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    progress = Progress(total=100)
    progress.advance("none", 50, fresh=False)
    clock.now += 20
    progress.advance("none", 51)
    clock.now += 3600
    progress.advance("none", 60)
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "00:00  none  50/100  ETA ...",
        "00:20  none  51/100  ETA 16:20",
        "1:00:20  none  60/100  ETA 4:01:20",
    ]
