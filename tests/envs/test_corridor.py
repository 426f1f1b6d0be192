"""Corridor: transitions, ends of episodes, and exact hitting probabilities."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World, reset_batch, rollout
from envs.worlds.theory.corridor import Corridor, Params, always_left_value, hitting_value


def step(env, cell, action, params=None, seed=0):
    params = Params() if params is None else params
    after = env.transition(jnp.int32(cell), jnp.int32(action), jax.random.key(seed), params)
    reward = env.reward(jnp.int32(cell), action, after, None, params)
    info = env.transition_info(jnp.int32(cell), action, after, params)
    return int(after), float(reward), bool(env.terminal(after, None, params)), float(info["harm"])


@pytest.mark.parametrize(
    ("ends", "cell", "action", "expected"),
    [
        ("both", 3, 0, (2, 0.0, False, 0.0)),
        ("both", 3, 1, (4, 0.0, False, 0.0)),
        ("both", 1, 0, (0, 0.0, True, 1.0)),
        ("both", 5, 1, (6, 2.5, True, 0.0)),
        ("left", 1, 0, (0, 0.0, True, 1.0)),
        ("left", 5, 1, (6, 0.0, False, 0.0)),
        ("left", 6, 1, (6, 0.0, False, 0.0)),
        ("left", 6, 0, (5, 0.0, False, 0.0)),
    ],
)
def test_a_step_gives_cell_reward_end_and_harm(ends, cell, action, expected):
    assert step(Corridor(7, ends), cell, action, Params(pay=2.5)) == expected


def test_a_slip_goes_left_or_right_with_equal_probability():
    keys = jax.random.split(jax.random.key(0), 4000)
    move = jax.vmap(partial(Corridor(7).transition, jnp.int32(3), jnp.int32(0)), (0, None))
    assert (move(keys, Params(slip=0.4)) == 4).mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("ends", "last"), [("both", 5), ("left", 6)])
def test_episodes_start_uniformly_in_the_cells_that_are_no_end(ends, last):
    keys = jax.random.split(jax.random.key(0), 3000)
    cells = np.asarray(jax.vmap(partial(Corridor(7, ends).initial, params=Params()))(keys))
    assert sorted(set(cells)) == list(range(1, last + 1))
    np.testing.assert_allclose(np.bincount(cells)[1:] / 3000, 1 / last, atol=0.03)


def test_always_left_value_solves_the_linear_system_of_going_left():
    expected = always_left_value(9, 0.8)
    np.testing.assert_allclose(hitting_value(9, 0.8, right=0.0, ends="left"), expected, rtol=1e-12)
    inner = hitting_value(9, 0.8, right=0.0)  # equal but for the right end, which is no harm
    np.testing.assert_allclose(inner[:-1], expected[:-1], rtol=1e-12)
    assert inner[-1] == 0


def test_hitting_value_of_a_random_walk_equals_gamblers_ruin():
    # gambler's ruin (Feller, 1968, XIV.4), and its generating function with a discount
    cells = np.arange(7)
    np.testing.assert_allclose(hitting_value(7, 1.0), 1 - cells / 6, atol=1e-12)
    gamma = 0.9
    root = (1 + np.sqrt(1 - gamma**2)) / gamma
    expected = (root ** (6 - cells) - root ** (cells - 6.0)) / (root**6 - root**-6.0)
    np.testing.assert_allclose(hitting_value(7, gamma), expected, rtol=1e-12)


@pytest.mark.parametrize("ends", ["both", "left"])
def test_hitting_value_equals_the_mean_discounted_harm_in_rollouts(ends):
    env, gamma, n = Corridor(6, ends), 0.9, 4000
    world = World(env.get_default_params(slip=1.0))
    sample_world = partial(lambda world, key: world, world)
    k_reset, k_rollout = jax.random.split(jax.random.key(0))
    env_states = reset_batch(k_reset, env, sample_world, n)
    act = partial(lambda key, obs: jnp.zeros(n, jnp.int32))
    _, batch = jax.jit(
        lambda key, env_states: rollout(key, env, sample_world, act, env_states, 100)
    )(k_rollout, env_states)
    ended = np.asarray(batch.terminated).argmax(0)  # the first end of each environment
    harmed = np.asarray(batch.info["harm"])[ended, np.arange(n)]
    start = np.asarray(batch.obs[0]).argmax(-1)
    discounted = harmed * gamma ** (ended + 1)
    for cell, expected in enumerate(hitting_value(6, gamma, ends=ends)):
        if (start == cell).any():
            assert discounted[start == cell].mean() == pytest.approx(expected, abs=0.05)


def test_success_is_the_right_end_or_survival():
    env = Corridor(5)
    assert env.success(jnp.array([0.0, 1.0]), jnp.array([4.0, 4.0])).tolist() == [False, True]
    env = Corridor(5, "left", horizon=9)
    assert env.success(jnp.zeros(2), jnp.array([8.0, 9.0])).tolist() == [False, True]


@pytest.mark.parametrize("ends", ["both", "left"])
def test_different_cells_give_different_pictures(ends):
    env = Corridor(8, ends)
    images = [env.render_image(jnp.int32(cell), None)[1] for cell in (0, 4)]
    assert images[0].shape == (160, 600, 3) and images[0].dtype == np.uint8
    assert (images[0] != images[1]).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 3 cells, not 2"):
        Corridor(2)
    with pytest.raises(ValueError, match="cannot end 'right'; it ends both or left"):
        Corridor(5, "right")
