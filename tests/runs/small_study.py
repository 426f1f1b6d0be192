"""Studies small enough for a test, the ways they end early, and what two of them must share."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from agents.ppo import PPO
from envs import load_suite
from envs.suite import Suite
from envs.worlds.classic.cartpole import CartPole
from runs.engine.arm_runner import ArmRunner
from runs.engine.arms import comparison_arms
from runs.engine.checkpoint import Checkpoints
from runs.engine.run_config import RunConfig

HEADS = ("fear", "hope", "curiosity")
ARMS = {arm.name: arm for arm in comparison_arms(HEADS, 0.99, load_suite("CartPole"))}
PLAN = RunConfig(
    agent=PPO(width=8, epochs=1, minibatches=2),
    seeds=2,
    rows=2,
    chunks=4,
    updates=2,
    num_envs=2,
    num_steps=8,
    episodes=2,
    optimise=False,
)


def without_key_check() -> Iterator[None]:
    """The check takes a scan over keys that were split under `vmap` for a second use of them.

    Of one seed, without `vmap`, every program passes it.
    """
    with jax.debug_key_reuse(False):
        yield


def without_key_check_in_threads() -> Iterator[None]:
    """The same where a command runs its study in a thread of its own."""
    jax.config.update("jax_debug_key_reuse", False)
    yield
    jax.config.update("jax_debug_key_reuse", True)


class Killed(BaseException):
    """In the place of kill -9: nothing gets to tidy up after it."""


def suite() -> Suite:
    """CartPole, 20 steps, under a shift of its physics and one of its actuators."""
    ours = load_suite("CartPole")
    shifts = tuple(shift for shift in ours.shifts if shift.name in ("force", "flip"))
    return replace(ours, env=CartPole(horizon=20), shifts=shifts, severities=(0.5, 1.0))


class Watch:
    """Counts what a study does and asks it to stop, or kills it, at a number of things done."""

    def __init__(self, stop_at=None, kill_at=None):
        self.stop_at, self.kill_at = stop_at, kill_at
        self.done, self.fresh, self.said = 0, 0, []

    def advance(self, arm: str, done: int, fresh: bool) -> None:
        self.done, self.fresh = done, self.fresh + fresh
        if done == self.kill_at:
            raise Killed

    def stopped(self) -> bool:
        return self.done == self.stop_at


def run(trainer, out: Path, film=False, **when) -> tuple[list[dict], Watch]:
    """Runs a study of one arm to its end -> (score rows, what was seen of it)."""
    watch = Watch(**when)
    suite, run_config = trainer.suite, trainer.run_config
    study = ArmRunner(out, suite.name, run_config, watch.said.append, watch.advance, watch.stopped)
    if not film:
        study.film = lambda trainer, run: None
    out.mkdir(parents=True, exist_ok=True)
    return study.run(trainer), watch


def final(trainer, out: Path) -> tuple:
    """What the newest checkpoint holds: (chunks done, (run, alive))."""
    like = trainer.start(), np.ones(trainer.run_config.rows, bool)
    return Checkpoints(out / "checkpoints" / trainer.arm.name).restore(like)


def metrics(out: Path) -> list[dict]:
    """`metrics.jsonl` without the time that it took."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line | {"seconds": None} for line in lines]


def bits(tree) -> dict[str, bytes]:
    """Every leaf of a tree by name, bit for bit."""

    def raw(leaf):
        key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if key else leaf).tobytes()

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): raw(leaf) for path, leaf in leaves}


def assert_same_study(trainer, one: Path, other: Path) -> None:
    """Two folders hold the same results of an arm: final state, curves and scores."""
    assert bits(final(trainer, one)) == bits(final(trainer, other))
    assert metrics(one) == metrics(other)
    assert (one / "scores.csv").read_bytes() == (other / "scores.csv").read_bytes()
