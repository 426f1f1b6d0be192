"""Commands with faults: their processes, their files, and the table of what was tried.

FAULTS in the environment is the number of times that each slow test tries its fault.
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

ROOT = Path(__file__).parents[2]
SMOKE = "runs.compare", "--smoke", "--env", "CartPole", "--shifts", "force", "--heads", "mood"
FAULTS = int(os.environ.get("FAULTS", "2"))


class Ended(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


def report(record_property: Callable, what: str, times: int, lost: int = 0) -> None:
    """Adds a row to the table: what was tried, how often, and what was lost."""
    record_property("faults", [what, times, lost])


def start(*argv: object, most_bytes: int | None = None) -> subprocess.Popen:
    """Starts `python -m ARGV`, which can write no file larger than `most_bytes`."""
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
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


def end(process: subprocess.Popen, seconds: float = 600) -> Ended:
    """Waits for a process to end."""
    out, err = process.communicate(timeout=seconds)
    return Ended(process.returncode, out, err)


def stop(process: subprocess.Popen, number: signal.Signals, after: float, times: int = 1) -> Ended:
    """Sends a signal after some seconds, unless the command ends before."""
    deadline = time.monotonic() + after
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    return end(process, 60)


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
