"""Signals as reward in jitted loops: a pure state, vmap over environments and seeds, scan."""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Homeostasis, Innate, Potential, Spec
from affect.bridges.functional import AffectEnv, AffectState
from tests.affect.bridges.loop_envs import (
    GAMMA,
    LEARNING,
    TINY,
    Slope,
    position,
    same,
    transition,
    updates,
)
from tests.affect.bridges.stub_gymnax import (
    ContinuousWalk,
    FlattenObservationWrapper,
    LogWrapper,
    NewWalk,
    Params,
    Walk,
    rollout,
)
from tests.refusal import refused

B, STEPS = 3, 10
PARAMS = Params()
PHI = Blend(phi=(1.0, Potential(Innate(position))))
SPEC = Spec(2, 2, discount=GAMMA)


def run(env, num_envs=B, steps=STEPS, seed=0):
    """Last state and results of a rollout, compiled."""
    play = jax.jit(partial(rollout, env, PARAMS, num_envs=num_envs, steps=steps))
    return play(jax.random.PRNGKey(seed))


@pytest.fixture(scope="module")
def transitions():
    """Transitions [B] of the rollout without signals, from gymnax 1's results."""
    _, (obs, action, after, reward, (terminated, truncated), info) = run(NewWalk())
    ended = terminated | truncated
    successor = jnp.where(ended[..., None], info["final_observation"], after)
    first = jnp.concatenate([jnp.ones((1, B), bool), ended[:-1]])
    assert terminated.any() and truncated.any()
    steps = zip(obs, action, successor, reward, terminated, truncated, first, strict=True)
    return [transition(*step) for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize("make", [Walk, NewWalk])
@pytest.mark.parametrize("heads", ["tiny", "real"])
def test_signals_are_those_of_update(heads, make, transitions):
    blend = Blend(**{"tiny": TINY, "real": LEARNING}[heads])
    env = AffectEnv(make(), blend, num_envs=B, learn_every=B, gamma=GAMMA)
    state, (*_, reward, flags, info) = run(env)
    head = env.head(state, blend.names[0])
    expected, after = updates(blend, SPEC, transitions, head_key())
    given = np.stack([info["affect"][name] for name in blend.names], -1)
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(reward, 1 + given.sum(-1), rtol=1e-5)
    assert (info["task_reward"] == 1).all() and len(flags) == 1 + (make is NewWalk)
    trained = after.heads[blend.names[0]].net
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), head, trained)


def head_key():
    """The key of the heads in `run`."""
    k_reset, _ = jax.random.split(jax.random.PRNGKey(0))
    first = jax.random.split(k_reset, B)[0]
    return jax.random.fold_in(jax.random.wrap_key_data(first), 0)


@pytest.mark.parametrize("make", [NewWalk, pytest.param(Walk, marks=pytest.mark.slow)])
def test_step_by_step_it_gives_the_bits_of_update(make):
    """And a potential is 0 beyond a terminal state, and kept at a time limit."""
    blend, final = Blend(**TINY), jax.jit(jax.vmap(NewWalk().step, in_axes=(0, 0, 0, None)))
    env = AffectEnv(make(), blend, num_envs=B, learn_every=B, gamma=GAMMA)
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))
    keys = jax.random.split(jax.random.PRNGKey(0), B)
    obs, state = reset(keys, PARAMS)
    key = jax.random.fold_in(jax.random.wrap_key_data(keys[0]), 0)
    first, steps, given = np.ones(B, bool), [], []
    for t in range(6):
        action = np.arange(B) % 2
        keys = jax.random.split(jax.random.PRNGKey(t + 1), B)
        *_, terminated, truncated, last = final(keys, state.env_state, action, PARAMS)
        successor, flags = last["final_observation"], (terminated, truncated)
        after, state, _, *_, info = step(keys, state, action, PARAMS)
        steps.append(transition(obs, action, successor, info["task_reward"], *flags, first))
        given.append(np.stack([info["affect"][name] for name in blend.names], -1))
        ahead = np.where(terminated, 0.0, GAMMA * successor[:, 0])
        np.testing.assert_allclose(given[-1][:, 1], ahead - obs[:, 0], atol=1e-5)
        obs, first = after, np.asarray(terminated | truncated)
    same(np.stack(given), updates(blend, SPEC, steps, key)[0])
    ends = np.array([(step.terminated.any(), step.truncated.any()) for step in steps])
    assert ends.any(0).all() and step._cache_size() == 1


@pytest.mark.slow
@pytest.mark.parametrize("make", [Walk, NewWalk])
def test_a_potential_is_0_beyond_a_terminal_state_and_kept_at_a_time_limit(make, transitions):
    """And with `paid="info"`, all else is as without the wrapper."""
    env = AffectEnv(make(), PHI, num_envs=B, learn=False, gamma=GAMMA, paid="info")
    _, wrapped = run(env)
    for t, step in enumerate(transitions):
        ahead = np.where(step.terminated, 0.0, GAMMA * step.next_obs[:, 0])
        phi = wrapped[-1]["affect"]["phi"][t]
        np.testing.assert_allclose(phi, ahead - step.obs[:, 0], atol=1e-5)
    jax.tree.map(same, run(make())[1][:5], wrapped[:5])


@pytest.mark.slow
@pytest.mark.parametrize("make", [Walk, NewWalk])
def test_with_weights_of_0_the_loop_is_as_without_the_wrapper(make):
    options = {"num_envs": B, "learn": False, "gamma": GAMMA, "weights": {"phi": 0.0}}
    jax.tree.map(same, run(make())[1][:5], run(AffectEnv(make(), PHI, **options))[1][:5])


@pytest.mark.slow
def test_a_script_of_purejaxrl_runs_unchanged():
    blend = Blend(**TINY)
    env = AffectEnv(Walk(), blend, PARAMS, num_envs=B, learn_every=2 * B, gamma=GAMMA)
    bare_state, (*_, reward, _, _) = run(env)
    env_outside = LogWrapper(FlattenObservationWrapper(copy.deepcopy(env)))
    state, (*_, logged, _, info) = run(env_outside)
    np.testing.assert_allclose(logged, reward, rtol=1e-5)
    assert np.isfinite(info["returned_episode_returns"]).all()
    head, bare = (env.head(s, "slope") for s in (state, bare_state))
    np.testing.assert_allclose(head.weight[...], bare.weight[...], rtol=1e-5)
    learned = [s.shared.blend_state.heads["slope"].steps for s in states_in(state)]
    assert learned[0].tolist() == [2 * (STEPS // 2)] * B  # two epochs each second step


def states_in(tree):
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, AffectState))
    return [leaf for leaf in leaves if isinstance(leaf, AffectState)]


@pytest.mark.slow
def test_seeds_side_by_side_have_heads_of_their_own():
    env = AffectEnv(Walk(), Blend(**LEARNING), num_envs=B, learn_every=2 * B, gamma=GAMMA)
    play = partial(rollout, env, PARAMS, num_envs=B, steps=STEPS)
    keys = jnp.stack([jax.random.PRNGKey(seed) for seed in range(2)])
    _, (*_, rewards, _, _) = jax.jit(jax.vmap(play))(keys)
    for seed in range(2):
        alone = run(env, seed=seed)[1][3]
        np.testing.assert_allclose(rewards[seed], alone, rtol=1e-4, atol=1e-5)
    assert not np.allclose(rewards[0], rewards[1])


@pytest.mark.slow
def test_without_a_number_each_environment_has_heads_of_its_own():
    env = AffectEnv(Walk(), Blend(slope=(1.0, Slope)), learn_every=2)
    state, _ = run(env, steps=4)
    weights = np.asarray(env.head(state, "slope").weight[...])
    assert weights.shape == (B,) and len(set(weights.tolist())) == B
    obs, alone = env.reset(jax.random.PRNGKey(0))
    assert obs.shape == (2,) and alone.shared.fresh.shape == (1,)


@pytest.mark.slow
def test_continuous_actions_lie_in_the_unit_box():
    def action_sum(batch):
        return batch.action.sum(-1)

    env = AffectEnv(ContinuousWalk(), Blend(it=(1.0, Innate(action_sum))), num_envs=B, learn=False)
    _, (_, action, _, _, _, info) = run(env, steps=3)
    np.testing.assert_allclose(info["affect"]["it"], action[..., 0] / 2, rtol=1e-5, atol=1e-6)


REFUSED = [
    (lambda: AffectEnv(object(), PHI, PARAMS, gamma=GAMMA), ["object has no reset"]),
    (lambda: AffectEnv(Walk(), PHI), ["needs the discount", "gamma=0.99"]),
    (lambda: AffectEnv(Walk(), PHI, gamma=GAMMA, num_envs=0), ["num_envs is a number"]),
    (lambda: AffectEnv(Walk(), PHI, gamma=GAMMA, paid="all"), ["paid is one of"]),
    (lambda: AffectEnv(Walk(), Blend(it=(1.0, Homeostasis(0.0)))), ['reads info["body"]']),
    (lambda: AffectEnv(Walk(), PHI, gamma=GAMMA, info=("body",)), ["give the shape of each key"]),
    (
        lambda: AffectEnv(Walk(), PHI, gamma=GAMMA, info={"body": (1,)}),
        ["no 'body', only discount"],
    ),
    (
        lambda: AffectEnv(
            Walk(), Blend(it=(1.0, Potential(Innate(position), gamma=0.7))), gamma=GAMMA
        ),
        ["it shapes with a discount of 0.7", "gamma=0.5"],
    ),
    (
        lambda: AffectEnv(FlattenObservationWrapper(Walk()), PHI, gamma=GAMMA),
        ["FlattenObservationWrapper hides the last observation", "this wrapper outside"],
    ),
    (
        lambda: run(AffectEnv(Walk(), PHI, gamma=GAMMA, num_envs=2)),
        ["a vmap over 3 environments", "num_envs=3", "env.task"],
    ),
    (
        lambda: AffectEnv(Walk(), PHI, gamma=GAMMA).head({}, "phi"),
        ["no head 'phi' in this state"],
    ),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words[0] for _, words in REFUSED])
def test_wrong_use_is_refused_in_one_line(call, words):
    with refused(ValueError, *words):
        call()
