"""Programs of training: few for all arms of a comparison, each compiled once, same bits as one."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.engine.backend import make_backend
from runs.engine.jax_backend import JaxBackend, _flat, train_config
from runs.engine.program import Program
from runs.engine.seeds import vmap_seeds
from runs.engine.train import RunnerState, init_runner, train
from runs.experiment import Experiment
from tests.runs import small_study
from tests.runs.small_study import ARMS, CONFIG, bits, make_study

unchecked = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
POTENTIALS = {name: arm for name, arm in ARMS.items() if name.startswith("potential")}
OTHERS = {name: arm for name, arm in ARMS.items() if name not in POTENTIALS}


def programs(arms: dict) -> Counter:
    """Number of programs that training the arms compiles, by the function that is compiled."""
    suite = small_study.suite()
    sizes = {"num_envs": 2, "num_steps": 8, "episodes": 2, "agent": CONFIG.agent}
    experiment = Experiment(suite, tuple(arms.values()), seeds=3, steps=64, **sizes)
    backend, shapes = JaxBackend(suite.env, experiment.run_config), {}

    def call(program: Program, *args):
        key = (
            program,
            jax.tree.structure(args),
            tuple(map(str, map(jnp.shape, jax.tree.leaves(args)))),
        )
        if key not in shapes:
            shapes[key] = jax.eval_shape(program.fn, *args)
        return shapes[key]

    for phase in experiment.phases.values():
        backend._update(untrained(backend, phase), phase, phase.mixes(0)[0], call)
    names = {program: key[0].__name__ for key, program in backend._programs.items()}
    return Counter(names[program] for program, *_ in shapes)


def untrained(backend: JaxBackend, phase) -> RunnerState:
    """Shapes of the flat state of untrained learners [S]."""
    config, worlds = train_config(phase, backend.run_config), phase.worlds
    init = partial(init_runner, config=config, env=backend.env, worlds=worlds)
    keys = jax.random.split(jax.random.key(0), 4)
    return jax.eval_shape(lambda: _flat(jax.vmap(init)(keys)))


@pytest.mark.slow
def test_arms_of_a_comparison_share_the_programs_of_rollout_and_agent():
    shared = {"_collect": 2, "_update_agent": 1}  # two worlds: home, and randomised ones
    assert len(OTHERS) == 17 and programs(OTHERS) == shared | {"_update_heads": 15}
    assert len(ARMS) == 25 and programs(ARMS) == shared | {"_update_heads": 17}


def test_arms_that_differ_in_numbers_share_all_programs():
    constants = {name: OTHERS[name] for name in ("constant_plus", "constant_minus")}
    levels = {name: arm for name, arm in POTENTIALS.items() if not name.endswith("_constant")}
    for arms in (constants, levels):
        assert set(programs(arms).values()) == {1} and len(arms) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "fear_constant"])
def test_three_programs_train_as_one_does(name):
    study = make_study(ARMS[name])
    backend, phase = study.backend, study.phase
    state = backend.init(phase)
    config = train_config(phase, CONFIG)
    whole = partial(
        train, config=config, env=backend.env, worlds=phase.worlds, num_updates=phase.updates
    )
    expected = vmap_seeds(whole, CONFIG.rows, optimise=False)(state)
    trained, metrics, finite = backend.train(state, phase, 0, lambda: False)
    assert bits(trained) == bits(expected[0]) != bits(state)
    assert finite.shape == (2, phase.updates, 3) and finite.all()
    assert metrics.keys() == expected[1].keys()
    for key, value in metrics.items():  # means of a chunk may be summed in another order
        np.testing.assert_allclose(value, expected[1][key], rtol=1e-5, err_msg=key)


def test_a_program_is_compiled_once_by_threads_that_need_it_at_once():
    traced = []

    def double(x):
        traced.append(threading.get_ident())
        time.sleep(0.1)
        return 2 * x

    program = Program(vmap_seeds(double, 2, optimise=False))
    x = vmap_seeds(lambda x: x, 2, optimise=False)(jnp.arange(2.0))
    with ThreadPoolExecutor(3) as pool:
        compiled = [pool.submit(program.compile, x) for _ in range(2)]
        result = pool.submit(program, x)
    assert len(traced) == 1 and result.result().tolist() == [0, 2]
    shape = compiled[0].result()
    assert (shape.shape, shape.dtype, shape.sharding) == (x.shape, x.dtype, x.sharding)


@pytest.mark.slow
def test_a_prepared_phase_is_trained_without_compiling(caplog):
    study = make_study(ARMS["constant_plus"])
    study.backend.prepare(study.phase)
    state = study.backend.init(study.phase)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        study.backend.train(state, study.phase, 0, lambda: False)
    assert not [line for line in caplog.messages if "Compiling jit(mapped)" in line]
    other = make_backend(study.suite.env, CONFIG)  # control: one that was not prepared
    with jax.log_compiles(), caplog.at_level("WARNING"):
        other.train(state, study.phase, 0, lambda: False)
    assert len([line for line in caplog.messages if "Compiling jit(mapped)" in line]) == 3
