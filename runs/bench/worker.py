"""A process that measures: ours, a peer or the bare machine, alone.

`python -m runs.bench.worker` obeys one command a line: `["prepare", job]` builds, compiles and
warms up, `["measure", job]` does it once, `["describe"]` names the machine. It answers each with
one line of JSON and is idle in between, so that two processes can be measured alternately without
a thread of one in the way of the other.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial

from runs.bench.ceiling import ceiling
from runs.bench.job import Job, Measure
from runs.bench.ours import compilation, evaluation, memory, ours
from runs.bench.peers import rejax, sbx, stable_baselines3
from runs.bench.report import report, sealing
from runs.bench.shares import judging, learning, living, wandering

PEERS = {"rejax": rejax, "stable_baselines3": stable_baselines3, "sbx": sbx}  # by their modules
OURS = {
    "ours": ours,
    "evaluation": evaluation,
    "compilation": compilation,
    "memory": memory,
    "ceiling": ceiling,
    "living": living,
    "judging": judging,
    "learning": learning,
    "wandering": wandering,
    "readouts": partial(evaluation, ask=True),
    "report": report,
    "sealing": sealing,
}
KINDS: dict[str, Callable[[Job], Measure]] = OURS | PEERS


def serve() -> None:
    """Obeys until its input ends; an error is an answer too."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    prepared: dict[Job, Measure] = {}
    for line in sys.stdin:
        try:
            answer = obey(prepared, *json.loads(line))
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        answers.write(json.dumps(answer) + "\n")


def obey(prepared: dict[Job, Measure], verb: str, fields: dict | None = None) -> dict:
    """Does what one line says -> the answer."""
    from runs.harness import devices

    if verb == "describe":
        devices.prepare()
        return devices.describe()
    job = Job(**fields | {"heads": tuple(fields["heads"])})
    if verb == "measure":
        return prepared[job]()
    if job.kind in OURS:
        devices.prepare()
    prepared[job] = KINDS[job.kind](job)
    return {}


if __name__ == "__main__":
    serve()
