"""Ctrl-C and SIGTERM at any time, once or twice, and readers that end early: one line each."""

import random
import signal
import subprocess
import sys

import pytest

from tests.faults.bench import ROOT, SMOKE, end, report, results, start, stop, tries
from tests.tiers import slow


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGINT)])
def test_a_signal_while_a_command_is_imported_is_one_line(number, tmp_path):
    process = start(*SMOKE, "--out", tmp_path)
    ended = stop(process, number, after=0.3, times=2)
    assert ended.code == 128 + number
    assert ended.err == "\nstopped; give the same command again to go on\n"


@pytest.mark.slow
def test_signals_at_random_times_lose_nothing(smoke, tmp_path, record_property):
    out, rng = tmp_path / "stopped", random.Random(0)
    for i in range(tries(30)):
        number = (signal.SIGINT, signal.SIGTERM)[i % 2]
        ended = stop(start(*SMOKE, "--out", out), number, rng.uniform(0.1, 40), times=1 + i % 3)
        assert ended.code in (0, 128 + number), ended
        assert "Traceback" not in ended.err, ended.err
        assert ended.code == 0 or "stopped; " in ended.err
    assert end(start(*SMOKE, "--out", out)).code == 0
    assert results(out) == results(smoke)
    report(record_property, "Ctrl-C and SIGTERM at random times", tries(30))


def test_a_reader_that_ends_early_ends_the_command_without_a_word(tmp_path):
    code = (
        "from runs.cli.settings import run_main\n"
        "run_main(lambda argv: [print(i) for i in range(10**5)] and 0)"
    )
    command = f"{sys.executable} -c '{code}' | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
