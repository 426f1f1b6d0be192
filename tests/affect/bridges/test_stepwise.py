"""A blend stepped one step at a time: signals of `Blend.update`, training by data seen."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import GRM, Blend, Curiosity, Fear, Mood, Potential, Sham, Spec
from affect.bridges.stepwise import StepwiseBlend, env_axes
from affect.bridges.vmap_cond import cond_if_any
from affect.head import build
from tests.affect.bridges.loop_envs import (
    GAMMA,
    LEARNING,
    TINY,
    Slope,
    same,
    updates,
)
from tests.affect.cases import experience, same_bits
from tests.refusal import refused

SPEC = Spec(3, 2, discount=GAMMA)
REAL = LEARNING | {"late": (1.0, GRM(Mood, delay=2))}
CORES = {
    "tiny": StepwiseBlend(Blend(**TINY), SPEC, 4, learn_every=16),
    "real": StepwiseBlend(Blend(**REAL), SPEC, 4, learn_every=16),
}
BOTH = ["tiny", pytest.param("real", marks=pytest.mark.slow)]
compiled = functools.cache(lambda name: jax.jit(CORES[name].step))


def steps_of(batch):
    """Transitions [B, ...] of a batch, without info."""
    batch = batch._replace(info={})
    return [jax.tree.map(lambda leaf, t=t: leaf[t], batch) for t in range(len(batch.reward))]


def run(core, steps, valid=None, step=None):
    """Signals [T, B, K] of steps, and the states before them and after each."""
    states, step, signals = [core.init(jax.random.key(0))], step or jax.jit(core.step), []
    for t, transition in enumerate(steps):
        mask = None if valid is None or valid[t].all() else valid[t]
        signal, state = step(states[-1], transition, mask)
        signals.append(np.asarray(signal))
        states.append(state)
    return np.stack(signals), states


@pytest.fixture(scope="module")
def steps():
    return steps_of(experience(steps=8))


@pytest.mark.slow
@pytest.mark.parametrize("heads", CORES)
def test_trained_at_every_step_it_is_update(heads, steps):
    blend = CORES[heads].blend
    core = StepwiseBlend(blend, SPEC, 4, learn_every=4)
    signals, states = run(core, steps)
    expected, after = updates(blend, SPEC, steps)
    same(signals, expected)
    assert same_bits(states[-1].blend_state, after)


@pytest.mark.slow
@pytest.mark.parametrize("heads", CORES)
def test_a_window_is_learned_from_as_update_learns_from_a_chunk(heads, steps):
    core, close = CORES[heads], partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    signals, states = run(core, steps, step=compiled(heads))
    for start in (0, 4):
        chunk = jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps[start : start + 4])
        in_one, after, metrics = jax.jit(core.blend.update)(states[start].blend_state, chunk)
        close(signals[start : start + 4], in_one)
        state = states[start + 4]
        jax.tree.map(close, state.blend_state, after)
        close(*(metric[f"{core.blend.names[0]}/error"] for metric in (state.metrics, metrics)))
    feel = jax.jit(core.blend.feel)
    for t in range(8):
        exact, _ = feel(states[t].blend_state, jax.tree.map(lambda leaf: leaf[None], steps[t]))
        same(signals[t], exact[0])
    assert compiled(heads)._cache_size() == 1


def test_training_goes_by_transitions_not_by_environments():
    for num_envs in (2, 8):
        core = StepwiseBlend(Blend(it=(1.0, Curiosity)), SPEC, num_envs, learn_every=16)
        assert core.steps * num_envs == 16 and core.used == core.steps
        assert StepwiseBlend(core.blend, SPEC, num_envs, 16, share=0.5).used * 2 == core.steps
    assert StepwiseBlend(Blend(it=(1.0, Curiosity)), SPEC, 64, learn_every=16).steps == 1


@pytest.mark.slow
def test_curiosity_decays_alike_with_few_and_many_environments():
    many = experience(steps=2048, envs=1)
    left = {}
    for num_envs in (4, 16):
        core = StepwiseBlend(Blend(it=(1.0, Curiosity)), SPEC, num_envs, learn_every=64)
        batch = jax.tree.map(lambda x, n=num_envs: x.reshape(-1, n, *x.shape[2:]), many)
        signals = run(core, steps_of(batch))[0].reshape(-1)
        left[num_envs] = signals[-256:].mean() / signals[:256].mean()
    assert left[4] < 0.7
    assert left[16] == pytest.approx(left[4], rel=0.15)


@pytest.mark.slow
def test_a_share_of_a_window_is_learned_from(steps):
    blend = Blend(it=(1.0, Slope))
    core = StepwiseBlend(blend, SPEC, 4, learn_every=16, share=0.25)
    state = run(core, steps[:4])[1][-1]
    learn, before = jax.jit(blend.learn), blend.init(jax.random.key(0), SPEC, 4)
    errors = [
        float(learn(before, jax.tree.map(lambda leaf: leaf[None], step))[1]["it/error"])
        for step in steps[:4]
    ]
    equal = [error == pytest.approx(float(state.metrics["it/error"])) for error in errors]
    assert sum(equal) == 1  # one step of the four, drawn at random


@pytest.mark.parametrize("heads", BOTH)
def test_steps_that_were_not_made_leave_no_trace(heads, steps):
    valid = np.ones((8, 4), bool)
    valid[[2, 5], [1, 3]] = False

    def spoilt(step, made):
        """The step with ones where it was not made."""
        return jax.tree.map(
            lambda x: np.where(made.reshape(4, *(1,) * (x.ndim - 1)), x, True), step
        )

    junk = [
        jax.tree.map(lambda new, old: new.astype(old.dtype), spoilt(step, made), step)
        for step, made in zip(steps, valid, strict=True)
    ]
    core, step = CORES[heads], compiled(heads)
    signals, states = run(core, steps, valid, step)
    others, other_states = run(core, junk, valid, step)
    same(signals, others)
    assert same_bits(states[-1], other_states[-1])
    assert (signals[~valid] == 0).all() and (signals[valid][:, 0] != 0).all()
    carry = states[-1].blend_state.carry
    number = carry["slope"][1] if heads == "tiny" else carry["novelty"].number
    assert float(number) == valid.sum()


def test_windows_hold_the_steps_that_were_made(steps):
    valid = np.ones((5, 4), bool)
    valid[1, 2] = False
    states = run(CORES["tiny"], steps[:5], valid, compiled("tiny"))[1]
    assert states[4].fresh.tolist() == [4, 4, 3, 4] and np.isnan(states[4].metrics["slope/error"])
    assert states[5].fresh.tolist() == [0] * 4 and np.isfinite(states[5].metrics["slope/error"])
    window = np.asarray(states[5].window.obs[..., 0])
    for b in range(4):
        made = [float(steps[t].obs[b, 0]) for t in range(5) if valid[t, b]][-4:]
        assert sorted(window[:, b].tolist()) == sorted(made)


def test_an_interrupted_episode_is_cut(steps):
    core, false = CORES["tiny"], jnp.zeros(4, bool)
    quiet = [step._replace(terminated=false, truncated=false) for step in steps[:2]]
    states = run(core, quiet, step=compiled("tiny"))[1]
    cut = core.cut(states[2], jnp.array([True, False, False, True]))
    assert cut.window.truncated[:2].tolist() == [[False] * 4, [True, False, False, True]]
    assert not core.cut(states[0], jnp.ones(4, bool)).window.truncated.any()


@pytest.mark.slow
def test_seeds_side_by_side_equal_seeds_one_by_one(steps):
    core, batch = CORES["real"], jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)

    @jax.jit
    def train(key):
        def step(state, transition):
            signals, state = core.step(state, transition)
            return state, signals

        state, signals = jax.lax.scan(step, core.init(key), batch)
        return signals, state.blend_state.heads["fear"].steps

    keys = jax.random.split(jax.random.key(0), 2)
    signals, learned = jax.vmap(train)(keys)
    assert learned.tolist() == [4, 4]
    np.testing.assert_allclose(signals[1], train(keys[1])[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_guarded_change_is_computed_only_if_some_copy_needs_it():
    def change(state):
        return jax.tree.map(lambda leaf: leaf / 0 * 0, state)  # would make everything NaN

    state = {"a": jnp.ones((3, 2)), "b": jnp.ones(3)}
    for conditions, expected in (([0, 0, 0], [1, 1, 1]), ([0, 1, 0], [1, np.nan, 1])):
        changed = jax.jit(jax.vmap(lambda c, s: cond_if_any(c, change, s)))(
            jnp.array(conditions, bool), state
        )
        np.testing.assert_array_equal(changed["b"], expected)
        twice = jax.vmap(jax.vmap(lambda c, s: cond_if_any(c, change, s)))(
            jnp.array([conditions, [0, 0, 0]], bool),
            jax.tree.map(lambda x: jnp.stack([x, x]), state),
        )
        np.testing.assert_array_equal(twice["b"], [expected, [1, 1, 1]])
    jaxpr = str(
        jax.make_jaxpr(jax.vmap(lambda c, s: cond_if_any(c, change, s)))(jnp.zeros(3, bool), state)
    )
    assert "cond" in jaxpr


@pytest.mark.slow
def test_axes_of_environments():
    cases = [(Mood, [0, 0]), (GRM(Mood, delay=2), [1, 0, 0]), (Curiosity, [-1] * 3)]
    cases.append((Sham(Mood), [-1, -1, -1, 0, 0]))
    for factory, axes in cases:
        head = build(factory, SPEC, jax.random.key(0))
        assert jax.tree.leaves(env_axes(head.initial_state)) == axes


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"learn_every": -1}, "learn_every"),
        ({"learn_every": 1.5}, "learn_every"),
        ({"share": 0}, "share"),
        ({"share": True}, "share"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings, word):
    with refused(ValueError, word):
        StepwiseBlend(Blend(it=(1.0, Potential(Fear))), SPEC, 4, **settings)
