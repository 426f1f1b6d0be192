"""Tabular Q-learning: updates by hand, ends, ties, convergence to dynamic programming."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec, Transition
from agents.qlearning import (
    QLearning,
    QState,
    epsilon_greedy,
    mixed_radix_row,
    one_hot_row,
    td_update,
)

SPEC = Spec(obs_dim=3, num_actions=2)
AGENT = QLearning(states=3, cell=one_hot_row, alpha=0.5, gamma=0.9)
KEY = jax.random.key(0)


def steps(*transitions, terminated=(), truncated=()) -> Transition:
    """Batch [T, 1] of (state, action, reward, next state), with the indices of steps that end."""
    state, action, reward, next_state = map(np.array, zip(*transitions, strict=True))
    obs, at = np.eye(3, dtype=np.float32), np.arange(len(transitions))
    ends = np.isin(at, terminated), np.isin(at, truncated)
    batch = obs[state], action, obs[next_state], reward.astype(np.float32), *ends, at == 0
    return Transition(*(jnp.asarray(leaf)[:, None] for leaf in batch))


def train(agent, batch, signals=None, table=None):
    state = agent.init(KEY, SPEC) if table is None else QState(jnp.array(table))
    signals = jnp.zeros((*batch.reward.shape, 0)) if signals is None else signals
    return jax.jit(agent.update)(state, KEY, batch, signals)


def test_one_update_by_hand():
    table = jnp.array([[1.0, 2.0], [3.0, 5.0], [0.0, 0.0]])
    after, error = td_update(table, 0, 1, 0.5, 1, 0.9, 0.5)
    assert error == pytest.approx(0.5 + 0.9 * 5.0 - 2.0)
    np.testing.assert_allclose(after, [[1.0, 3.5], [3.0, 5.0], [0.0, 0.0]])


def test_steps_are_used_in_order_of_time_and_then_of_environments():
    batch = steps((1, 0, 1.0, 2), (0, 1, 0.0, 1), (1, 0, 1.0, 2))
    side_by_side = jax.tree.map(lambda leaf: leaf.reshape(1, 3, *leaf.shape[2:]), batch)
    # .5; then .5 * .9 * .5; then .5 + .5 * .5
    for ordered in (batch, side_by_side):
        state, metrics = train(AGENT, ordered)
        np.testing.assert_allclose(state.table, [[0.0, 0.225], [0.75, 0.0], [0.0, 0.0]], atol=1e-6)
        assert metrics["error"] == pytest.approx((1 + 0.45 + 0.5) / 3)


@pytest.mark.parametrize(("end", "value"), [("terminated", 0.5), ("truncated", 0.5 + 0.45 * 4)])
def test_the_successor_has_a_value_at_truncation_and_none_at_termination(end, value):
    table = [[0.0, 0.0], [4.0, 1.0], [0.0, 0.0]]
    state, _ = train(AGENT, steps((0, 0, 1.0, 1), **{end: (0,)}), table=table)
    assert state.table[0, 0] == pytest.approx(value)


def test_signals_are_added_to_the_reward():
    batch = steps((0, 0, 1.0, 1), (1, 1, 0.0, 2))
    signals = jnp.array([[[0.25, -0.5]], [[2.0, 1.0]]])
    summed = batch._replace(reward=batch.reward + signals.sum(-1))
    assert (train(AGENT, batch, signals)[0].table == train(AGENT, summed)[0].table).all()
    assert (train(AGENT, batch, signals)[0].table != train(AGENT, batch)[0].table).any()


def test_actions_are_greedy_without_a_key_and_epsilon_greedy_with_one():
    state = QState(jnp.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
    obs = jnp.eye(3)[jnp.array([0, 1])]
    np.testing.assert_array_equal(AGENT.act(state, None, obs), [1, 0])
    for epsilon, share, seed in ((0.3, 0.85, 3), (0.0, 1.0, 4)):
        agent, many = replace(AGENT, epsilon=epsilon), jnp.tile(obs, (20_000, 1))
        actions = agent.act(state, jax.random.key(seed), many).reshape(-1, 2)
        np.testing.assert_allclose(actions.mean(0), [share, 1 - share], atol=0.01 * (epsilon > 0))


@pytest.mark.parametrize(
    ("values", "epsilon", "shares"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.1, (1 / 6,) * 6),
        ((1.0, 0.0, 1.0, 0.0, 0.0, 1.0), 0.0, (1 / 3, 0, 1 / 3, 0, 0, 1 / 3)),
        ((0.0, 0.0, 0.0, 2.0, 0.0, 0.0), 0.6, (0.1, 0.1, 0.1, 0.5, 0.1, 0.1)),
        ((0.0, -1.0, -2.0, -2.0, -9.0, -3.0), 1.0, (1 / 6,) * 6),
    ],
)
def test_ties_and_exploration_are_uniform(values, epsilon, shares):
    words = jax.random.bits(jax.random.key(1), (60_000,))
    tiled = jnp.broadcast_to(jnp.array(values), (words.size, 6))
    actions = np.asarray(jax.jit(epsilon_greedy)(tiled, words, epsilon))
    np.testing.assert_allclose(np.bincount(actions, minlength=6) / words.size, shares, atol=0.007)


def test_values_converge_to_dynamic_programming():
    """Action 0 moves on to an end with reward 1; action 1 stays with reward .05."""
    rng = np.random.default_rng(0)
    here, action = rng.integers(2, size=(2, 4000))
    reward = np.where(action, 0.05, here)
    batch = zip(here, action, reward, np.where(action, here, here + 1), strict=True)
    ends = np.flatnonzero((here == 1) & (action == 0))
    state, _ = train(replace(AGENT, alpha=0.1), steps(*batch, terminated=ends))
    best = np.zeros((3, 2))
    for _ in range(200):
        value = best.max(1)
        best[:2] = [[0.9 * value[1], 0.05 + 0.9 * value[0]], [1.0, 0.05 + 0.9 * value[1]]]
    np.testing.assert_allclose(state.table, best, atol=1e-4)


def test_agents_of_different_settings_can_be_vmapped():
    batch, alphas = steps((1, 0, 1.0, 2), (0, 1, 0.0, 1)), jnp.array([0.1, 0.5, 1.0])
    agents = replace(AGENT, alpha=alphas, gamma=jnp.array([0.5, 0.9, 1.0]))
    axes = replace(AGENT, alpha=0, gamma=0, epsilon=None, initial=None)

    def train_one(agent):
        return agent.update(agent.init(KEY, SPEC), KEY, batch, jnp.zeros((2, 1, 0)))[0].table

    tables = jax.vmap(train_one, (axes,))(agents)
    for k, (alpha, gamma) in enumerate(((0.1, 0.5), (0.5, 0.9), (1.0, 1.0))):
        expected = train_one(replace(AGENT, alpha=alpha, gamma=gamma))
        np.testing.assert_allclose(tables[k], expected, rtol=1e-6)


def test_rows_of_integer_observations():
    cell = mixed_radix_row(6, 6, 2, 2)
    grid = np.stack(np.meshgrid(*map(np.arange, (6, 6, 2, 2)), indexing="ij"), -1).reshape(-1, 4)
    np.testing.assert_array_equal(cell(jnp.asarray(grid, jnp.float32)), np.arange(144))
    np.testing.assert_array_equal(one_hot_row(jnp.eye(5)[None]), np.arange(5)[None])


def test_the_table_starts_at_initial_and_needs_discrete_actions():
    agent = replace(AGENT, initial=2.0)
    np.testing.assert_array_equal(agent.init(KEY, SPEC, num_signals=3).table, np.full((3, 2), 2.0))
    with pytest.raises(ValueError, match="give it a world of discrete actions"):
        agent.init(KEY, Spec(obs_dim=3, action_dim=1))
