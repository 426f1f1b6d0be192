"""Progress lines and bar, and interruption of running work by signals."""

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


def send_signal_soon(number: signal.Signals) -> None:
    """Send this process a signal after 0.2 s."""
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()


def wait_for_stop(stopped) -> None:
    deadline = time.monotonic() + 20
    while not stopped():
        assert time.monotonic() < deadline, "no stop was requested within 20 s"
        time.sleep(0.01)


# --- stopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [0, 2])
def test_the_exit_code_of_work_that_ends_is_returned(result, capsys):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run_interruptibly(lambda stopped: result, lambda: "farewell") == result
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [UserError("bad"), ValueError("a bug"), SystemExit(3)])
def test_an_exception_of_work_is_raised_to_the_caller(error):
    def work(stopped):
        raise error

    with pytest.raises(type(error)) as caught:
        run_interruptibly(work, lambda: "farewell")
    assert caught.value is error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_requests_a_stop_and_prints_the_farewell(number, code, capsys):
    saved = []

    def work(stopped):
        wait_for_stop(stopped)
        saved.append("checkpoint")
        return 0

    send_signal_soon(number)
    assert run_interruptibly(work, lambda: "go on with: this") == code
    assert saved == ["checkpoint"]
    assert capsys.readouterr().err == "\ngo on with: this\n"


def test_an_error_while_stopping_is_not_hidden():
    def work(stopped):
        wait_for_stop(stopped)
        raise UserError("the disk is full")

    send_signal_soon(signal.SIGINT)
    with pytest.raises(UserError, match="the disk is full"):
        run_interruptibly(work, lambda: pytest.fail("nothing was kept"))


STUCK = """
import os, time
from runs.cli import interrupt
interrupt.PATIENCE = 0.5
progress = interrupt.Progress(total=2)

def work(stopped):
    progress.advance("work", 1)
    os.write(1, b"ready\\n")  # beside the bar
    time.sleep(60)

def farewell():
    progress.close()
    return "go on with: this"

interrupt.run_interruptibly(work, farewell)
"""


def test_work_that_ignores_the_stop_is_abandoned(monkeypatch):
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


def test_the_cursor_is_visible_again_after_a_forced_exit():
    reading_end, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(terminal)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    output = b""
    try:
        while chunk := os.read(reading_end, 4096):
            output += chunk
    except OSError:  # raised by the end of the terminal
        pass
    os.close(reading_end)
    assert b"1/2" in output
    hidden, visible = output.rfind(b"\x1b[?25l"), output.rfind(b"\x1b[?25h")
    assert -1 < hidden < visible
    assert output.rstrip().endswith(b"go on with: this")


# --- progress ---------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(interrupt.time, "monotonic", lambda: self.now)


def test_lines_are_printed_if_there_is_no_terminal(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    progress = Progress(total=1)
    progress.total = 40
    progress.say("[a line] as it is, however long it may be: " + "x" * 200)
    for done in range(1, 6):
        clock.now += 6.0
        progress.advance("none", done)
    progress.close()
    message, *lines = capsys.readouterr().err.splitlines()
    assert message.startswith("[a line] as it is") and message.endswith("x" * 200)
    assert lines == ["00:06  none  1/40  ETA 03:54", "00:18  none  3/40  ETA 03:42",
                     "00:30  none  5/40  ETA 03:30"]  # fmt: skip


def test_work_done_before_does_not_count_for_the_rate(monkeypatch, capsys):
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
