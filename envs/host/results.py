"""Results of a pool: one step, or a rollout, of all its environments, joined from its shards."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from envs.host.episode_log import EpisodeLog


class HostStep(NamedTuple):
    """Result of one step of B environments, as numpy arrays."""

    obs: np.ndarray  # [B, ...] to act on; after an end, the first obs of the next episode
    next_obs: np.ndarray  # [B, ...] successor, before any reset
    reward: np.ndarray  # [B] float32
    terminated: np.ndarray  # [B] bool
    truncated: np.ndarray  # [B] bool
    info: dict[str, np.ndarray]  # [B] float32, one entry for each of `info_keys`


class HostRollout(NamedTuple):
    """T steps of B environments, as numpy arrays [T, B, ...]."""

    obs: np.ndarray  # acted on
    action: np.ndarray  # chosen by the policy: int32, or float32 that is not clipped
    next_obs: np.ndarray  # successors, before any reset
    reward: np.ndarray  # float32
    terminated: np.ndarray  # bool
    truncated: np.ndarray  # bool
    last_obs: np.ndarray  # [B, ...] to act on next


def joined_step(results: Sequence[tuple]) -> HostStep:
    """Step of a pool from those of its shards (`EnvShard.step`)."""
    *arrays, infos = zip(*results, strict=True)
    next_obs, obs, *rest = map(np.concatenate, arrays)
    info = {key: np.concatenate([part[key] for part in infos]) for key in infos[0]}
    return HostStep(obs, next_obs, *rest, info)


def joined_rollout(obs: np.ndarray, results: Sequence[Sequence[np.ndarray]]) -> HostRollout:
    """Rollout of a pool from those of its shards (`EnvShard.rollout`).

    Args:
        obs: [B, ...] that the first actions were chosen at.
        results: of the shards.
    """
    arrays = zip(*results, strict=True)
    action, next_obs, after, *rest = (np.concatenate(parts, 1) for parts in arrays)
    before = np.concatenate([obs[None], after[:-1]])
    return HostRollout(before, action, next_obs, *rest, after[-1].copy())


def log_after(
    log: EpisodeLog, rollout: HostRollout, live: np.ndarray | None
) -> tuple[EpisodeLog, np.ndarray]:
    """The log after a rollout, and how many of its steps were of the episodes that are current.

    Args:
        log: before the rollout.
        rollout: T steps.
        live: as in `envs.host.pool.HostPool.rollout`.
    """
    ended = rollout.terminated | rollout.truncated
    if live is None:
        log = log.after(ended, rollout.last_obs)
        return log, np.minimum(log.length, len(ended))
    taken = running(live, ended).sum(0, dtype=np.int32)
    return log._replace(length=log.length + taken, obs=rollout.last_obs), taken


def running(live: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Whether each of the steps at whose ends `ended` [T, ...] was within the first episode.

    Args:
        live: [...] whether that episode has not ended yet.
        ended: whether an episode ended with a step.
    """
    before = np.concatenate([np.zeros_like(ended[:1]), ended[:-1]])
    return live & ~np.logical_or.accumulate(before, 0)
