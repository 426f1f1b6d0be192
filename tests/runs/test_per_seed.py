"""Seeds with worlds, rewards, teachers, settings and bodies of their own, in one program."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Constant
from agents import A2C, Body
from agents.wrapper import with_settings
from runs.engine.backend import make_backend
from runs.engine.config import RunConfig
from runs.engine.evaluate import draw_points
from runs.engine.jax_backend import JaxBackend
from runs.engine.phases import Phase, RewardMix, Teacher, flat_worlds, one_world, world_pool
from runs.engine.seeds import seed_keys
from runs.errors import UserError
from tests.runs import small_study
from tests.runs.small_study import bits

unchecked = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
SEEDS, HALF = 8, 4  # an even number on each of two devices, also in halves
FIRST, SECOND = slice(0, HALF), slice(HALF, SEEDS)
AGENT, BODY = A2C(width=8), Body(A2C(width=8), actions=(0, 1))
BLEND = Blend(epochs=1, constant=(1.0, partial(Constant, value=1.0)))
SUITE = small_study.suite()
KEYS = seed_keys(jax.random.key(0), range(SEEDS))
SWAPPED = {"actions": np.repeat([[0, 1], [1, 0]], HALF, 0)}  # of each seed
NUMBERS = {"lr": (7e-4, 0.02), "gamma": (0.99, 0.5), "entropy": (0.01, 0.5), "max_norm": (0.5, 0.1)}


def backend_of(rows: int) -> JaxBackend:
    sizes = {"num_envs": 2, "num_steps": 8, "episodes": 2, "optimise": False}
    return make_backend(SUITE.env, RunConfig(AGENT, rows, rows, 2, 2, **sizes))


@pytest.fixture(scope="module")
def together():
    return backend_of(SEEDS)


@pytest.fixture(scope="module")
def alone():
    return backend_of(HALF)


@pytest.fixture(scope="module")
def pools():
    """Two worlds at home, and two of a shift."""
    worlds = SUITE.worlds(jax.random.key(1), 2)
    return [flat_worlds(worlds, [point]) for point in (0, 2)]


def never() -> bool:
    return False


def train(backend: JaxBackend, phase: Phase, keys: jax.Array) -> Any:
    """States of seeds after both chunks of a phase."""
    state = backend.init(phase, keys)
    for chunk in range(phase.chunks):
        state, *_ = backend.train(state, phase, chunk * phase.updates, never)
    return state


def of_rows(tree: Any, rows: slice) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def halves(first: Any, second: Any) -> Any:
    """Data of each seed, leaves [S, ...]: those of one half, then those of the other."""

    def stack(*leaves):
        return jnp.repeat(jnp.stack([jnp.asarray(leaf) for leaf in leaves]), HALF, 0)

    return jax.tree.map(stack, first, second)


# --- worlds, rewards, teachers ----------------------------------------------------------------


@pytest.fixture(scope="module")
def phases(pools):
    """A phase of all seeds, which differ in worlds, rewards, teachers and bodies; one of a half."""
    mixes = [
        RewardMix(1.0, jnp.ones(1), 0.0, 0.9, lambda i: 0.5**i),
        RewardMix(0.5, jnp.zeros(1), 1.0, 0.8, lambda i: 0.1 * i),
    ]
    mix = RewardMix(*halves(mixes[0][:4], mixes[1][:4]))
    mix = mix._replace(teacher=lambda i: halves(*(mix.teacher(i) for mix in mixes)))
    teacher = Teacher(AGENT, jax.vmap(partial(AGENT.init, spec=SUITE.env.spec))(KEYS))
    worlds, data = world_pool(halves(*pools)), {"per_seed": True, "numbers": SWAPPED}
    of_all = Phase(worlds, 2, 2, BODY, BLEND, mix, teacher=teacher, **data)
    own = Teacher(AGENT, of_rows(teacher.state, SECOND))
    body, worlds = with_settings(BODY, actions=(1, 0)), world_pool(pools[1])
    return of_all, Phase(worlds, 2, 2, body, BLEND, mixes[1], teacher=own)


@pytest.mark.slow
def test_data_are_those_of_each_seed(together, phases):
    of_all, _ = phases
    mix = of_all.mix._replace(teacher=of_all.mix.teacher(1))
    turned = replace(of_all, mix=mix, numbers=flipped(of_all.numbers))
    turned = replace(turned, worlds=flipped(of_all.worlds), mix=flipped(mix))
    turned = replace(turned, teacher=Teacher(AGENT, flipped(of_all.teacher.state)))
    states = [
        train(together, phase, keys)
        for phase, keys in ((replace(of_all, mix=mix), KEYS), (turned, KEYS[::-1]))
    ]
    assert bits(states[0]) == bits(flipped(states[1]))
    assert bits(states[0]) != bits(train(together, turned, KEYS))


def flipped(tree: Any) -> Any:
    """Leaves [S, ...] with the order of seeds turned around."""
    return jax.tree.map(lambda leaf: leaf[::-1], tree)


@pytest.mark.slow
def test_data_of_each_seed_give_the_bits_of_its_own_program(together, alone, pools, phases):
    of_all, own = phases
    state = of_rows(train(together, of_all, KEYS), SECOND)
    assert bits(train(alone, own, KEYS[SECOND])) == bits(state)
    teacher = Teacher(AGENT, of_rows(of_all.teacher.state, FIRST))
    mixes = {name: own.mix._replace(**{name: 0.7}) for name in ("task", "discount", "teacher")}
    controls = [{"worlds": world_pool(pools[0])}, {"teacher": teacher}]
    for changes in controls + [{"mix": mix} for mix in mixes.values()]:
        control = train(alone, replace(own, **changes), KEYS[SECOND])
        assert bits(control.learner.agent) != bits(state.learner.agent), changes


@pytest.mark.slow
def test_seeds_enter_worlds_of_their_own_and_are_scored_in_their_own_body(together, alone, phases):
    of_all, own = phases
    states = [train(together, of_all, KEYS), train(alone, own, KEYS[SECOND])]
    entered = [
        together.enter(states[0].learner, of_all, KEYS),
        alone.enter(states[1].learner, own, KEYS[SECOND]),
    ]
    assert bits(of_rows(entered[0], SECOND)) == bits(entered[1])
    points, learner = draw_points(SUITE, alone.draws, 0), states[1].learner
    scores = together.evaluate(states[0].learner, BODY, points, never, numbers=SWAPPED)
    scores = [bits(of_rows(score, SECOND)) for score in scores]
    own_scores, others = (
        list(map(bits, alone.evaluate(learner, body, points, never))) for body in (own.agent, BODY)
    )
    assert scores == own_scores != others


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": RewardMix(1.0)}, r"\['mix'\].task has the shape \(\): where each seed"),
        ({"mix": RewardMix(signals=jnp.ones(2))}, r"\['mix'\].signals has the shape \(2,\)"),
        ({"numbers": {"lr": np.ones(3)}}, r"\['numbers'\]\['lr'\] has .* that of the 4 seeds"),
        ({"worlds": 1}, r"\['worlds'\].* has the shape \(2,\)"),
    ],
)
def test_data_without_an_axis_of_seeds_are_refused(changes, message, alone, pools):
    changes = changes | ({"worlds": world_pool(pools[0])} if "worlds" in changes else {})
    phase = Phase(one_world(SUITE.world), 1, 1, AGENT, BLEND, per_seed=True)
    with pytest.raises(UserError, match=message):
        alone.init(replace(phase, **changes))


# --- settings of the agent --------------------------------------------------------------------


@pytest.mark.slow
def test_settings_of_each_seed_are_those_of_its_own_program_to_within_rounding(together, alone):
    numbers = {name: halves(*values) for name, values in NUMBERS.items()}
    phase = Phase(one_world(SUITE.world), 2, 2, AGENT, BLEND, numbers=numbers)
    nets = weights(train(together, phase, KEYS))
    settings = {name: values[1] for name, values in NUMBERS.items()}
    own = replace(phase, agent=with_settings(AGENT, **settings), numbers={})
    np.testing.assert_allclose(nets[SECOND], weights(train(alone, own, KEYS[SECOND])), atol=2e-5)
    for name, values in NUMBERS.items():  # control: each of them is used
        changed = replace(phase, numbers=numbers | {name: halves(*values[::-1])})
        others = weights(train(together, changed, KEYS))
        assert np.abs(others - nets)[SECOND].max() > 1e-3, name


def weights(state: Any) -> np.ndarray:
    """All weights of the networks of each seed, [S, weights]."""
    leaves = jax.tree.leaves(state.learner.agent.train_state.net)
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], 1)


@pytest.mark.parametrize("name", ["lrr", "width", "anneal", "value"])
def test_settings_that_cannot_be_data_are_refused(name):
    with pytest.raises(ValueError, match=f"numbers: {name} of Body is no float or tuple to repl"):
        Phase(one_world(None), 1, 1, BODY, BLEND, numbers={name: np.ones(2)})
