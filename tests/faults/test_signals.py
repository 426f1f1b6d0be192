"""Ctrl-C and SIGTERM at any time, once or twice, and readers that end early: one line each."""

import random
import shutil
import signal
import subprocess
import sys

import pytest

from tests.faults.bench import LONGEST, ROOT, SMOKE, end, report, results, start, stop, tries
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
    stops = 0
    while stops < tries(12):
        number = (signal.SIGINT, signal.SIGTERM)[stops % 2]
        process, after = start(*SMOKE, "--out", out), rng.uniform(0.1, LONGEST)
        ended = stop(process, number, after, times=1 + stops % 3)
        assert ended.code in (0, 128 + number), ended
        assert "Traceback" not in ended.err, ended.err
        if ended.code == 0:  # it is complete: the next stops are of another
            assert results(out) == results(smoke)
            shutil.rmtree(out)
        else:
            assert "stopped; " in ended.err
            stops += 1
    assert end(start(*SMOKE, "--out", out)).code == 0
    assert results(out) == results(smoke)
    report(record_property, "Ctrl-C and SIGTERM at random times", stops)


def test_a_reader_that_ends_early_ends_the_command_without_a_word(tmp_path):
    code = (
        "from runs.cli.settings import run_main\n"
        "run_main(lambda argv: [print(i) for i in range(10**5)] and 0)"
    )
    command = f"{sys.executable} -c '{code}' | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
