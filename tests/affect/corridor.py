"""A corridor with two terminal states, one-hot observations and values by linear algebra."""

import jax.numpy as jnp
import numpy as np

from affect import Spec, Transition

STATES = 7  # 0 is the end on the left, 6 the end on the right
SPEC = Spec(obs_dim=STATES, num_actions=2)
EYE = np.eye(STATES, dtype=np.float32)


def walk(start: np.ndarray, right: np.ndarray, reward: dict[int, float]) -> Transition:
    """Batch of walks in B corridors for T steps, restarted in the middle after either end.

    Args:
        start: [B] first states.
        right: [T, B] bool, whether a step goes right.
        reward: state -> reward for arriving there; 0 for all others.
    """
    state, states, successors = start, [], []
    for step in right:
        states.append(state)
        successors.append(state + np.where(step, 1, -1))
        ended = np.isin(successors[-1], (0, STATES - 1))
        state = np.where(ended, STATES // 2, successors[-1])
    return transitions(np.stack(states), np.stack(successors), reward)


def transitions(state: np.ndarray, successor: np.ndarray, reward: dict[int, float]) -> Transition:
    """Batch [T, B] of steps from states to successors."""
    rewards = np.zeros(STATES, np.float32)
    rewards[list(reward)] = list(reward.values())
    ended = np.isin(successor, (0, STATES - 1))
    first = np.concatenate([np.ones_like(ended[:1]), ended[:-1]])
    fields = EYE[state], state * 0, EYE[successor], rewards[successor], ended, ended & False, first
    return Transition(*map(jnp.asarray, fields))


def every_step_once(reward: dict[int, float]) -> Transition:
    """Batch [1, B] with a step left and right from each inner state, an exact random walk."""
    inner = np.arange(1, STATES - 1)
    state = np.concatenate([inner, inner])[None]
    successor = np.concatenate([inner - 1, inner + 1])[None]
    return transitions(state, successor, reward)


def solve(gamma: float, cumulant: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Values [STATES] of a random walk: v = E[cumulant(successor) + gamma v(successor)].

    Args:
        gamma: discount.
        cumulant: [STATES] received on arrival.
        ends: values of the left and the right end.
    """
    step = np.zeros((STATES, STATES))
    for state in range(1, STATES - 1):
        step[state, [state - 1, state + 1]] = 0.5
    fixed = np.zeros(STATES)
    fixed[[0, -1]] = ends
    return np.linalg.solve(np.eye(STATES) - gamma * step, step @ cumulant + fixed)
