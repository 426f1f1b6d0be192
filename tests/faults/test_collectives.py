"""No program in the loop of a training whose seeds are sharded makes devices wait for each other.

The one test that reads compiled text: on a CPU, whose virtual devices share threads, a collective
operation can wait for ever, and XLA then ends the process.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.channel import Channel
from envs.world import World
from runs.engine.host_backend import _side_by_side
from runs.engine.jax_backend import JaxBackend, _flat
from runs.engine.phases import Phase, one_world
from runs.engine.seeds import SEED_AXIS, take_seeds, vmap_seeds
from runs.engine.train import Learner
from tests.faults.bench import ROOT
from tests.runs.small_study import ARMS, CONFIG, suite, without_key_check

KINDS = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast"
COLLECTIVE = re.compile(rf"\b({KINDS})(-start)?\(")

no_key_check = pytest.fixture(autouse=True)(without_key_check)


def test_seeds_share_nothing_and_are_taken_on_the_host():
    program = vmap_seeds(lambda key: jax.lax.psum(jax.random.normal(key, (3,)), SEED_AXIS), 4)
    keys = jax.random.split(jax.random.key(0), 4)
    assert not COLLECTIVE.search(program.lower(keys).compile().as_text())
    tree = vmap_seeds(lambda key: {"x": jax.random.normal(key, (3,)), "key": key}, 4)(keys)
    assert len(tree["x"].sharding.device_set) == jax.device_count() == 2
    indexed = jax.jit(lambda x: x[0]).lower(tree["x"]).compile().as_text()
    assert COLLECTIVE.search(indexed)  # it is found where a program does what `take_seeds` avoids
    for index in (1, slice(1, 3), np.array([3, 0])):
        part = take_seeds(tree, index)
        assert len(part["x"].sharding.device_set) == 1
        for name in tree:
            np.testing.assert_array_equal(numbers(part[name]), numbers(tree[name])[index])


def test_agents_of_points_side_by_side_are_copied_on_the_host():
    def copied(x):
        return jnp.concatenate([x, x])

    keys = jax.random.split(jax.random.key(0), 4)
    agent = vmap_seeds(lambda key: jax.random.normal(key, (3,)), 4)(keys)
    assert COLLECTIVE.search(jax.jit(copied).lower(agent).compile().as_text())  # what is avoided
    learner, _ = _side_by_side(Learner(agent, ()), [World((), Channel())] * 2)
    assert len(learner.agent.sharding.device_set) == 1
    np.testing.assert_array_equal(learner.agent, copied(np.asarray(agent)))


@pytest.mark.slow
def test_no_training_program_of_sharded_seeds_has_a_collective():
    backend, world = JaxBackend(suite().env, CONFIG), one_world(suite().world)
    phase = Phase(world, CONFIG.chunks, CONFIG.updates, CONFIG.agent, ARMS["fear"].blend)
    texts = []

    def call(program, *args):
        texts.append(program.fn.lower(*args).compile().as_text())
        return program(*args)

    backend._update(_flat(backend.init(phase)), phase, phase.mixes(0)[0], call)
    assert len(texts) == 3 and not any(map(COLLECTIVE.search, texts))


def numbers(leaf: jax.Array) -> np.ndarray:
    """Numbers of an array, or of random keys."""
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def test_memory_that_runs_out_is_met_with_fewer_seeds_at_once(caplog):
    backend = JaxBackend(suite().env, replace(CONFIG, rows=8, seeds=8))
    left = [2]

    def run() -> str:
        if left[0]:
            left[0] -= 1
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
        return "result"

    assert backend._fitting(run) == "result"
    assert backend.most_at_once == 1
    assert "from here on 2 seeds at once" in caplog.text
    left[0] = 9
    with pytest.raises(Exception, match="memory runs out with one seed at once"):
        backend._fitting(run)


@pytest.mark.slow
def test_no_program_of_a_whole_study_has_a_collective(tmp_path):
    flags = f"--xla_dump_to={tmp_path / 'dump'} --xla_dump_hlo_as_text"
    argv = ["--smoke", "--env", "CartPole", "--shifts", "force", "--heads", "mood", "--out"]
    done = subprocess.run(
        [sys.executable, "-m", "runs.compare", *argv, str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    programs = list((tmp_path / "dump").glob("*after_optimizations.txt"))
    assert programs
    names = [path.name for path in programs if COLLECTIVE.search(path.read_text())]
    assert names == []
