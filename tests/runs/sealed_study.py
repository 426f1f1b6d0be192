"""Write the files of a finished, correctly sealed study without training anything."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from agents.ppo import PPO
from envs import load_suite
from envs.suite import Suite
from runs.analysis.scores import rows_as_csv
from runs.engine.checkpoint import Checkpoints
from runs.engine.config import RunConfig
from runs.names import SCORES
from runs.prereg import plan_file, seal
from runs.prereg.plan_file import Plan

ARMS = ("none", "random", "constant_plus", "fear", "fear_sham", "fear_constant")
SIZES = {"seeds": 3, "rows": 3, "chunks": 4, "updates": 2, "num_envs": 2, "num_steps": 8}
CONFIG = RunConfig(PPO(width=8), episodes=2, **SIZES)


@cache
def cartpole() -> Suite:
    """CartPole with one physics shift and one actuator shift."""
    suite = load_suite("CartPole")
    shifts = tuple(shift for shift in suite.shifts if shift.name in ("force", "flip"))
    return replace(suite, shifts=shifts, severities=(0.5, 1.0))


def sealed_plan(arms=ARMS, **options) -> Plan:
    """Make the plan of a study: CartPole under two shifts, six arms, three seeds."""
    return plan_file.make_plan(cartpole(), CONFIG, arms, **options)


def train(out: Path, arms=ARMS, luck: float = 0.0) -> None:
    """Write one checkpoint per arm; `luck` is added to its weights."""
    for i, arm in enumerate(arms):
        tree = {"w": np.arange(3.0) + i + luck}
        Checkpoints(out / "checkpoints" / arm).save(4, tree)


def score(
    out: Path, name: str = "scores.csv", arms=ARMS, better: float = 0.0, leave_out=()
) -> None:
    """Write one score row per seed and point, `better` added, without the shifts in `leave_out`."""
    rows = [
        {"env": "CartPole", "arm": arm, "seed": seed, "episodes": 2, "score": 0.25 * seed + better}
        | point._asdict()
        | dict.fromkeys(SCORES, 0.5)
        for arm in arms
        for point in cartpole().points()
        if point.shift not in leave_out
        for seed in range(3)
    ]
    (out / name).write_text(rows_as_csv(rows, header=True))


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
