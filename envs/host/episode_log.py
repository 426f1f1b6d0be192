"""Where every environment of a pool is in its stream of seeded episodes."""

from typing import NamedTuple

import numpy as np


class EpisodeLog(NamedTuple):
    """With the seed of the pool, its streams and the actions so far, all that is to be known."""

    episode: np.ndarray  # [B] int32
    length: np.ndarray  # [B] int32, steps taken in the episode
    seeds: np.ndarray  # [B] uint32, of the episode
    next_seeds: np.ndarray  # [B] uint32, of the episode after it
    obs: np.ndarray | None  # [B, ...]


def make_log(
    seed: int,
    streams: np.ndarray,
    episode: np.ndarray,
    length: np.ndarray,
    obs: np.ndarray | None,
) -> EpisodeLog:
    """The log of environments `length` [B] steps into the `episode`-th [B] of their streams."""
    seeds = (_seeds(seed, streams, episode + ahead) for ahead in (0, 1))
    return EpisodeLog(episode, length, *seeds, obs)


def advance_log(
    log: EpisodeLog, seed: int, streams: np.ndarray, ended: np.ndarray, obs: np.ndarray
) -> EpisodeLog:
    """The log after a step that ended the episodes `ended` [B] bool."""
    next_seeds, episode = log.next_seeds.copy(), log.episode + ended
    next_seeds[ended] = _seeds(seed, streams[ended], episode[ended] + 1)
    seeds = np.where(ended, log.next_seeds, log.seeds)
    return EpisodeLog(episode, np.where(ended, 0, log.length + 1), seeds, next_seeds, obs)


def episode_seed(seed: int, stream: int, episode: int) -> int:
    """The 32-bit seed of an episode; environment i follows stream i if nothing is said."""
    return int(np.random.SeedSequence(seed, spawn_key=(stream, episode)).generate_state(1)[0])


def _seeds(seed: int, streams: np.ndarray, episode: np.ndarray) -> np.ndarray:
    pairs = zip(streams.tolist(), episode.tolist(), strict=True)
    return np.array([episode_seed(seed, *pair) for pair in pairs], np.uint32)
