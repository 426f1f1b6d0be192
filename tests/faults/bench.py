"""Commands with faults: their processes, their files, and the table of what was tried.

FAULTS in the environment is the share of the full number of times that each slow test tries its
fault: `FAULTS=1 python -m pytest -m slow tests/faults` tries all of them.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from runs.prereg.seal import newest_checkpoint
from tests.runs import test_compare

ROOT = Path(__file__).parents[2]
SMOKE = "runs.compare", *test_compare.SMOKE  # two arms, whose programs are compiled for that test
LONGEST = 20.0  # seconds that a command computes before its kill or signal
SHARE = float(os.environ.get("FAULTS", "0.1"))


class Ended(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


def tries(full: int) -> int:
    """Number of times that a fault is tried, of `full`."""
    return max(round(full * SHARE), 1)


def report(record_property: Callable, what: str, times: int, lost: int = 0) -> None:
    """Adds a row to the table: what was tried, how often, and what was lost."""
    record_property("faults", [what, times, lost])


def start(*argv: object, most_bytes: int | None = None) -> subprocess.Popen:
    """Starts `python -m ARGV`, which can write no file larger than `most_bytes`."""
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    cache["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, argv)],
        cwd=ROOT,
        env=os.environ | cache,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if most_bytes is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    return process


def end(process: subprocess.Popen, seconds: float = 1800) -> Ended:
    """Waits for a process to end; one that does not is killed, and fails the test."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def stop(process: subprocess.Popen, number: signal.Signals, after: float, times: int = 1) -> Ended:
    """Sends a signal after some seconds of computing, unless the command ends before."""
    while process.poll() is None and computed(process) < after:
        time.sleep(0.01)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    return end(process)


def computed(process: subprocess.Popen) -> float:
    """Seconds that a process has computed, as opposed to waited for a busy machine."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def assert_one_error(ended: Ended) -> None:
    """Asserts that a command was refused: exit code 2, and one line that says why at the end."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err, ended.err
    assert ended.err.splitlines()[-1].startswith("error: "), ended.err


def results(out: Path) -> dict[str, object]:
    """What a study computed: scores, parts, plan, curves without times, and trained numbers."""
    names = ("plan.toml", "*.csv", "parts/*.json", "probed/*.json")
    paths = sorted(path for name in names for path in out.glob(name))
    files: dict[str, object] = {
        path.relative_to(out).as_posix(): path.read_bytes() for path in paths
    }
    metrics = out / "metrics.jsonl"
    for line in metrics.read_text().splitlines() if metrics.exists() else ():
        row = json.loads(line)
        files[f"metrics of {row['arm']} at {row['step']}"] = row["metrics"]
    for folder in sorted((out / "checkpoints").glob("*")):
        path = newest_checkpoint(folder)
        if path is not None:
            files[folder.name] = json.loads((path / "manifest.json").read_text())["leaves"]
    return files
