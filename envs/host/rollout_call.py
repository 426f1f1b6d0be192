"""Request to a worker to act by itself for many steps: policy, random numbers, environments."""

from typing import Any, NamedTuple

import numpy as np

from envs.host.policy import TanhPolicy


class RolloutCall(NamedTuple):
    """What a shard of b environments needs to act by itself for some steps.

    Attributes:
        policy: of the S seeds to which its environments belong.
        noise: [T, S, B, A] of the policy; None for its mode.
        num_envs: B, environments of a seed.
        first_row: of its environments among the S x B of these seeds.
        live: [b] the environments that are stepped, each to the end of its episode; None to step
            all, and to start the next episode at an end.
        steps: T.
    """

    policy: TanhPolicy
    noise: np.ndarray | None
    num_envs: int
    first_row: int
    live: np.ndarray | None
    steps: int


def rollout_call(
    policy: TanhPolicy, noise: np.ndarray | None, num_envs: int, rows: slice, *rest: Any
) -> RolloutCall:
    """Call of the shard of the environments `rows`, with the part of policy and noise it needs."""
    seeds = slice(rows.start // num_envs, -(-rows.stop // num_envs))
    own = policy.of_seeds(seeds), None if noise is None else noise[:, seeds]
    return RolloutCall(*own, num_envs, rows.start - seeds.start * num_envs, *rest)
