"""Records every number that the commands give, and compares two such recordings, names aside.

    python tests/safety_net.py record FOLDER [NAME ...]     # from the root of a checkout
    python tests/safety_net.py compare FOLDER FOLDER

For a rebuild that must not change a result: names of modules, arms and columns may differ between
two recordings, numbers may not. A recording holds, for each command, what it printed and the files
it wrote. Two recordings of one commit tell which numbers are times of day or of machines: record
twice, and compare the pair first.

The draw of sealed worlds is a hash of the plan, which holds names; it is pinned here.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

NEW_NAMES = {
    "null": "type1_error",
    "gaming": "selection_bias",
    "unpaid": "reward_free",
    "life": "continual",
}
COMMANDS = {
    "compare-quick": ("compare", "--quick"),
    "compare-sealed": ("compare", "--smoke", "--sealed", "social", "--without", "random"),
    "compare-CartPole-v1": ("compare", "--smoke", "--env", "CartPole-v1"),
    "compare-MiniGrid": ("compare", "--smoke", "--env", "MiniGrid-DistShift1-v0"),
    "first_drive": ("first_drive", "--smoke"),
    "validity": ("validity", "--smoke"),
    "validity-CartPole-v1": ("validity", "--smoke", "--env", "CartPole-v1"),
    "credit": ("credit", "--smoke"),
    "unpaid": ("unpaid", "--smoke"),
    "unpaid-CartPole-v1": ("unpaid", "--smoke", "--env", "CartPole-v1"),
    "life": ("life", "--smoke"),
    "calibrate": ("calibrate", "--smoke"),
    "packer": ("packer", "--smoke"),
    "targets": ("targets", "--smoke"),
    "lesion": ("lesion", "--smoke"),
    "constant": ("constant", "--smoke"),
    "feelings": ("feelings", "--smoke"),
    "null": ("null", "--smoke"),
    "gaming": ("gaming", "--smoke"),
}
START = """
import importlib, runpy, sys
PINNED = "0123456789abcdef" * 4
for name in ("runs.prereg.seal", "runs.sealing.seal"):
    try:
        seal = importlib.import_module(name)
        setattr(seal, "digest" if hasattr(seal, "digest") else "seal_digest", lambda *_: PINNED)
    except ModuleNotFoundError:
        pass
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
NUMBER = re.compile(r"(?<![\w.])[-+]?\d*\.\d+(?:e[-+]?\d+)?|(?<![\w.])nan(?!\w)")
CLOCK = re.compile(r'"[\w/]*second[\w/]*": [\d.e+-]+')
TEXT = (".csv", ".md", ".jsonl", ".txt")


def record(out: Path, names: list[str]) -> None:
    """Runs the commands one after another, and moves what each has written to `out`/its name."""
    for name in names or COMMANDS:
        module, *flags = COMMANDS[name]
        module = module if Path(f"runs/{module}.py").exists() else NEW_NAMES[module]
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begin = time.monotonic()
        with (folder / "stdout.txt").open("w") as text, (folder / "stderr.log").open("w") as log:
            command = [sys.executable, "-c", START, f"runs.{module}", *flags]
            code = subprocess.call(command, stdout=text, stderr=log, env=dict(os.environ))
        logs = Path("runs/logs")
        if logs.exists():
            shutil.move(logs, folder / "logs")
        print(f"{name}: exit code {code}, {time.monotonic() - begin:.0f} s", flush=True)


def numbers(folder: Path) -> dict[str, Counter]:
    """Rows of numbers by the kind of file they come from, arrays of checkpoints by their hash."""
    found: dict[str, Counter] = {}
    for path in sorted(folder.rglob("*")):
        kind = path.suffix
        if path.name == "manifest.json":
            newest = max(path.parents[1].glob("*-step-*"), key=lambda step: step.name)
            if path.parent != newest:  # how many are saved depends on the clock
                continue
            leaves = json.loads(path.read_text())["leaves"]
            rows = [leaf["sha256"] for leaf in leaves.values()]
        elif kind == ".npz":
            import numpy as np

            data = np.load(path, allow_pickle=False)
            rows = [hashlib.sha256(data[key].tobytes()).hexdigest() for key in data.files]
        elif kind in TEXT and path.name != "run.log":
            text = CLOCK.sub("", path.read_text())
            rows = [tuple(NUMBER.findall(line)) for line in text.splitlines()]
            if kind == ".txt":  # a terminal wraps lines by the widths of names
                rows = [(number,) for row in rows for number in row]
            rows = [row for row in rows if row]
        elif path.name.startswith("events.out.tfevents"):
            kind, rows = ".tfevents", scalars(path)
        else:
            continue
        found.setdefault(kind, Counter()).update(rows)
    return found


def scalars(path: Path) -> list[tuple[int, bytes]]:
    """(step, bytes of the value) of every scalar in a TensorBoard file."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    events = [event for event in EventFileLoader(str(path)).Load() if event.HasField("summary")]
    return [
        (event.step, value.tensor.SerializeToString())
        for event in events
        for value in event.summary.value
        if "second" not in value.tag and value.tensor.dtype == 1  # float32: no text, no picture
    ]


def compare(one: Path, other: Path) -> int:
    """Prints what differs; the number of commands that do."""
    different = 0
    for folder in sorted(path for path in one.iterdir() if path.is_dir()):
        before, after = numbers(folder), numbers(other / folder.name)
        lines = []
        for kind in sorted(before.keys() | after.keys()):
            a, b = before.get(kind, Counter()), after.get(kind, Counter())
            if a != b:
                lost, new = a - b, b - a
                lines.append(
                    f"  {kind}: {lost.total()} of {a.total()} rows gone, {new.total()} new"
                )
                lines += [f"    - {row}" for row in list(lost)[:4]]
                lines += [f"    + {row}" for row in list(new)[:4]]
        total = sum(rows.total() for rows in before.values())
        print(f"{folder.name}: {total} rows, " + ("differs" if lines else "the same"))
        print("\n".join(lines), end="\n" if lines else "")
        different += bool(lines)
    return different


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    if task == "record":
        record(Path(rest[0]).resolve(), rest[1:])
    else:
        sys.exit(compare(*map(Path, rest)))
