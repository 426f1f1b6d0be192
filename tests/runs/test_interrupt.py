"""Progress lines and bar, and interruption of running work by signals."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runs.cli import interrupt
from runs.cli.interrupt import Progress, run_with_progress
from runs.errors import UserError

ROOT = Path(__file__).parents[2]
MESSAGE = "stopped; go on with:\n  this command"


def wait_for_stop(stopped) -> None:
    deadline = time.monotonic() + 20
    while not stopped():
        assert time.monotonic() < deadline, "no stop was requested within 20 s"
        time.sleep(0.01)


@pytest.mark.parametrize("result", [0, 2])
def test_the_exit_code_of_work_that_ends_is_returned(result, capsys):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run_with_progress(MESSAGE, lambda progress, stopped: result) == result
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert capsys.readouterr().err == ""


def test_work_started_outside_the_main_thread_returns_its_exit_code():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run_with_progress, MESSAGE, lambda progress, stopped: 2).result() == 2


@pytest.mark.parametrize("error", [UserError("bad"), ValueError("a bug"), SystemExit(3)])
@pytest.mark.parametrize("stop_before", [False, True])
def test_an_exception_of_work_is_raised_even_while_stopping(error, stop_before, capsys):
    def work(progress, stopped):
        if stop_before:
            os.kill(os.getpid(), signal.SIGINT)
            wait_for_stop(stopped)
        raise error

    with pytest.raises(type(error)) as caught:
        run_with_progress(MESSAGE, work)
    assert caught.value is error
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_requests_a_stop_and_prints_how_to_resume(number, code, capsys):
    saved = []

    def work(progress, stopped):
        wait_for_stop(stopped)
        saved.append("checkpoint")
        return 0

    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    assert run_with_progress(MESSAGE, work) == code
    assert saved == ["checkpoint"]
    assert capsys.readouterr().err == f"\n{MESSAGE}\n"


STUCK = """
import os, sys, time
from runs.cli import interrupt
interrupt.PATIENCE = 0.5

def work(progress, stopped):
    progress.total = 2
    progress.advance("work", 1)
    os.write(1, b"ready\\n")  # beside the bar
    time.sleep(60)

interrupt.run_with_progress(sys.argv[1], work)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_work_that_ignores_the_stop_is_abandoned_and_the_terminal_restored(number, code):
    reading_end, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, MESSAGE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(terminal)
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(10) == code
    output = b""
    try:
        while chunk := os.read(reading_end, 4096):
            output += chunk
    except OSError:  # raised by the end of the terminal
        pass
    os.close(reading_end)
    assert b"1/2" in output and b"Traceback" not in output
    hidden, visible = output.rfind(b"\x1b[?25l"), output.rfind(b"\x1b[?25h")
    assert -1 < hidden < visible
    assert output.decode().replace("\r", "").endswith(f"\n{MESSAGE}\n")


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
    assert lines == ["00:06  none  1/40  ETA ...", "00:18  none  3/40  ETA 03:42",
                     "00:30  none  5/40  ETA 03:30"]  # fmt: skip


def test_the_eta_follows_the_speed_of_the_present_part(monkeypatch, capsys):
    clock, progress, done = Clock(monkeypatch), Progress(total=10_000), 0
    for seconds in [60] * 60 + [1] * 3000:  # an hour of slow units, then fast ones
        clock.now, done = clock.now + seconds, done + 1
        progress.advance("none", done)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[59].endswith("ETA 165:40:00")  # 9,940 minutes
    hours, minutes, seconds = map(int, lines[-1].rpartition(" ")[2].split(":"))
    assert 3600 * hours + 60 * minutes + seconds == pytest.approx(10_000 - done, rel=0.2)


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
        "00:20  none  51/100  ETA ...",
        "1:00:20  none  60/100  ETA 4:26:40",
    ]


def test_parts_read_from_files_between_others_do_not_count_for_the_rate(monkeypatch, capsys):
    clock, progress = Clock(monkeypatch), Progress(total=100)
    for seconds, done, fresh in ((20, 1, True), (20, 2, True), (500, 52, False), (20, 53, True)):
        clock.now += seconds
        progress.advance("none", done, fresh)
    progress.close()
    assert capsys.readouterr().err.splitlines()[-1] == "09:20  none  53/100  ETA 15:40"
