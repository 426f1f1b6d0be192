"""Train and score an arm for a few updates, interrupt or kill it, and compare two results."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from agents.ppo import PPO
from envs import load_suite
from envs.suite import Suite
from envs.worlds.classic.cartpole import CartPole
from runs.arm_runner import ArmRunner, Reporter
from runs.engine.arms import Arm, comparison_arms
from runs.engine.backend import Backend, make_backend
from runs.engine.checkpoint import Checkpoints
from runs.engine.config import RunConfig
from runs.engine.evaluate import EvalPoints, draw_points
from runs.engine.phases import Phase, one_world

HEADS = ("fear", "hope", "curiosity")
ARMS = {arm.name: arm for arm in comparison_arms(HEADS, 0.99, load_suite("CartPole"))}
CONFIG = RunConfig(
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

CUSTOM_HEAD = """
from affect import Head
import jax.numpy as jnp

class Dread(Head):
    sign = -1

    def __init__(self, spec, *, rngs):
        pass

    def __call__(self, state, batch):
        return -jnp.abs(batch.next_obs[..., 2]), state
"""


def without_key_check() -> Iterator[None]:
    """Disable the key-reuse check of JAX around a test.

    It reports a false reuse for a scan over keys split under `vmap`; without `vmap`, that is for
    one seed, every program passes it.
    """
    with jax.debug_key_reuse(False):
        yield


def without_key_check_in_threads() -> Iterator[None]:
    """Disable the key-reuse check in all threads, for commands that start their own."""
    jax.config.update("jax_debug_key_reuse", False)
    yield
    jax.config.update("jax_debug_key_reuse", True)


class Killed(BaseException):
    """Simulates kill -9: no handler of the code under test catches it."""


def suite() -> Suite:
    """CartPole of 20 steps with one physics shift and one actuator shift."""
    full = load_suite("CartPole")
    shifts = tuple(shift for shift in full.shifts if shift.name in ("force", "flip"))
    return replace(full, env=CartPole(horizon=20), shifts=shifts, severities=(0.5, 1.0))


class Watch:
    """Records the progress of a study; stops or kills it at a number of chunks and points done."""

    def __init__(self, stop_at=None, kill_at=None):
        self.stop_at, self.kill_at = stop_at, kill_at
        self.done, self.fresh, self.messages = 0, 0, []

    def advance(self, arm: str, done: int, fresh: bool) -> None:
        self.done, self.fresh = done, self.fresh + fresh
        if done == self.kill_at:
            raise Killed

    def stopped(self) -> bool:
        return self.done == self.stop_at


class Study(NamedTuple):
    """An arm that is trained in the world of a suite and scored at its points."""

    suite: Suite
    arm: Arm
    backend: Backend
    phase: Phase
    points: EvalPoints

    def runner(self, out: Path, watch: Watch) -> ArmRunner:
        reporter = Reporter(watch.messages.append, watch.advance, watch.stopped)
        return ArmRunner(out, self.suite, self.backend, reporter)


def make_study(
    arm: Arm = ARMS["fear"], run_config: RunConfig = CONFIG, in_suite: Suite | None = None
) -> Study:
    """The study of an arm, by default in the small suite."""
    in_suite = in_suite or suite()
    sizes = run_config.chunks, run_config.updates, run_config.agent
    phase = Phase(one_world(in_suite.world), *sizes, arm.blend)
    backend = make_backend(in_suite.env, run_config)
    points = draw_points(in_suite, backend.draws, run_config.base)
    return Study(in_suite, arm, backend, phase, points)


def run(study: Study, out: Path, **limits) -> tuple[list[dict], Watch]:
    """Train and score the arm, to its end or to `limits` -> (score rows, recorded progress)."""
    watch = Watch(**limits)
    out.mkdir(parents=True, exist_ok=True)
    runner, (_, arm, _, phase, points) = study.runner(out, watch), study
    trained = runner.train(arm, phase)
    return runner.score(arm, phase, trained, points, "scores.csv", phase.chunks), watch


def final(study: Study, out: Path) -> tuple:
    """Load the newest checkpoint of an arm -> (chunks done, (state, alive))."""
    like = study.backend.init(study.phase), np.ones(study.backend.run_config.rows, bool)
    return Checkpoints(out / "checkpoints" / study.arm.name).restore(like)


def metrics(out: Path) -> list[dict]:
    """Lines of `metrics.jsonl` with the measured seconds set to None."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line | {"seconds": None} for line in lines]


def leaf_checksums(out: Path) -> dict[str, dict]:
    """Shape, dtype and checksum of every leaf of each arm's newest checkpoint."""
    newest = [max(arm.glob("*-step-*")) for arm in (out / "checkpoints").iterdir()]
    return {
        path.parent.name: json.loads((path / "manifest.json").read_text())["leaves"]
        for path in newest
    }


def bits(tree) -> dict[str, bytes]:
    """Bytes of every leaf of a tree, by path."""

    def raw(leaf):
        is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        )
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): raw(leaf) for path, leaf in leaves}


def assert_same_files(first: Path, second: Path) -> None:
    """Assert that two folders hold the same final states, curves and scores of all arms."""
    assert leaf_checksums(first) == leaf_checksums(second)
    assert metrics(first) == metrics(second)
    assert (first / "scores.csv").read_bytes() == (second / "scores.csv").read_bytes()
