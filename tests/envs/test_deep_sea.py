"""DeepSea: cost of moves, treasure, slips, and success rate of a random walk."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World, reset_batch, rollout
from envs.worlds.theory.deep_sea import DeepSea


def dive(env, rights, **params):
    """Episode that goes right where `rights` is true -> (obs, rewards, states, ends)."""
    params, key = env.get_default_params(**params), jax.random.key(0)
    state, steps = env.initial(key, params), []
    for right in rights:
        right_action = params.right[state.row, state.column]
        action = right_action if right else 1 - right_action
        after = env.transition(state, action, jax.random.clone(key), params)
        reward = env.reward(state, action, after, None, params)
        obs = env.observation(after, None, params)
        steps.append((obs, float(reward), after, bool(env.terminal(after, None, params))))
        state = after
    return [list(column) for column in zip(*steps, strict=True)]


@pytest.mark.parametrize("size", [2, 7])
def test_only_all_steps_to_the_right_reach_the_treasure(size):
    env = DeepSea(size)
    _, rewards, states, ends = dive(env, [True] * size)
    assert sum(rewards) == pytest.approx(0.99)
    assert rewards[:-1] == pytest.approx([-0.01 / size] * (size - 1))
    assert ends == [False] * (size - 1) + [True]
    assert bool(states[-1].reached)
    for miss in range(size):
        _, rewards, states, _ = dive(env, [step != miss for step in range(size)])
        assert sum(rewards) == pytest.approx(-0.01 * (size - 1) / size)
        assert not bool(states[-1].reached)


def test_a_move_to_the_left_is_free_and_stops_at_the_wall():
    obs, rewards, states, _ = dive(DeepSea(4), [True, False, False, False])
    assert rewards == pytest.approx([-0.0025, 0, 0, 0])
    assert [int(state.column) for state in states] == [1, 0, 0, 0]
    cells = [np.flatnonzero(row).tolist() for row in obs]
    assert cells == [[5], [8], [12], []]  # zeros beyond the last row


def test_the_action_for_right_is_random_per_cell_and_fixed_by_the_seed():
    env = DeepSea(20)
    right = np.asarray(env.get_default_params().right)
    assert right.shape == (20, 20) and set(right.ravel()) == {0, 1}
    assert right.mean() == pytest.approx(0.5, abs=0.08)
    np.testing.assert_array_equal(right, env.get_default_params().right)
    assert (right != env.get_default_params(seed=1).right).any()


def test_a_slip_stays_in_its_column_and_costs_as_a_move():
    _, rewards, states, _ = dive(DeepSea(3), [True] * 3, slip=1.0)
    assert [int(state.column) for state in states] == [0, 0, 0]
    assert rewards == pytest.approx([-0.01 / 3] * 3)


def test_a_random_walk_reaches_the_treasure_with_probability_2_to_minus_n():
    env, envs, dives = DeepSea(5), 512, 20
    sample_world = partial(lambda world, key: world, World(env.get_default_params()))
    k_reset, k_rollout = jax.random.split(jax.random.key(0))

    def act(key, obs):
        return jax.random.randint(key, obs.shape[:1], 0, 2)

    env_states = reset_batch(k_reset, env, sample_world, envs)
    roll_out = jax.jit(
        lambda key, env_states: rollout(key, env, sample_world, act, env_states, 5 * dives)[1]
    )
    batch = roll_out(k_rollout, env_states)
    assert batch.terminated[4::5].all() and not batch.truncated.any()
    rate = float((batch.reward > 0.5).sum()) / (envs * dives)
    assert rate == pytest.approx(2**-5, abs=0.006)


def test_success_is_reaching_the_treasure():
    totals = jnp.array([-0.01, 0.0, 0.99])
    assert DeepSea().success(totals, jnp.full(3, 10.0)).tolist() == [False, False, True]


def test_different_states_give_different_pictures():
    env = DeepSea(6)
    _, _, states, _ = dive(env, [True] * 6)
    images = [env.render_image(state, None)[1] for state in (states[0], states[-1])]
    assert images[0].shape == (440, 400, 3) and (images[0] != images[1]).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 2 cells deep, not 1"):
        DeepSea(1)
