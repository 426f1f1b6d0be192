"""Write the files of a finished, correctly sealed study without training anything."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from runs.analysis.scores import COLUMNS
from runs.engine.checkpoint import Checkpoints
from runs.prereg import plan_file, seal
from runs.prereg.plan_file import Plan
from tests.runs import small_study

ARMS = ("none", "random", "constant_plus", "fear", "fear_sham", "fear_constant")


def sealed_plan(arms=ARMS, **options) -> Plan:
    """Make the plan of a study: CartPole under two shifts, six arms, three seeds."""
    config = replace(small_study.CONFIG, seeds=3)
    return plan_file.make_plan(small_study.suite(), config, arms, **options)


def train(out: Path, arms=ARMS, luck: float = 0.0) -> None:
    """Write one checkpoint per arm; `luck` is added to its weights."""
    for i, arm in enumerate(arms):
        tree = {"w": np.arange(3.0) + i + luck}
        Checkpoints(out / "checkpoints" / arm).save(4, tree)


def score(
    out: Path, name: str = "scores.csv", arms=ARMS, better: float = 0.0, leave_out=()
) -> None:
    """Write one score row per seed and point, `better` added, without the shifts in `leave_out`."""
    points = [point for point in small_study.suite().points() if point.shift not in leave_out]
    with (out / name).open("w") as file:
        writer = csv.DictWriter(file, COLUMNS, restval=0.5, lineterminator="\n")
        writer.writeheader()
        for arm in arms:
            for point in points:
                for seed in range(3):
                    row = {"env": "CartPole", "arm": arm, "seed": seed, "episodes": 2}
                    score = 0.25 * seed + better
                    writer.writerow(row | point._asdict() | {"score": score})


def study(out: Path, arms=ARMS, **options) -> Path:
    """Register, train, freeze, score the public shifts, draw and score the sealed ones."""
    plan = sealed_plan(arms, **options)
    assert seal.register(out, plan) == []
    train(out, arms)
    seal.freeze_agents(out)
    score(out, arms=arms, leave_out=plan.splits.names("sealed"))
    seal.enter_scores(out)
    seal.draw_sealed(out)
    score(out, "sealed.csv", arms, 0.1, plan.splits.names("dev") if plan.sealed else ())
    seal.enter_scores(out, "sealed")
    return out
