"""Episode numbers, lengths and seeds of every environment of a pool."""

from typing import NamedTuple

import numpy as np


class EpisodeLog(NamedTuple):
    """Position of each of B environments in its stream of seeded episodes.

    With the seed of the pool, the streams and the actions of the current episodes, this determines
    the state of the pool.
    """

    episode: np.ndarray  # [B] int32, number of the current episode
    length: np.ndarray  # [B] int32, steps taken in it
    seeds: np.ndarray  # [B] uint32, seed of the current episode
    next_seeds: np.ndarray  # [B] uint32, seed of the next episode
    obs: np.ndarray | None  # [B, ...], current observations; None before the first reset


def first_log(seed: int, streams: np.ndarray) -> EpisodeLog:
    """Log of the first episodes of B environments, before their first reset."""
    return make_log(seed, streams, *np.zeros((2, len(streams)), np.int32), None)


def make_log(
    seed: int,
    streams: np.ndarray,
    episode: np.ndarray,
    length: np.ndarray,
    obs: np.ndarray | None,
) -> EpisodeLog:
    """Log of B environments, each `length` [B] steps into episode number `episode` [B]."""
    seeds = (_episode_seeds(seed, streams, episode + ahead) for ahead in (0, 1))
    return EpisodeLog(episode, length, *seeds, obs)


def advance_log(
    log: EpisodeLog, seed: int, streams: np.ndarray, ended: np.ndarray, obs: np.ndarray
) -> EpisodeLog:
    """Log after one step with observations `obs`; `ended` [B] bool starts the next episode."""
    next_seeds, episode = log.next_seeds.copy(), log.episode + ended
    next_seeds[ended] = _episode_seeds(seed, streams[ended], episode[ended] + 1)
    seeds = np.where(ended, log.next_seeds, log.seeds)
    return EpisodeLog(episode, np.where(ended, 0, log.length + 1), seeds, next_seeds, obs)


def episode_seed(seed: int, stream: int, episode: int) -> int:
    """32-bit seed of episode number `episode` of stream `stream` in a pool seeded with `seed`."""
    return int(np.random.SeedSequence(seed, spawn_key=(stream, episode)).generate_state(1)[0])


def _episode_seeds(seed: int, streams: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Episode seeds [B] uint32 of B streams."""
    pairs = zip(streams.tolist(), episode.tolist(), strict=True)
    return np.array([episode_seed(seed, *pair) for pair in pairs], np.uint32)
