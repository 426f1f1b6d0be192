"""Rows of `runs.benchmark` for an accelerator: speed and memory by seeds, deterministic sums.

They run on a CPU too, but 2,000 seeds are made for a GPU: the part is measured on request alone.
"""

from dataclasses import replace

from runs.bench.timing import TimedPair, Workload

SEEDS = (1, 20, 200, 2000)
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"  # sums on a GPU in a fixed order


def accelerator_rows() -> list[TimedPair]:
    """Training and memory by seeds, Drive's training and evaluation, and deterministic sums."""
    one = Workload("training.time_training", seeds=1, updates=64)
    by_seeds = [replace(one, seeds=n, updates=max(one.updates // n, 1)) for n in SEEDS]
    rows = []
    for load in by_seeds:
        title, rival = f"{load.seeds:,} seeds, 64 envs", replace(load, prepare="rivals.rejax")
        rows.append(TimedPair("accelerator", f"{title} / rejax", load, rival, "ratio >= 1"))
    for load in by_seeds[1:]:
        title = f"memory, {load.seeds:,} seeds / 1"
        rows.append(TimedPair("accelerator", title, load, by_seeds[0], "", " MB", "filled"))
    drive = Workload("training.time_evaluation", seeds=20, num_envs=32, world="Drive")
    training = replace(drive, prepare="training.time_arm")
    fixed = replace(by_seeds[2], flags=DETERMINISTIC)
    return [
        *rows,
        TimedPair("accelerator", "Drive, evaluation / training", drive, training, "", " s"),
        TimedPair("accelerator", "deterministic / default", fixed, by_seeds[2]),
    ]
