"""Episode numbers, lengths and seeds of every environment of a pool."""

from typing import NamedTuple

import numpy as np


class EpisodeLog(NamedTuple):
    """Position of each of B environments in its stream of seeded episodes.

    With the actions of the current episodes, this determines the state of a pool.
    """

    seed: int  # of the pool
    streams: np.ndarray  # [B] int
    episode: np.ndarray  # [B] int32, number of the current episode
    length: np.ndarray  # [B] int32, steps taken in it
    obs: np.ndarray | None  # [B, ...], current observations; None before the first reset

    @property
    def seeds(self) -> np.ndarray:
        """Seeds [B] uint32 of the current episodes."""
        pairs = zip(self.streams.tolist(), self.episode.tolist(), strict=True)
        return np.array([episode_seed(self.seed, *pair) for pair in pairs], np.uint32)

    def after(self, ended: np.ndarray, obs: np.ndarray) -> "EpisodeLog":
        """Log after T steps at whose ends `ended` [T, B] the next episode started; obs [B, ...]."""
        since = np.argmax(np.concatenate([ended[::-1], np.ones_like(ended[:1])]), 0)  # the last end
        length = np.where(ended.any(0), since, self.length + len(ended)).astype(np.int32)
        episode = self.episode + ended.sum(0, dtype=np.int32)
        return self._replace(episode=episode, length=length, obs=obs)


def first_log(seed: int, streams: np.ndarray) -> EpisodeLog:
    """Log of the first episodes of B environments, before their first reset."""
    return EpisodeLog(seed, streams, *np.zeros((2, len(streams)), np.int32), None)


def episode_seed(seed: int, stream: int, episode: int) -> int:
    """32-bit seed of episode number `episode` of stream `stream` in a pool seeded with `seed`."""
    return int(np.random.SeedSequence(seed, spawn_key=(stream, episode)).generate_state(1)[0])
