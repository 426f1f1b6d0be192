"""Worker process that measures benchmark jobs on request.

`python -m runs.bench.worker` reads one command per line: `["prepare", job]` builds, compiles and
warms up, `["measure", job]` measures once, `["describe"]` describes the machine. It answers each
with one line of JSON and is idle in between, so that two processes can be measured in turn without
slowing each other down.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial

from runs.bench.components import time_advantages, time_env_steps, time_rollouts, time_updates
from runs.bench.job import Job, Measure
from runs.bench.main_job import peak_memory, time_compilation, time_evaluation, time_training
from runs.bench.matmul_ceiling import matmul_training
from runs.bench.peers import rejax, sbx, stable_baselines3
from runs.bench.report_cost import time_report, time_sealing

PEERS = {"rejax": rejax, "stable_baselines3": stable_baselines3, "sbx": sbx}  # by module
OURS = {
    "ours": time_training,
    "evaluation": time_evaluation,
    "compilation": time_compilation,
    "memory": peak_memory,
    "ceiling": matmul_training,
    "living": time_rollouts,
    "judging": time_advantages,
    "learning": time_updates,
    "wandering": time_env_steps,
    "readouts": partial(time_evaluation, readouts=True),
    "report": time_report,
    "sealing": time_sealing,
}
KINDS: dict[str, Callable[[Job], Measure]] = OURS | PEERS


def serve() -> None:
    """Answer commands from stdin until it ends; an error is answered with its text."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print to stderr, so that stdout holds answers only
    prepared: dict[Job, Measure] = {}
    for line in sys.stdin:
        try:
            answer = answer_line(prepared, *json.loads(line))
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        answers.write(json.dumps(answer) + "\n")


def answer_line(prepared: dict[Job, Measure], verb: str, fields: dict | None = None) -> dict:
    """Execute the command of one line -> its answer."""
    from runs.engine import devices

    if verb == "describe":
        devices.prepare_devices()
        return devices.describe_machine()
    job = Job(**fields | {"heads": tuple(fields["heads"])})
    if verb == "measure":
        return prepared[job]()
    if job.kind in OURS:
        devices.prepare_devices()
    prepared[job] = KINDS[job.kind](job)
    return {}


if __name__ == "__main__":
    serve()
