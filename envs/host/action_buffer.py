"""Buffer of the actions of the current episode of every environment of a pool."""

import numpy as np
from gymnasium import spaces

from envs.host.policy import executed

LONGEST = 100_000  # steps of an episode; no buffer is preallocated for so long a one
FEW = 1024  # steps of an episode for which a buffer is preallocated where there is no limit


def empty_buffer(num_envs: int, limit: int | None, space: spaces.Space) -> np.ndarray:
    """Zeros [B, L, ...] for actions of episodes of at most `limit` steps, None if unlimited."""
    capacity = limit if limit and limit < LONGEST else FEW
    return np.zeros((num_envs, capacity, *space.shape), space.dtype)


def with_room(buffer: np.ndarray, steps: int) -> np.ndarray:
    """The buffer, doubled until an episode of so many steps has room in it."""
    while steps > buffer.shape[1]:
        buffer = np.concatenate([buffer, np.zeros_like(buffer)], axis=1)
    return buffer


def write_actions(
    buffer: np.ndarray,
    actions: np.ndarray,
    length: np.ndarray,
    taken: np.ndarray,
    live: np.ndarray | None,
) -> None:
    """Writes the actions of a rollout that belong to the episodes current at its end.

    Args:
        buffer: [B, L, ...].
        actions: [T, B, ...] as chosen.
        length: [B] of these episodes.
        taken: [B] how many of their steps were of this rollout: its last ones, or with `live` its
            first ones.
        live: as in `envs.host.pool.HostPool.rollout`.
    """
    actions = executed(actions)
    for i, (end, count) in enumerate(zip(length.tolist(), taken.tolist(), strict=True)):
        first = len(actions) - count if live is None else 0
        buffer[i, end - count : end] = actions[first : first + count, i]
