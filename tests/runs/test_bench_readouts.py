"""The cost of readouts is measured on the episodes of a plain evaluation."""

import jax

from runs.bench.job import Job
from runs.bench.ours import evaluation
from runs.bench.readouts import readouts


def test_both_sides_compute_the_same_steps():
    jax.config.update("jax_debug_key_reuse", False)
    try:
        job = Job("readouts", 2, 1, num_envs=4, num_steps=8, heads=("lesion",), episodes=4)
        found = [side(job)() for side in (evaluation, readouts)]
    finally:
        jax.config.update("jax_debug_key_reuse", True)
    assert found[0]["steps"] == found[1]["steps"] > 0
    assert all(side["seconds"] > 0 for side in found)
