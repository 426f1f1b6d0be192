"""Batch of EnvPool environments that are stepped together, each episode from a seed of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from envs.host.checks import Checked
from envs.host.envpool_env import EnvPoolEnv

MOST_AHEAD = 16  # episodes of each environment that one pool holds
CREATION = 0.05  # seconds that the creation of a pool may take; it holds fewer episodes otherwise
TRIAL = 4  # environments that are created to know how long that takes
SLOW = 2.0  # seconds to create one episode of every environment; then they are not stepped together


class Block(NamedTuple):
    """A pool that holds some episodes of each of b environments, in a row for each of them."""

    pool: Any
    ahead: int  # episodes of each
    used: list[int]  # [b] how many of them have begun


class EnvPoolBatch:
    """Environments of EnvPool (Weng et al. 2022) that are stepped together.

    A pool takes the seeds of its environments when it is made, and at an end restarts one from
    where its generator is. Here every episode has an environment of its own in a pool, made with
    its seed and never stepped beyond its end, so that no successor is lost and a seed and actions
    determine an episode. Further pools are made as these episodes are used up.

    Args:
        make: makes a pool, given `num_envs` and `seed`.
        count: b.
        to_actions: maps of actions [n, ...], in the order in which they are applied.
    """

    def __init__(self, make: Callable[..., Any], count: int, to_actions: Sequence[Callable]):
        self._make, self._count, self._to_actions = make, count, to_actions
        start = time.perf_counter()
        make(num_envs=TRIAL, seed=[0] * TRIAL).close()
        self.seconds = (time.perf_counter() - start) / TRIAL * count
        self.clear()

    def clear(self) -> None:
        """Ends all episodes."""
        self._blocks: list[Block] = []
        self._block_of: list[Block | None] = [None] * self._count
        self._slots = np.zeros(self._count, np.int32)

    def reset(self, indices: Sequence[int], seed_of: Callable[[int, int], int]) -> np.ndarray:
        """Starts the next episodes of some environments -> obs [n, D] float32.

        Args:
            indices: [n] of the environments.
            seed_of: (environment, episodes ahead of its current one) -> seed of that episode.
        """
        if not self._blocks or any(
            self._blocks[-1].used[i] == self._blocks[-1].ahead for i in indices
        ):
            self._add_block(indices, seed_of)
        block = self._blocks[-1]
        for i in indices:
            self._block_of[i], self._slots[i] = block, i * block.ahead + block.used[i]
            block.used[i] += 1
        self._blocks = [b for b in self._blocks if b is block or b in self._block_of]
        obs, _ = block.pool.reset(self._slots[indices])
        return _flat(obs)

    def step(self, indices: Sequence[int], actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Steps some environments with actions [n, ...] -> obs, reward, terminated, truncated."""
        for to_actions in self._to_actions:
            actions = to_actions(actions)
        if len(self._blocks) == 1:
            return _results(self._blocks[0].pool.step(actions, self._slots[indices]))
        parts, order = [], []
        for block in self._blocks:
            here = [k for k, i in enumerate(indices) if self._block_of[i] is block]
            if here:
                slots = self._slots[[indices[k] for k in here]]
                parts.append(_results(block.pool.step(actions[here], slots)))
                order += here
        back = np.argsort(order)
        return tuple(np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True))

    def _add_block(self, indices: Sequence[int], seed_of: Callable[[int, int], int]) -> None:
        """Makes a pool of the next episodes of all environments; those of `indices` begin now."""
        most = max(1, min(MOST_AHEAD, int(CREATION / self.seconds)))
        ahead = min(most, 2 * self._blocks[-1].ahead) if self._blocks else 1
        first = [0 if i in set(indices) else 1 for i in range(self._count)]
        seeds = [
            seed_of(i, begin + k) % 2**31 for i, begin in enumerate(first) for k in range(ahead)
        ]
        pool = self._make(num_envs=len(seeds), seed=seeds)
        self._blocks.append(Block(pool, ahead, [0] * self._count))


def envpool_batch(env: gymnasium.Env, count: int) -> EnvPoolBatch | None:
    """Batch of `count` environments like `env`, made by `envs.host.make.make_env`.

    None for all but those of EnvPool with one array as their observation, for those whose values
    are checked at every step, and where an episode takes long to create.
    """
    to_actions, layer = [], env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, wrappers.ClipAction | wrappers.RescaleAction):
            to_actions.append(layer.func)
        elif not isinstance(layer, Checked | wrappers.TransformObservation):
            return None
        if getattr(layer, "checks_values", False):
            return None
        layer = layer.env
    if not (isinstance(layer, EnvPoolEnv) and isinstance(layer.observation_space, spaces.Box)):
        return None
    batch = EnvPoolBatch(layer.make_pool, count, to_actions)
    return batch if batch.seconds < SLOW else None


def _results(results: tuple) -> tuple[np.ndarray, ...]:
    """Observations [n, D] float32, rewards, terminated and truncated [n] of a step of a pool."""
    obs, reward, terminated, truncated, _ = results
    return _flat(obs), reward, terminated, truncated


def _flat(obs: np.ndarray) -> np.ndarray:
    """Observations as [n, D] float32."""
    return obs.reshape(len(obs), -1).astype(np.float32)
